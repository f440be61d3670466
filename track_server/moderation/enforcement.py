"""Holds the moderation blocks: what they hold is muted whenever it is not, told and recorded."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.moderation_pb2 import ModerationBlock, ModerationBlockChanged, ModerationBlockState
from track.v1.track_pb2 import Track
from track_server.alarms import Alarms
from track_server.audit.recorder import Recorder
from track_server.durations import seconds_of
from track_server.errors import Draining, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.moderation.blocks import Blocks
from track_server.moderation.pace import Pace, Telling
from track_server.moderation.rows import muted, row_of
from track_server.rooms.causes import rule_cause
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

RULE: Final = "moderation_block"
"""Name of what mutes again, in causes and in the record."""
EXPIRY: Final = "expire_time"
"""Name of what ends a block or a mute, in causes and in the record."""

# LiveKit tells of a mute within milliseconds; one that is not seen by then is asked for again.
_SEEN_S: Final = 2.0
# A client that fights has come to rest when it has not unmuted itself for so long.
_REST_S: Final = 1.0
_RETRY_FIRST_S: Final = 0.1
_RETRY_LAST_S: Final = 5.0
# A block that ended while this server was down is told of in its room, if that is there again by then.
_RETURN_S: Final = 10.0
_LOOK_S: Final = 0.1

_State = ModerationBlockState


class Enforcement(Closing):
    """Owner of what blocks do by themselves, `async with`. A Stake of ``lives``.

    ``counted``: told of each enforcement.
    """

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        blocks: Blocks,
        lives: Lives,
        recorder: Recorder,
        counted: Callable[[], None],
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._blocks = blocks
        self._lives = lives
        self._recorder = recorder
        self._counted = counted
        self._pace = Pace()
        self._tellings: dict[str, Telling] = {}
        """By block id, of those that were enforced."""
        self._held: set[tuple[str, str]] = set()
        """Room and SID of tracks that are being muted again."""
        self._settling: dict[tuple[str, str], float] = {}
        """Room and SID of tracks that were muted again, and when, in seconds of the monotonic clock."""
        self._in_hand: Counter[str] = Counter()
        """SIDs of tracks that a call is about to mute."""
        self._alarms = Alarms(self._expire)
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of all rooms; the blocks stay. May be called twice."""
        await self._alarms.aclose()
        await self._tasks.aclose()

    def restore(self) -> None:
        """Begins the time of the blocks that an earlier run left."""
        for room in self._blocks.rooms():
            for block in self._blocks.kept(room):
                self._time(block)

    # What callers do.

    def begun(self, live: LiveRoom, block: ModerationBlock, cause: event_pb2.EventCause) -> None:
        """The block was set, or changed."""
        self._time(block)
        self._lives.held(live)
        self._announce(block, _State.MODERATION_BLOCK_STATE_SET, cause)
        self.look(live)

    async def lift(self, block: ModerationBlock, cause: event_pb2.EventCause) -> ModerationBlock:
        """Ends the block; returns it as it was last. Raises StoreError; it is ended all the same."""
        return await self._end(block, _State.MODERATION_BLOCK_STATE_LIFTED, cause)

    @contextlib.contextmanager
    def in_hand(self, live: LiveRoom, track_sid: str) -> Iterator[None]:
        """For the span of the block a call mutes that track; after it the track is looked at."""
        self._in_hand[track_sid] += 1
        try:
            yield
        finally:
            self._in_hand[track_sid] -= 1
            if not self._in_hand[track_sid]:
                del self._in_hand[track_sid]
            track = live.model.tracks.get(track_sid)
            if track is not None:
                self._hold(live, track)

    # What happens by itself.

    def rooms(self) -> Sequence[str]:
        """See Stake."""
        return self._blocks.rooms()

    def concerns(self, room: str) -> bool:
        """See Stake."""
        return self._blocks.concerns(room)

    def look(self, live: LiveRoom) -> None:
        """See Stake."""
        for track in list(live.model.tracks.values()):
            self._hold(live, track)

    def happened(self, live: LiveRoom, event: event_pb2.RoomEvent) -> None:
        """See Stake."""
        change = event.WhichOneof("change")
        if change in ("track_published", "track_unmuted", "track_updated"):
            self._hold(live, getattr(event, change))

    def ended(self, room: str) -> None:
        """See Stake."""
        for block in self._blocks.forget(room):
            self._tellings.pop(block.block_id, None)
            self._alarms.set(_key(block), None)
            self._spawn(self._delete(block), f"forget {block.block_id}")

    def _hold(self, live: LiveRoom, track: Track) -> None:
        key = (live.name, track.sid)
        if track.muted or key in self._held or track.sid in self._in_hand or self._blocks.holding(track) is None:
            return
        if self._spawn(self._mute(live, track), f"hold {track.sid} muted"):
            self._held.add(key)

    async def _mute(self, live: LiveRoom, track: Track) -> None:
        """Mutes the track until it is muted."""
        pause = _RETRY_FIRST_S
        try:
            while (block := self._broken(live, track)) is not None:
                if wait_s := self._pace.wait(block.block_id, time.monotonic()):
                    await asyncio.sleep(wait_s)
                    continue
                try:
                    await self._mute_once(live, track, block)
                    pause = _RETRY_FIRST_S
                except TrackError as error:
                    log.warning("block_not_enforced", room=live.name, track_sid=track.sid, reason=error.message)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _RETRY_LAST_S)
        finally:
            self._held.discard((live.name, track.sid))

    async def _mute_once(self, live: LiveRoom, track: Track, block: ModerationBlock) -> None:
        """Raises TrackError."""
        self._rooms.attribute(live.name, "track_muted", track.sid, rule_cause(RULE, block.reason))
        await self._api.mute_track(live.name, track.participant_identity, track.sid, muted=True)
        if await live.until(lambda: self._broken(live, track) is None, _SEEN_S) and track.sid in live.model.tracks:
            self._enforced(block, track)
            key = (live.name, track.sid)
            if key not in self._settling:
                self._spawn(self._settle(live, track), f"settle {track.sid}")
            self._settling[key] = time.monotonic()

    async def _settle(self, live: LiveRoom, track: Track) -> None:
        """Mutes once more what is muted, when the client has come to rest.

        Mutes and unmutes that cross on the way leave a client that takes itself for unmuted, while LiveKit has it muted
        and forwards nothing: it must see what is so.
        """
        key = (live.name, track.sid)
        try:
            while (left_s := self._settling.get(key, 0.0) + _REST_S - time.monotonic()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(left_s)
            current = live.model.tracks.get(track.sid)
            if current is not None and current.muted and not live.closed and self._blocks.holding(current) is not None:
                await self._api.mute_track(live.name, track.participant_identity, track.sid, muted=True)
        except TrackError as error:
            log.info("mute_not_repeated", room=live.name, track_sid=track.sid, reason=error.message)
        finally:
            self._settling.pop(key, None)

    def _broken(self, live: LiveRoom, track: Track) -> ModerationBlock | None:
        """The block that holds the track, where the track is not muted."""
        current = live.model.tracks.get(track.sid)
        if current is None or current.muted or live.closed:
            return None
        return self._blocks.holding(current)

    def _enforced(self, block: ModerationBlock, track: Track) -> None:
        self._counted()
        block = self._blocks.count(block) or block
        telling = self._tellings.get(block.block_id)
        if telling is None:
            telling = self._tellings[block.block_id] = Telling()
        telling.count()
        if telling.untold == 1:
            self._spawn(self._tell(block, track, telling), f"tell of {block.block_id}")

    async def _tell(self, block: ModerationBlock, track: Track, telling: Telling) -> None:
        await asyncio.sleep(telling.due_in(time.monotonic()))
        times = telling.tell(time.monotonic())
        known = self._blocks.find(block.room, block.block_id)
        if known is not None:
            self._announce(known, _State.MODERATION_BLOCK_STATE_ENFORCED, rule_cause(RULE, known.reason))
            try:
                await self._blocks.keep(known)
            except StoreError as error:
                log.warning("enforcement_not_stored", block_id=block.block_id, reason=str(error))
        facts: dict[str, str | int] = {"block_id": block.block_id, "reason": block.reason, "times": times}
        await self._recorder.write(row_of(RULE, block.room, muted(track.participant_identity, track.sid), facts))

    async def _expire(self, key: str) -> None:
        """The time of a block has come. ``key``: room and id, with a newline between."""
        room, _, block_id = key.rpartition("\n")
        block = next((block for block in self._blocks.kept(room) if block.block_id == block_id), None)
        if block is None or not block.HasField("expire_time") or seconds_of(block.expire_time) > time.time():
            return
        until = time.monotonic() + _RETURN_S
        while self._rooms.find(room) is None and time.monotonic() < until:  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(_LOOK_S)
        await self._end(block, _State.MODERATION_BLOCK_STATE_EXPIRED, rule_cause(EXPIRY, block.reason))
        target = muted(block.participant_identity, "")
        target.ClearField("stage")
        await self._recorder.write(row_of(EXPIRY, room, target, {"block_id": block_id, "reason": block.reason}))

    async def _end(
        self, block: ModerationBlock, state: "ModerationBlockState.ValueType", cause: event_pb2.EventCause
    ) -> ModerationBlock:
        last = self._blocks.shown(block)
        self._tellings.pop(block.block_id, None)
        self._alarms.set(_key(block), None)
        try:
            if await self._blocks.remove(block):
                self._announce(last, state, cause)
        finally:
            self._lives.settle(block.room)
        return last

    async def _delete(self, block: ModerationBlock) -> None:
        """Its room has ended, and there is nobody to tell."""
        try:
            await self._blocks.deleted(block)
        except StoreError as error:
            log.warning("block_not_deleted", room=block.room, block_id=block.block_id, reason=str(error))

    def _time(self, block: ModerationBlock) -> None:
        self._alarms.set(_key(block), seconds_of(block.expire_time) if block.HasField("expire_time") else None)

    def _announce(
        self, block: ModerationBlock, state: "ModerationBlockState.ValueType", cause: event_pb2.EventCause
    ) -> None:
        shown = self._blocks.shown(block) if not block.track_sids else block
        change = ModerationBlockChanged(block=shown, state=state)
        self._rooms.announce(block.room, event_pb2.RoomEvent(moderation_block_changed=change, cause=cause))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> bool:
        with contextlib.suppress(Draining):
            self._tasks.spawn(work, name=name)
            return True
        return False


def _key(block: ModerationBlock) -> str:
    return f"{block.room}\n{block.block_id}"
