"""Mutes that end by themselves: kept in the store, and undone at their time where nobody has touched them since."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.audit_pb2 import AuditTarget
from track.v1.moderation_pb2 import ModerationBlock, UnmuteRequest
from track.v1.publication_pb2 import STAGE_REQUESTED, Publication
from track.v1.track_pb2 import Track
from track_server.alarms import Alarms
from track_server.audit.recorder import Recorder
from track_server.control.companion import consent_of
from track_server.deadline import Deadline
from track_server.durations import seconds_of
from track_server.errors import Draining, LiveKitUnavailable, RoomNotFound, TrackBlocked, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.moderation.blocks import Blocks
from track_server.moderation.enforcement import EXPIRY
from track_server.moderation.rows import muted, row_of
from track_server.moderation.subjects import Subject
from track_server.moderation.unmuting import Unmuting, require_publishable
from track_server.rooms.causes import rule_cause
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "timed_mute"
# How long the participant's user may take to answer, where it has to be asked.
_UNMUTED_S: Final = 90.0
# LiveKit's effect shows within milliseconds.
_SEEN_S: Final = 5.0
_RETRY_FIRST_S: Final = 0.5
_RETRY_LAST_S: Final = 10.0
_GIVEN_UP_S: Final = 300.0


class TimedMutes(Closing):
    """Owner of the mutes with an end, `async with`. A Stake of ``lives``.

    One is kept in the form of a block, with the SID of its track in `track_sids`.
    """

    def __init__(
        self, rooms: Rooms, store: Store, unmuting: Unmuting, blocks: Blocks, lives: Lives, recorder: Recorder
    ) -> None:
        self._rooms = rooms
        self._store = store
        self._unmuting = unmuting
        self._blocks = blocks
        self._lives = lives
        self._recorder = recorder
        self._mutes: dict[str, dict[str, ModerationBlock]] = {}
        """By room and id."""
        self._pending: set[str] = set()
        """Ids of those whose tracks a call is about to mute."""
        self._alarms = Alarms(self._expire)
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go; the mutes stay. May be called twice."""
        await self._alarms.aclose()
        await self._tasks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left."""
        for record in await self._store.list(_KIND):
            self._take(ModerationBlock.FromString(record.body))

    def restore(self) -> None:
        """Begins the time of what an earlier run left."""
        for mutes in list(self._mutes.values()):
            for mute in list(mutes.values()):
                self._alarms.set(_key(mute), seconds_of(mute.expire_time))

    def of_track(self, track: Track) -> ModerationBlock | None:
        """The mute of that track that is to end."""
        mutes = self._mutes.get(track.room, {}).values()
        return next((mute for mute in mutes if track.sid in mute.track_sids), None)

    @contextlib.asynccontextmanager
    async def muting(
        self, live: LiveRoom, track: Track, expire_time: float, reason: str, stalling: Publication | None
    ) -> AsyncIterator[None]:
        """The track is muted until then by what is done in the block, unless it is not muted after it.

        ``stalling``: its publication, where that stalls. One that was muted before by anybody but a mute that is kept
        here is not this service's to unmute. Raises StoreError.
        """
        known = self.of_track(track)
        if known is None and (track.muted if stalling is None else stalling.muted):
            yield
            return
        mute = ModerationBlock(room=live.name, reason=reason, track_sids=[track.sid])
        mute.block_id = f"MUT_{secrets.token_hex(10)}"
        Subject.of_track(track).fill(mute)
        mute.expire_time.FromMicroseconds(round(expire_time * 1e6))
        self._pending.add(mute.block_id)
        try:
            await self._lives.want(live)
            await self._write(mute)
            self._take(mute)
            if known is not None:
                await self._remove(known)
            self._lives.held(live)
            yield
        finally:
            self._pending.discard(mute.block_id)
            # What stalls is muted all the same, though the room may be told of it a moment later.
            if stalling is None and _unmuted(live, track):
                self._touched(mute)
            else:
                self._alarms.set(_key(mute), expire_time)

    async def forget(self, track: Track) -> None:
        """The track's mute is for good, or undone. Raises StoreError."""
        mute = self.of_track(track)
        if mute is not None:
            await self._remove(mute)

    # What happens by itself.

    def rooms(self) -> Sequence[str]:
        """See Stake."""
        return list(self._mutes)

    def concerns(self, room: str) -> bool:
        """See Stake."""
        return room in self._mutes

    def look(self, live: LiveRoom) -> None:
        """See Stake."""
        for mute in list(self._mutes.get(live.name, {}).values()):
            track = live.model.tracks.get(mute.track_sids[0])
            if track is not None and not track.muted:
                self._touched(mute)
        for track in list(live.model.tracks.values()):
            self._came(live, track)

    def happened(self, live: LiveRoom, event: event_pb2.RoomEvent) -> None:
        """See Stake."""
        match event.WhichOneof("change"):
            case "track_unmuted":
                mute = self.of_track(event.track_unmuted)
                if mute is not None:
                    self._touched(mute)
            case "track_published":
                self._came(live, event.track_published)
            case _:
                pass

    def ended(self, room: str) -> None:
        """See Stake."""
        for mute in self._mutes.pop(room, {}).values():
            self._alarms.set(_key(mute), None)
            self._spawn(self._delete(mute), f"forget {mute.block_id}")

    def _came(self, live: LiveRoom, track: Track) -> None:
        """A track that is published again, still muted, is the one that was muted."""
        subject = Subject.of_track(track)
        for mute in list(self._mutes.get(live.name, {}).values()):
            if Subject.of_block(mute) != subject or mute.track_sids[0] in live.model.tracks:
                continue
            if not track.muted:
                self._touched(mute)
                continue
            moved = ModerationBlock()
            moved.CopyFrom(mute)
            moved.track_sids[:] = [track.sid]
            self._take(moved)
            self._spawn(self._keep(moved), f"keep {moved.block_id}")
            return

    def _touched(self, mute: ModerationBlock) -> None:
        """Somebody else has unmuted the track: what it is from now on is not this service's."""
        if mute.block_id in self._pending:
            return
        self._drop(mute)
        self._spawn(self._delete(mute), f"forget {mute.block_id}")

    async def _expire(self, key: str) -> None:
        """The time of a mute has come. ``key``: room and id, with a newline between."""
        room, _, mute_id = key.rpartition("\n")
        pause, deadline = _RETRY_FIRST_S, Deadline.after(_GIVEN_UP_S)
        while True:
            mute = self._mutes.get(room, {}).get(mute_id)
            if mute is None or seconds_of(mute.expire_time) > time.time():
                return
            try:
                await self._undo(mute)
                break
            except RoomNotFound:
                break
            except LiveKitUnavailable as error:
                log.warning("mute_not_undone", room=room, mute_id=mute_id, reason=error.message)
                if not deadline.remaining_s():
                    await self._failed(mute, error)
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY_LAST_S)
            except TrackError as error:
                await self._failed(mute, error)
                break
        self._drop(mute)
        await self._delete(mute)

    async def _undo(self, mute: ModerationBlock) -> None:
        """Unmutes the track, if it is there and still muted. Raises TrackError."""
        async with self._rooms.watch(mute.room) as live:
            # It may have been published anew while the room was not watched.
            self._lives.watched(live)
            now = self._mutes.get(mute.room, {}).get(mute.block_id)
            track = live.model.tracks.get(now.track_sids[0]) if now is not None else None
            if track is None or not track.muted:
                return
            if self._blocks.holding(track) is not None:
                raise TrackBlocked("a moderation block holds the track muted")
            require_publishable(live, track)
            self._rooms.attribute(live.name, "track_unmuted", track.sid, rule_cause(EXPIRY, mute.reason))
            await self._unmuting.unmute(live, track, Deadline.after(_UNMUTED_S))
            seen = await live.until(lambda: _unmuted(live, track), _SEEN_S)
            target = muted(track.participant_identity, track.sid)
            if not seen:
                target.stage = STAGE_REQUESTED
            await self._recorder.write(row_of(EXPIRY, mute.room, target, {"reason": mute.reason}))

    async def _failed(self, mute: ModerationBlock, error: TrackError) -> None:
        """It could not be undone: told in the room, and recorded."""
        sid = mute.track_sids[0]
        told = UnmuteRequest(
            participant_identity=mute.participant_identity,
            track_sid=sid,
            consent=consent_of(error),
            reason=mute.reason,
            muted=True,
        )
        event = event_pb2.RoomEvent(unmute_requested=told, cause=rule_cause(EXPIRY, mute.reason))
        self._rooms.announce(mute.room, event)
        target = AuditTarget(participant_identity=mute.participant_identity, track_sid=sid)
        await self._recorder.write(row_of(EXPIRY, mute.room, target, {"reason": mute.reason}, error))

    async def _remove(self, mute: ModerationBlock) -> None:
        self._drop(mute)
        await self._store.delete(_KIND, mute.room, mute.block_id)

    async def _keep(self, mute: ModerationBlock) -> None:
        try:
            await self._write(mute)
        except StoreError as error:
            log.warning("mute_not_stored", room=mute.room, mute_id=mute.block_id, reason=str(error))

    async def _delete(self, mute: ModerationBlock) -> None:
        try:
            await self._store.delete(_KIND, mute.room, mute.block_id)
        except StoreError as error:
            log.warning("mute_not_deleted", room=mute.room, mute_id=mute.block_id, reason=str(error))

    async def _write(self, mute: ModerationBlock) -> None:
        await self._store.put(_KIND, mute.room, mute.block_id, mute.SerializeToString())

    def _take(self, mute: ModerationBlock) -> None:
        self._mutes.setdefault(mute.room, {})[mute.block_id] = mute

    def _drop(self, mute: ModerationBlock) -> None:
        mutes = self._mutes.get(mute.room, {})
        if mutes.pop(mute.block_id, None) is None:
            return
        if not mutes:
            del self._mutes[mute.room]
        if seconds_of(mute.expire_time) > time.time():
            # Else it is the alarm that does this.
            self._alarms.set(_key(mute), None)
        self._lives.settle(mute.room)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        with contextlib.suppress(Draining):
            self._tasks.spawn(work, name=name)


def _unmuted(live: LiveRoom, track: Track) -> bool:
    current = live.model.tracks.get(track.sid)
    return current is None or not current.muted


def _key(mute: ModerationBlock) -> str:
    return f"{mute.room}\n{mute.block_id}"
