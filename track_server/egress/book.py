"""The book of recordings: the one owner of their state, in memory and in the store."""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from track.v1.egress_pb2 import EgressOutput, TrackEgress
from track.v1.event_pb2 import EventCause
from track_server.durations import seconds_of
from track_server.egress.course import ended, needs_secrets
from track_server.egress.outputs import shown
from track_server.pulse import Pulse
from track_server.store.copies import Copies, Copy
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

KEPT_S: Final = 7 * 24 * 3600.0
"""A recording that has ended is kept for so long, in seconds."""

_KIND: Final = "egress"
# Kept of those that have ended, the newest of each room.
_ENDED_PER_ROOM: Final = 1000

Announce = Callable[[TrackEgress | None, TrackEgress, EventCause | None], None]
"""Told of every change: what was before (None: nothing), what is now, and who caused it."""


class Shelf:
    """Recordings by id and by room, and those that have not ended: found without a look at a week of others."""

    def __init__(self) -> None:
        self._all: dict[str, TrackEgress] = {}
        """In the order in which they came."""
        self._rooms: dict[str, dict[str, TrackEgress]] = {}
        self._active: dict[str, TrackEgress] = {}

    def put(self, egress: TrackEgress) -> None:
        """In the place of the one of that id."""
        self._all[egress.egress_id] = egress
        self._rooms.setdefault(egress.room, {})[egress.egress_id] = egress
        if ended(egress):
            self._active.pop(egress.egress_id, None)
        else:
            self._active[egress.egress_id] = egress

    def pop(self, egress_id: str) -> TrackEgress | None:
        """Takes it out."""
        egress = self._all.pop(egress_id, None)
        if egress is not None:
            self._active.pop(egress_id, None)
            room = self._rooms[egress.room]
            del room[egress_id]
            if not room:
                del self._rooms[egress.room]
        return egress

    def get(self, egress_id: str) -> TrackEgress | None:
        """The one of that id."""
        return self._all.get(egress_id)

    def of_room(self, room: str) -> list[TrackEgress]:
        """The room's, oldest first."""
        return list(self._rooms.get(room, {}).values())

    def active(self) -> list[TrackEgress]:
        """All that have not ended."""
        return list(self._active.values())

    def all(self) -> Iterable[TrackEgress]:
        """All, oldest first."""
        return self._all.values()


class EgressBook:
    """All recordings of this server by id. Messages in it are never changed in place, and have no secrets in them.

    Outputs with secrets are kept apart from them, and in the store as long as they are needed.
    """

    def __init__(self, store: Store, announce: Announce) -> None:
        self._store = store
        self._announce = announce
        self._recordings = Shelf()
        self._outputs: dict[str, EgressOutput] = {}
        """Whole, of those that may be started again."""
        self._records = Copies(store, _KIND, self._copy)
        self._changed = Pulse()

    async def load(self) -> None:
        """Reads what an earlier run left."""
        found = [TrackEgress.FromString(record.body) for record in await self._store.list(_KIND)]
        for egress in sorted(found, key=lambda egress: egress.create_time.ToNanoseconds()):
            self._take(egress)

    def find(self, room: str, egress_id: str) -> TrackEgress | None:
        """The recording, if it is one of the room and not forgotten."""
        found = self._recordings.get(egress_id)
        return None if found is None or found.room != room or _forgotten(found) else found

    def of_room(self, room: str) -> list[TrackEgress]:
        """The room's, oldest first."""
        return [found for found in self._recordings.of_room(room) if not _forgotten(found)]

    def active(self) -> Iterable[TrackEgress]:
        """All that have not ended."""
        return self._recordings.active()

    def get(self, egress_id: str) -> TrackEgress | None:
        """The recording of that id, of whichever room."""
        return self._recordings.get(egress_id)

    def whole_output(self, egress_id: str) -> EgressOutput | None:
        """Its output with secrets; None where they are needed no more."""
        return self._outputs.get(egress_id)

    def known(self, livekit_egress_id: str) -> bool:
        """Whether a recording has that one of LiveKit's as a part."""
        return any(
            part.livekit_egress_id == livekit_egress_id for found in self._recordings.all() for part in found.parts
        )

    async def save(self, egress: TrackEgress, cause: EventCause | None = None) -> TrackEgress:
        """Takes a new state at once, and returns it as it is shown, when it is stored.

        Raises StoreError; it is taken all the same. ``egress`` may have a whole output: then that is kept.
        """
        before = self._recordings.get(egress.egress_id)
        after = self._take(egress)
        if before != after:
            self._tell(before, after, cause)
        elif not self._records.behind(egress.egress_id):
            return after
        if before is None:
            self._purge(after.room)
        await self._records.write(after.room, after.egress_id)
        return after

    async def take(self, egress: TrackEgress, cause: EventCause | None = None) -> None:
        """`save` of what has happened, whether it can be stored or not: the record follows when the store works."""
        try:
            await self.save(egress, cause)
        except StoreError as error:
            log.warning("egress_not_stored", egress_id=egress.egress_id, reason=str(error))

    async def forget(self, egress: TrackEgress, cause: EventCause | None) -> None:
        """Takes it out; who saw it come is told how it ended. Raises StoreError; it is taken out all the same."""
        before = self._recordings.pop(egress.egress_id)
        self._outputs.pop(egress.egress_id, None)
        after = TrackEgress()
        after.CopyFrom(egress)
        after.output.CopyFrom(shown(egress.output))
        self._tell(before, after, cause)
        await self._records.write(egress.room, egress.egress_id)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s``; looks after each change. Says whether it holds."""
        return await self._changed.until(condition, timeout_s)

    def _tell(self, before: TrackEgress | None, after: TrackEgress, cause: EventCause | None) -> None:
        self._announce(before, after, cause)
        self._changed.beat()

    def _take(self, egress: TrackEgress) -> TrackEgress:
        after = TrackEgress()
        after.CopyFrom(egress)
        public = shown(egress.output)
        if public != egress.output:
            self._outputs[egress.egress_id] = after.output
            after = TrackEgress()
            after.CopyFrom(egress)
            after.output.CopyFrom(public)
        if not needs_secrets(after):
            self._outputs.pop(after.egress_id, None)
        self._recordings.put(after)
        return after

    def _purge(self, room: str) -> None:
        oldest = itertools.takewhile(lambda found: not ended(found) or _forgotten(found), self._recordings.all())
        old = [found for found in oldest if ended(found)]
        old += [found for found in self.of_room(room) if ended(found)][:-_ENDED_PER_ROOM]
        for found in old:
            self._recordings.pop(found.egress_id)
            self._records.lag(found.room, found.egress_id)

    def _copy(self, egress_id: str) -> Copy | None:
        egress = self._recordings.get(egress_id)
        if egress is None:
            return None
        body = TrackEgress()
        body.CopyFrom(egress)
        if (output := self._outputs.get(egress_id)) is not None:
            body.output.CopyFrom(output)
        return Copy(body.SerializeToString(), seconds_of(egress.end_time) + KEPT_S if ended(egress) else None)


def _forgotten(egress: TrackEgress) -> bool:
    return ended(egress) and seconds_of(egress.end_time) + KEPT_S < time.time()
