"""Permissions to publish that are taken away from participants, and given back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

import structlog
from livekit.protocol import models

from track.v1.event_pb2 import EventCause
from track.v1.track_pb2 import ParticipantPermission, Track
from track_server.deadline import Deadline
from track_server.errors import TrackError, TrackNotFound
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi, LiveKitNotFound
from track_server.rooms import convert
from track_server.rooms.permissions import may_publish, without
from track_server.rooms.room import LiveRoom
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "withheld_permission"
_RETRY_FIRST_S: Final = 0.25
_RETRY_LAST_S: Final = 10.0
# Given back for so long while LiveKit does not answer; after that by the next start of the server.
_GIVE_BACK_S: Final = 120.0
# How long the room may take to show what LiveKit's API has said already.
_SHOWN_S: Final = 2.0
_CLOSE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Withheld:
    """What became of it. ``also``: SIDs of the participant's other tracks that it may publish no more.

    ``restored``: whether the permission was given back; None where it was not to be, or not yet.
    """

    also: tuple[str, ...]
    gone: bool
    """Whether the track was seen to be gone from the room."""
    restored: bool | None


class Withholding(Closing):
    """Owner of the taking away, `async with`. One participant's permission is changed by one at a time.

    ``lost``: told of the room and the identity of whom a permission stays taken away, though it was to be given back.
    """

    def __init__(self, api: LiveKitApi, store: Store, lost: Callable[[str, str], None]) -> None:
        self._api = api
        self._store = store
        self._lost = lost
        self._tasks = Tasks()
        self._temporary: set[tuple[str, str]] = set()
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def aclose(self) -> None:
        """Waits a moment for what is to be given back; the rest is left to the next start. May be called twice."""
        await self._tasks.settle(_CLOSE_S)
        await self._tasks.aclose()

    def temporary(self, room: str, identity: str) -> bool:
        """Whether a permission of the participant is away for a moment alone, and by this service."""
        return (room, identity) in self._temporary

    async def restore(self) -> None:
        """Begins to give back what an earlier run took away for a moment, and could not give back."""
        for record in await self._store.list(_KIND):
            info = models.ParticipantInfo.FromString(record.body)
            self._tasks.spawn(self._restore_left(record.room, info), name="give a permission back")

    async def preview(self, room: str, track: Track) -> tuple[str, ...]:
        """SIDs of the other tracks that would go with it. Raises TrackNotFound."""
        info = await self._find(room, track)
        return _others(room, info, track)

    async def take(
        self, live: LiveRoom, track: Track, deadline: Deadline, cause: EventCause, *, give_back: bool
    ) -> Withheld:
        """Takes away the permission to publish what is of the track's source, or data; waits for the track to be gone.
        ``cause``: the call, to those who watch.

        Then the permission is given back, if it is to be: also where the caller has gone meanwhile. Raises
        TrackNotFound where the participant has left, or has taken the track away itself; LiveKitUnavailable.
        """
        others: list[str] = []
        work = self._take(live, track, deadline, others, cause, give_back=give_back)
        task = self._tasks.begin(work, name="withholding")
        done, _ = await asyncio.wait([task], timeout=deadline.remaining_s())
        if done:
            return task.result()
        gone = live.current and track.sid not in live.model.tracks
        return Withheld(tuple(others), gone, False if give_back else None)

    async def _take(
        self,
        live: LiveRoom,
        track: Track,
        deadline: Deadline,
        others: list[str],
        cause: EventCause,
        *,
        give_back: bool,
    ) -> Withheld:
        room, identity = live.name, track.participant_identity
        async with self._lock(room, identity):
            info = await self._find(room, track)
            others += _others(room, info, track)
            live.causes.expect("participant_updated", info.sid, cause)
            for sid in (track.sid, *others):
                live.causes.expect("track_unpublished", sid, cause)
            if not give_back:
                await self._set(room, track, without(info.permission, track))
                return Withheld(tuple(others), await self._gone(live, track, others, deadline), None)
            await self._store.put(_KIND, room, identity, _record(info, track.sid).SerializeToString())
            self._temporary.add((room, identity))
            try:
                return await self._take_for_a_moment(live, info, track, deadline, others, cause)
            finally:
                self._temporary.discard((room, identity))

    async def _take_for_a_moment(
        self,
        live: LiveRoom,
        info: models.ParticipantInfo,
        track: Track,
        deadline: Deadline,
        others: list[str],
        cause: EventCause,
    ) -> Withheld:
        try:
            await self._set(live.name, track, without(info.permission, track))
        except TrackError:
            # It may have been taken away all the same.
            await self._give_back(live.name, info, track)
            raise
        # The rest of the time is for giving back: LiveKit has taken the track away before it answers.
        gone = await self._gone(live, track, others, Deadline.after(deadline.remaining_s() / 2))
        live.causes.expect("participant_updated", info.sid, cause)
        restored = await self._give_back(live.name, info, track)
        allowed = convert.participant(info).permission
        if restored:
            # What the room still tells of the time without it must not be taken for a loss.
            await live.until(lambda: _shown(live, info.identity) in (None, allowed), _SHOWN_S)
        return Withheld(tuple(others), gone, restored)

    async def _restore_left(self, room: str, info: models.ParticipantInfo) -> Withheld:
        (track,) = convert.tracks(room, info).values()
        async with self._lock(room, info.identity):
            return Withheld((), gone=False, restored=await self._give_back(room, info, track))

    async def _give_back(self, room: str, info: models.ParticipantInfo, track: Track) -> bool:
        """Gives back what ``info`` had, unless somebody else has changed it since; says whether it has it again."""
        pause, deadline, restored = _RETRY_FIRST_S, Deadline.after(_GIVE_BACK_S), None
        while restored is None:
            try:
                restored = await self._given_back(room, info, track)
            except TrackError as error:
                log.warning("permission_not_given_back", room=room, identity=info.identity, reason=error.message)
                if not deadline.remaining_s():
                    self._lost(room, info.identity)
                    return False
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY_LAST_S)
        try:
            await self._store.delete(_KIND, room, info.identity)
        except StoreError as error:
            log.warning("withheld_permission_not_forgotten", room=room, identity=info.identity, reason=str(error))
        if not restored:
            self._lost(room, info.identity)
        return restored

    async def _given_back(self, room: str, info: models.ParticipantInfo, track: Track) -> bool:
        """One try. Raises TrackError."""
        current = await self._api.find_participant(room, info.identity)
        if current is None or current.sid != info.sid:
            # It left, and its permission with it: when it joins again, it has that of its token.
            return False
        if current.permission == info.permission:
            return True
        if current.permission != without(info.permission, track):
            log.info("permission_changed_meanwhile", room=room, identity=info.identity)
            return False
        with contextlib.suppress(LiveKitNotFound):
            await self._api.set_permission(room, info.identity, info.permission)
            return True
        return False

    async def _find(self, room: str, track: Track) -> models.ParticipantInfo:
        info = await self._api.find_participant(room, track.participant_identity)
        if info is None or info.sid != track.participant_sid or track.sid not in convert.tracks(room, info):
            raise _gone_meanwhile(track)
        return info

    async def _set(self, room: str, track: Track, permission: models.ParticipantPermission) -> None:
        try:
            await self._api.set_permission(room, track.participant_identity, permission)
        except LiveKitNotFound as error:
            raise _gone_meanwhile(track) from error

    async def _gone(self, live: LiveRoom, track: Track, others: list[str], deadline: Deadline) -> bool:
        sids = {track.sid, *others}
        return await live.until(
            lambda: live.closed or (live.current and not sids & live.model.tracks.keys()), deadline.remaining_s()
        )

    @contextlib.asynccontextmanager
    async def _lock(self, room: str, identity: str) -> AsyncIterator[None]:
        lock = self._locks.get((room, identity))
        if lock is None:
            lock = self._locks[room, identity] = asyncio.Lock()
        async with lock:
            yield


def _shown(live: LiveRoom, identity: str) -> ParticipantPermission | None:
    participant = live.model.participants.get(identity)
    return participant.permission if participant is not None else None


def _gone_meanwhile(track: Track) -> TrackNotFound:
    return TrackNotFound(f"track {track.sid!r} was unpublished meanwhile", field="track_sid")


def _others(room: str, info: models.ParticipantInfo, track: Track) -> tuple[str, ...]:
    after = models.ParticipantInfo()
    after.CopyFrom(info)
    after.permission.CopyFrom(without(info.permission, track))
    participant = convert.participant(after)
    return tuple(
        sid
        for sid, other in convert.tracks(room, info).items()
        if sid != track.sid and not may_publish(participant, other.type, other.source)
    )


def _record(info: models.ParticipantInfo, track_sid: str) -> models.ParticipantInfo:
    """What is needed to give back: the participant with its permission, and the one track."""
    return models.ParticipantInfo(
        sid=info.sid,
        identity=info.identity,
        permission=info.permission,
        tracks=[track for track in info.tracks if track.sid == track_sid],
        data_tracks=[track for track in info.data_tracks if track.sid == track_sid],
    )
