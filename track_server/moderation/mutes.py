"""Muting and unmuting tracks: each validated, asked of LiveKit or the client itself, and seen in the room."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from track.v1 import event_pb2, publication_pb2, track_pb2, tracks_pb2
from track_server.access.access import Access
from track_server.access.bounds import Bounds
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.deadline import Deadline
from track_server.durations import seconds_of
from track_server.errors import (
    InvalidField,
    LiveKitUnavailable,
    TargetPermission,
    TrackBlocked,
    TrackError,
    TrackNotFound,
)
from track_server.livekit.api import LiveKitApi
from track_server.moderation.blocks import Blocks, Terms
from track_server.moderation.enforcement import Enforcement
from track_server.moderation.selection import (
    Chosen,
    find_media,
    matching,
    named,
    named_by,
    question_about,
    require_over_others,
)
from track_server.moderation.timed import TimedMutes
from track_server.moderation.unmuting import Stalls, Unmuting, require_publishable
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

MAX_EXPIRY_S: Final = 30 * 24 * 3600.0
"""How far away the end of a mute or block may be."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is held muted, and who holds it."""

    blocks: Blocks
    enforcement: Enforcement
    timed: TimedMutes
    lives: Lives


@dataclass(frozen=True, slots=True)
class _Call:
    """A call, its live room, and what is told of it as the cause of what happens."""

    live: LiveRoom
    cause: event_pb2.EventCause
    deadline: Deadline
    validate_only: bool


class Mutes:
    """Answers MuteTracks and UnmuteTracks."""

    def __init__(
        self, rooms: Rooms, api: LiveKitApi, access: Access, stalls: Stalls, unmuting: Unmuting, held: Held
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._access = access
        self._stalls = stalls
        self._unmuting = unmuting
        self._held = held

    async def mute(
        self,
        principal: Principal,
        request: tracks_pb2.MuteTracksRequest,
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> list[tracks_pb2.MuteResult]:
        """One result a track, in order; for filters by participant and SID.

        Raises RoomNotFound, LiveKitUnavailable, InvalidField, InvalidExpression.
        """
        terms = _terms(request, principal.identity)
        async with self._rooms.watch(request.room) as live:
            chosen = named(request) if request.tracks else matching(live.model, request)
            call = _Call(live, cause, deadline, request.validate_only)

            async def one(track: track_pb2.Track, each: Chosen) -> tracks_pb2.MuteResult:
                if request.block:
                    require_over_others(principal, request.room, track.participant_identity)
                    return await self._block_one(call, track, each, terms)
                return await self._mute_one(call, track, each, terms)

            return await self._each(principal, live, chosen, one)

    async def unmute(
        self,
        principal: Principal,
        request: tracks_pb2.UnmuteTracksRequest,
        deadline: Deadline,
        cause: event_pb2.EventCause,
    ) -> list[tracks_pb2.MuteResult]:
        """One result a track, in order. Raises RoomNotFound, LiveKitUnavailable."""
        async with self._rooms.watch(request.room) as live:
            call = _Call(live, cause, deadline, request.validate_only)

            async def one(track: track_pb2.Track, each: Chosen) -> tracks_pb2.MuteResult:
                return await self._unmute_one(call, track, each)

            return await self._each(principal, live, named(request), one)

    async def _each(
        self,
        principal: Principal,
        live: LiveRoom,
        chosen: Sequence[Chosen],
        act: Callable[[track_pb2.Track, Chosen], Awaitable[tracks_pb2.MuteResult]],
    ) -> list[tracks_pb2.MuteResult]:
        """``act`` for each that the principal may mute, all at once, with a problem in the place of what it raises."""
        questions = [question_about(live.model, each.ref) for each in chosen]
        cleared = await self._access.require_each(principal, questions)

        async def one(each: Chosen, question: Question, answer: Bounds | TrackError) -> tracks_pb2.MuteResult:
            try:
                if isinstance(answer, TrackError):
                    raise answer
                return await act(find_media(live.model, each), each)
            except TrackError as error:
                if isinstance(error, TargetPermission):
                    self._access.refused(principal, question, error.message)
                return tracks_pb2.MuteResult(track=each.ref, problem=error.problem(error.field or each.field))

        return await asyncio.gather(*map(one, chosen, questions, cleared))

    async def _block_one(
        self, call: _Call, track: track_pb2.Track, chosen: Chosen, terms: Terms
    ) -> tracks_pb2.MuteResult:
        held = self._held
        if call.validate_only:
            drawn = held.blocks.drawn(track, terms)
            return tracks_pb2.MuteResult(track=named_by(track), muted=track.muted, block=held.blocks.shown(drawn))
        await held.lives.want(call.live)
        with held.enforcement.in_hand(call.live, track.sid):
            block = await held.blocks.set(track, terms)
            held.enforcement.begun(call.live, block, call.cause)
            await held.timed.forget(track)
            try:
                result = await self._set_one(call, track, chosen, muted=True)
            except (LiveKitUnavailable, TrackNotFound):
                # The block is set: it is muted as soon as LiveKit, or the track, is there.
                result = tracks_pb2.MuteResult(track=named_by(track), stage=publication_pb2.STAGE_REQUESTED)
        result.block.CopyFrom(held.blocks.shown(block))
        return result

    async def _mute_one(
        self, call: _Call, track: track_pb2.Track, chosen: Chosen, terms: Terms
    ) -> tracks_pb2.MuteResult:
        held = self._held
        block = held.blocks.holding(track)
        if call.validate_only:
            result = tracks_pb2.MuteResult(track=named_by(track), muted=track.muted)
        else:
            async with contextlib.AsyncExitStack() as stack:
                if terms.expire_time is None or block is not None:
                    await held.timed.forget(track)
                else:
                    stalling = self._stalls.stalling(track.room, track.publication_id)
                    until = held.timed.muting(call.live, track, terms.expire_time, terms.reason, stalling)
                    await stack.enter_async_context(until)
                result = await self._set_one(call, track, chosen, muted=True)
        if block is not None:
            result.block.CopyFrom(held.blocks.shown(block))
        return result

    async def _unmute_one(self, call: _Call, track: track_pb2.Track, chosen: Chosen) -> tracks_pb2.MuteResult:
        require_publishable(call.live, track, chosen.sid_field)
        refuse_blocked(self._held.blocks, track, chosen.sid_field)
        if call.validate_only:
            return tracks_pb2.MuteResult(track=named_by(track), muted=track.muted)
        await self._held.timed.forget(track)
        return await self._set_one(call, track, chosen, muted=False)

    async def _set_one(
        self, call: _Call, track: track_pb2.Track, chosen: Chosen, *, muted: bool
    ) -> tracks_pb2.MuteResult:
        live = call.live

        def seen() -> bool:
            current = live.model.tracks.get(track.sid)
            return current is None or current.muted == muted

        if await self._stalls.meant(live.name, track.publication_id, muted=muted) is not None:
            # It is carried out when frames come again: until then the track stays muted in any case.
            result = tracks_pb2.MuteResult(track=named_by(track), muted=True)
            result.stage = publication_pb2.STAGE_OBSERVED if muted else publication_pb2.STAGE_REQUESTED
            if muted:
                result.evidence = publication_pb2.EVIDENCE_ROOM
            return result
        done: publication_pb2.Stage.ValueType = publication_pb2.STAGE_REQUESTED
        if not (live.current and seen()):
            self._rooms.attribute(live.name, "track_muted" if muted else "track_unmuted", track.sid, call.cause)
            if muted:
                await self._api.mute_track(live.name, track.participant_identity, track.sid, muted=True)
            else:
                done = await self._unmuting.unmute(live, track, call.deadline, chosen.field)
        await live.until(seen, call.deadline.remaining_s())
        current = live.model.tracks.get(track.sid)
        if current is None:
            raise TrackNotFound(f"track {track.sid!r} was unpublished meanwhile", field=chosen.sid_field)
        result = tracks_pb2.MuteResult(track=named_by(track), muted=current.muted)
        if current.muted == muted:
            result.stage = publication_pb2.STAGE_OBSERVED
            result.evidence = publication_pb2.EVIDENCE_ROOM
        else:
            result.stage = done
        return result


def refuse_blocked(blocks: Blocks, track: track_pb2.Track, field: str) -> None:
    """Raises TrackBlocked where a block holds the track."""
    block = blocks.holding(track)
    if block is not None:
        raise TrackBlocked(
            "a moderation block holds the track muted: lift it first",
            field=field,
            metadata={"block_id": block.block_id},
        )


def _terms(request: tracks_pb2.MuteTracksRequest, identity: str) -> Terms:
    """Raises InvalidField."""
    if not request.HasField("expire_time"):
        return Terms(request.reason, None, identity)
    try:
        expire_time = seconds_of(request.expire_time)
    except ValueError:
        raise InvalidField("the end of the mute is no point in time", field="expire_time") from None
    if not time.time() < expire_time <= time.time() + MAX_EXPIRY_S:
        raise InvalidField("the mute must end in the future, within 30 days", field="expire_time")
    return Terms(request.reason, expire_time, identity)
