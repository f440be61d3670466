"""Clients that write over metadata by themselves: put right, or taken over, by the policy of the track."""

import asyncio
import time
from dataclasses import replace
from typing import Final

import structlog

from track.v1.metadata_pb2 import MetadataChangeReason, OverwritePolicy
from track_server.errors import LimitExceeded, TrackError
from track_server.etags import new_etag
from track_server.lifetime import Closing, Tasks
from track_server.metadata.attributes import written
from track_server.metadata.content import parsed, text_of
from track_server.metadata.contest import Contests
from track_server.metadata.publisher import Publisher
from track_server.metadata.record import Desired
from track_server.metadata.records import Records
from track_server.metadata.rules import Rules
from track_server.metadata.showing import Showing
from track_server.metadata.view import View
from track_server.rooms.causes import rule_cause
from track_server.rooms.room import LiveRoom
from track_server.store.records import RevisionConflict, StoreError

log = structlog.get_logger(__name__)

_ACCEPT: Final = OverwritePolicy.OVERWRITE_POLICY_ACCEPT
_RULE: Final = "overwrite_policy"
_ACCEPTED: Final = MetadataChangeReason.METADATA_CHANGE_REASON_OVERWRITE_ACCEPTED
_RESTORED: Final = MetadataChangeReason.METADATA_CHANGE_REASON_OVERWRITE_RESTORED
_LEFT: Final = MetadataChangeReason.METADATA_CHANGE_REASON_OVERWRITE_LEFT
# Nobody writes there for so long while it is looked at, at the most.
_LOOK_S: Final = 60.0


class Overwrites(Closing):
    """Decides about them, `async with`. ``happened`` is told by the publisher."""

    def __init__(self, records: Records, rules: Rules, view: View, showing: Showing, publisher: Publisher) -> None:
        self._records = records
        self._rules = rules
        self._view = view
        self._showing = showing
        self._publisher = publisher
        self._contests = Contests()
        self._tasks = Tasks()
        self._closed = False

    async def aclose(self) -> None:
        """Ends what is being decided. May be called twice."""
        self._closed = True
        await self._tasks.aclose()

    def happened(self, live: LiveRoom, identity: str, track_sid: str, shown: str) -> None:
        """A client wrote over an attribute: ``shown`` stands there, or nothing. It is told once."""
        track = live.model.tracks.get(track_sid)
        known = self._records.of_track(track) if track is not None else None
        if known is None or self._closed:
            return
        log.info("track_metadata_overwritten", room=live.name, identity=identity, track_sid=track_sid)
        if known.policy == _ACCEPT:
            self._publisher.hold(live.name, identity, track_sid, asyncio.get_running_loop().time() + _LOOK_S)
            self._tasks.spawn(self._decide(live, identity, track_sid, known), name=f"metadata of {known.key}")
        else:
            self._restore(known, track_sid, shown)

    def forget(self, known: Desired) -> None:
        """It has ended."""
        self._contests.forget((known.room, known.key))

    def _restore(self, known: Desired, track_sid: str, shown: str) -> None:
        """Puts it right, but for a client that does not stop."""
        now = asyncio.get_running_loop().time()
        pause_s = self._contests.overwritten((known.room, known.key), now)
        self._publisher.hold(known.room, known.likeness.participant_identity, track_sid, now + pause_s)
        self._showing.announce(known, _LEFT if pause_s else _RESTORED, rule_cause(_RULE), shown)

    async def _decide(self, live: LiveRoom, identity: str, track_sid: str, known: Desired) -> None:
        """Takes over what the client wrote, or puts it right."""
        try:
            if not await self._admitted(live, identity):
                return
            async with self._records.turn(known.room, known.key):
                track, participant = live.model.tracks.get(track_sid), live.model.participants.get(identity)
                current = self._records.of_track(track) if track is not None else None
                if current is not None and participant is not None:
                    # What it is by now: a client may have written more since.
                    await self._accept(live, current, track_sid, written(participant.attributes, track_sid))
        finally:
            if not self._closed:
                self._publisher.hold(live.name, identity, track_sid, 0.0)

    async def _admitted(self, live: LiveRoom, identity: str) -> bool:
        """Waits until there is room for one more change; says whether the participant is there still."""
        while True:
            participant = live.model.participants.get(identity)
            if participant is None:
                return False
            try:
                wanted = self._view.wanted(live, identity)
                self._rules.admit_change(live.name, identity, participant.attributes, wanted)
            except LimitExceeded as error:
                await asyncio.sleep(error.retry_delay_s or 1.0)
            else:
                return True

    async def _accept(self, live: LiveRoom, known: Desired, track_sid: str, shown: str) -> None:
        if known.metadata is not None and shown == text_of(known.metadata):
            return
        metadata = parsed(shown) if shown else None
        track = live.model.tracks.get(track_sid)
        try:
            if track is None or (shown and metadata is None):
                raise ValueError("it is no JSON object")
            if metadata is not None:
                await self._rules.check(track, metadata, "metadata")
            accepted = replace(known, metadata=metadata, etag=new_etag(), update_ns=time.time_ns())
            if metadata is None and not known.publication_id:
                await self._records.remove(accepted)
            else:
                accepted = await self._records.put(accepted)
        except (TrackError, StoreError, RevisionConflict, ValueError) as error:
            log.info("track_metadata_not_accepted", room=live.name, track_sid=track_sid, reason=str(error))
            self._restore(known, track_sid, shown)
            return
        self._showing.announce(accepted, _ACCEPTED, rule_cause(_RULE), shown)
        self._showing.changed(accepted)
