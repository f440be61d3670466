"""Follows the rooms that have metadata of tracks: carries it over to new SIDs, ends it, and keeps the rooms watched."""

import asyncio
import time
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.metadata_pb2 import MetadataChangeReason
from track.v1.publication_pb2 import Publication, PublicationState
from track.v1.track_pb2 import Participant, Track
from track_server.errors import TrackError
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.metadata.overwrites import Overwrites
from track_server.metadata.publisher import Publisher
from track_server.metadata.record import Desired
from track_server.metadata.records import Records
from track_server.metadata.showing import Showing
from track_server.rooms.likeness import Followed
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing

log = structlog.get_logger(__name__)

_OWNER: Final = "metadata"
"""Under which rooms are wanted."""
# A room that is not watched is asked for so often before its metadata is given up.
_ASK_S: Final = 2.0

_PUBLICATION_ENDED: Final = PublicationState.PUBLICATION_STATE_ENDED
_SET: Final = MetadataChangeReason.METADATA_CHANGE_REASON_SET
_DELETED: Final = MetadataChangeReason.METADATA_CHANGE_REASON_DELETED
_CARRIED_OVER: Final = MetadataChangeReason.METADATA_CHANGE_REASON_CARRIED_OVER
_TRACK_ENDED: Final = MetadataChangeReason.METADATA_CHANGE_REASON_TRACK_ENDED


class Keeper(Closing):
    """Owner of what becomes of metadata, `async with`. ``happened`` is a listener of ``rooms``.

    ``return_s``: how long the metadata of others' tracks is kept once they are gone.
    """

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        standing: Standing,
        records: Records,
        showing: Showing,
        publisher: Publisher,
        overwrites: Overwrites,
        *,
        return_s: float,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._standing = standing
        self._records = records
        self._showing = showing
        self._publisher = publisher
        self._overwrites = overwrites
        self._return_s = return_s
        self._followed: dict[str, Followed] = {}
        self._tasks = Tasks()
        self._closed = False

    async def aclose(self) -> None:
        """Lets go of all rooms. May be called twice."""
        self._closed = True
        await self._tasks.aclose()

    def restore(self) -> None:
        """Begins what an earlier run left. The time of what is away begins anew; the rest may be in its room still."""
        for room in self._records.rooms():
            for known in self._records.of_room(room):
                if not known.publication_id:
                    self._away(known, None if known.away_since is None else time.time(), known.passed)
            self._want(room)

    # What callers ask for.

    async def put(self, desired: Desired, cause: event_pb2.EventCause) -> Desired:
        """Stores what a caller desires, in turn, and has it told and published, whether the caller stays or not.

        Raises StoreError: then nothing has changed.
        """
        return await asyncio.shield(self._tasks.begin(self._put(desired, cause), name=f"metadata of {desired.key}"))

    async def _put(self, desired: Desired, cause: event_pb2.EventCause) -> Desired:
        # The publisher looks once this waits, and finds it taken: LiveKit need not wait for the disk.
        self._showing.publish(desired)
        try:
            stored = await self._records.put(desired)
        finally:
            self._showing.publish(desired)
        self._showing.announce(stored, _SET, cause)
        self._showing.changed(stored, cause)
        self._want(stored.room)
        return stored

    async def remove(self, known: Desired, gone: Desired, cause: event_pb2.EventCause, *, remembered: bool) -> None:
        """Removes what a caller no longer desires, as `put`. ``remembered``: that it was removed."""
        work = self._remove(known, gone, cause, remembered=remembered)
        await asyncio.shield(self._tasks.begin(work, name=f"metadata of {known.key}"))

    async def _remove(self, known: Desired, gone: Desired, cause: event_pb2.EventCause, *, remembered: bool) -> None:
        if remembered:
            await self._records.put(gone)
        else:
            await self._records.remove(gone)
        self._showing.announce(known, _DELETED, cause)
        self._showing.changed(gone, cause)

    def settle(self, room: str) -> None:
        """Lets go of a room in which there is none any more."""
        if not self._records.concerns(room):
            self._standing.release(_OWNER, room)

    # What becomes of publications.

    def publication_changed(self, before: Publication | None, after: Publication) -> None:
        """A publication moved, or its spec changed."""
        if self._closed:
            return
        self._records.notice(after)
        was = self._records.of_publication(before) if before is not None else None
        if after.state == _PUBLICATION_ENDED:
            self._publication_ended(after, was)
            return
        known = self._records.of_publication(after)
        if known is None or not known.exists:
            if known is None and was is not None and was.exists:
                self._showing.announce(was, _DELETED)
                self._showing.changed(was)
                self.settle(after.room)
            return
        self._want(after.room)
        if was is None or was.etag != known.etag:
            self._showing.announce(known, _SET)
            self._showing.changed(known)
        elif before is not None and after.track_sid and after.track_sid != before.track_sid and before.lineage:
            self._showing.announce(known, _CARRIED_OVER, track_sid=after.track_sid)

    def respecified(self, publication: Publication) -> None:
        """What its spec says of metadata counts again, whatever was set since."""
        known = self._records.find(publication.room, publication.publication_id)
        if known is None:
            return
        self._records.drop(known)
        self._keep(known)
        current = self._records.of_publication(publication)
        if current is None:
            if known.exists:
                self._showing.announce(known, _DELETED)
            self._showing.changed(known)
            self.settle(known.room)
            return
        if known.origin == current.origin and known.metadata != current.metadata:
            self._showing.announce(current, _SET)
        self._showing.changed(current)

    def _publication_ended(self, publication: Publication, was: Desired | None) -> None:
        known = self._records.find(publication.room, publication.publication_id)
        if known is not None:
            self._records.drop(known)
            self._keep(known)
        if was is not None and was.exists:
            self._overwrites.forget(was)
            self._showing.announce(was, _TRACK_ENDED)
            self._showing.publish(was)
        self.settle(publication.room)

    # What happens in rooms.

    def watched(self, live: LiveRoom) -> None:
        """A room is watched. A listener of ``standing``."""
        followed = self._followed.get(live.name)
        known = followed is not None and followed.live is live
        if known or self._closed or not self._records.concerns(live.name):
            return
        self._followed[live.name] = Followed(live)
        self._tasks.spawn(self._follow(live), name=f"metadata in {live.name}")

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """Something changed in a room."""
        if self._closed or not (self._records.concerns(room) or room in self._followed):
            return
        live = self._rooms.find(room)
        if live is None:
            return
        match event.WhichOneof("change"):
            case "participant_joined":
                self._look(live, event.participant_joined)
            case "participant_updated":
                self._look(live, event.participant_updated)
            case "track_published":
                self._came(live, event.track_published)
            case "track_updated":
                self._came(live, event.track_updated)
            case "track_unpublished":
                self._went(live, event.track_unpublished)
            case _:
                pass

    def _want(self, room: str) -> None:
        """There is metadata in the room: it is watched from now on."""
        self._standing.want(_OWNER, room)
        live = self._rooms.find(room)
        if live is not None:
            self.watched(live)

    async def _follow(self, live: LiveRoom) -> None:
        """The whole room, once, and its end."""
        for known in self._records.of_room(live.name):
            if not known.publication_id and known.away_since is None and known.track_sid not in live.model.tracks:
                self._keep(self._away(known, time.time()))
        for track in list(live.model.tracks.values()):
            self._came(live, track)
        for participant in list(live.model.participants.values()):
            self._look(live, participant)
        await live.wait_closed()
        followed = self._followed.get(live.name)
        if followed is not None and followed.live is live:
            del self._followed[live.name]
        for known in self._records.of_room(live.name):
            if not known.publication_id:
                self._end(known)
        self._publisher.forget(live.name)
        self.settle(live.name)

    def _look(self, live: LiveRoom, participant: Participant) -> None:
        self._publisher.look(live, live.model.participants.get(participant.identity, participant))

    def _came(self, live: LiveRoom, track: Track) -> None:
        """A track is in the room, or has become another one."""
        followed = self._followed.get(live.name)
        if followed is not None:
            followed.came(track)
        back = self._records.returned(track) if self._records.find_sid(live.name, track.sid) is None else None
        if back is not None:
            before = back.track_sid
            known = self._records.move(back, track_sid=track.sid, away_since=None)
            self._keep(known)
            if before != track.sid:
                log.info("track_metadata_carried_over", room=live.name, track_sid=track.sid, before=before)
                self._showing.announce(known, _CARRIED_OVER)
            # Another one that is like it may have been taken for it.
            live.describe([other.sid for other in live.model.tracks_of(track.participant_identity)])
        known_now = self._records.of_track(track)
        if known_now is not None:
            self._showing.publish(known_now)

    def _went(self, live: LiveRoom, track: Track) -> None:
        """A track left the room."""
        known = self._records.find_sid(live.name, track.sid)
        followed = self._followed.get(live.name)
        beside = followed.went(track) if followed is not None else frozenset()
        if known is not None:
            self._keep(self._away(known, time.time(), beside))
        self._publisher.kick(live.name, track.participant_identity)

    def _away(self, known: Desired, since: float | None, beside: frozenset[str] = frozenset()) -> Desired:
        moved = self._records.move(known, track_sid=known.track_sid, away_since=since, passed=beside)
        self._tasks.spawn(self._expire(known.room, known.key, since), name=f"metadata of {known.key}")
        return moved

    async def _expire(self, room: str, key: str, since: float | None) -> None:
        """Ends it where its track does not come back; ``since`` None: where its room is not seen again."""
        await asyncio.sleep(self._return_s)
        while True:
            known = self._records.find(room, key)
            if known is None or known.away_since != since or (since is None and room in self._followed):
                return
            if (since is not None and self._rooms.find(room) is not None) or not await self._may_exist(room):
                self._end(known)
                self.settle(room)
                return
            # It is about to be watched, or LiveKit does not answer.
            await asyncio.sleep(_ASK_S)

    async def _may_exist(self, room: str) -> bool:
        try:
            return room in await self._api.find_rooms([room])
        except TrackError:
            return True

    def _end(self, known: Desired) -> None:
        self._overwrites.forget(known)
        self._records.drop(known)
        self._keep(known)
        if known.exists:
            self._showing.announce(known, _TRACK_ENDED)

    def _keep(self, known: Desired) -> None:
        """Makes what was moved or dropped last."""
        self._tasks.spawn(self._records.keep(known.room, known.key), name=f"metadata of {known.key}")
