"""Asking participants to unmute, through the companions in their clients."""

import asyncio
from typing import Final

import structlog

from track.control.v1 import control_pb2 as control
from track.v1 import event_pb2, publication_pb2, tracks_pb2
from track.v1.moderation_pb2 import RequestUnmuteRequest, RequestUnmuteResponse, UnmuteRequest
from track.v1.track_pb2 import Track
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.control.commands import Target
from track_server.control.companion import Companion, consent_of
from track_server.control.targets import target_of
from track_server.deadline import Deadline
from track_server.errors import (
    CompanionMissing,
    ConsentRefused,
    Draining,
    LiveKitUnavailable,
    ParticipantNotFound,
    TargetPermission,
    TrackError,
)
from track_server.lifetime import Closing, Tasks
from track_server.moderation.blocks import Blocks
from track_server.moderation.mutes import refuse_blocked
from track_server.moderation.selection import Chosen, find_media, question_about
from track_server.moderation.unmuting import require_publishable
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

LONGEST_S: Final = 600.0
"""A companion that has not ended its question by then is taken to have no answer."""
# LiveKit tells of an unmute within milliseconds; a camera takes a while to open.
_UNMUTED_S: Final = 5.0

_ASKED: Final = publication_pb2.CONSENT_ASKED
_GRANTED: Final = publication_pb2.CONSENT_GRANTED
_NO_ANSWER: Final = publication_pb2.CONSENT_NO_ANSWER


class _Question:
    """One question to one connection of a participant about one track."""

    def __init__(self, target: Target, track: Track, cause: event_pb2.EventCause) -> None:
        self.target = target
        self.track = track
        self.cause = cause
        self.taken = False
        """Whether the companion has it."""
        self.state = UnmuteRequest(
            participant_identity=track.participant_identity, track_sid=track.sid, reason=cause.reason, muted=True
        )

    def muted(self, live: LiveRoom) -> bool:
        """Whether the track is there and muted."""
        current = live.model.tracks.get(self.track.sid)
        return current is not None and current.muted

    def gone(self, live: LiveRoom) -> bool:
        """Whether the connection that was asked is over."""
        participant = live.model.participants.get(self.target.identity)
        return live.closed or (live.current and (participant is None or participant.sid != self.target.sid))


class Questions(Closing):
    """Answers RequestUnmute; owner of the questions that are open, `async with`."""

    def __init__(self, rooms: Rooms, companion: Companion, access: Access, blocks: Blocks) -> None:
        self._rooms = rooms
        self._companion = companion
        self._access = access
        self._blocks = blocks
        self._open: dict[tuple[Target, str], tuple[_Question, asyncio.Task[None]]] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Follows no question any more. May be called twice."""
        await self._tasks.aclose()

    async def ask(
        self, principal: Principal, request: RequestUnmuteRequest, deadline: Deadline, cause: event_pb2.EventCause
    ) -> RequestUnmuteResponse:
        """Asks, where the same question is not open already, and waits for the answer.

        Raises RoomNotFound, PermissionDenied, TrackNotFound, TargetPermission, TrackBlocked, CompanionMissing,
        CompanionFailed, NotSupported, ParticipantNotFound where it leaves meanwhile, LiveKitUnavailable.
        """
        async with self._rooms.watch(request.room) as live:
            ref = tracks_pb2.TrackRef(track_sid=request.track_sid, participant_identity=request.participant_identity)
            asked = question_about(live.model, ref)
            await self._access.require(principal, asked)
            track = find_media(live.model, Chosen(ref, "", "track_sid", "participant_identity"))
            try:
                require_publishable(live, track, "track_sid")
            except TargetPermission as error:
                self._access.refused(principal, asked, error.message)
                raise
            refuse_blocked(self._blocks, track, "track_sid")
            if not track.muted:
                return _unmuted(track, request)
            target = target_of(live, track.participant_identity)
            if request.validate_only:
                return await self._foreseen(target, track, request, deadline)
            question, following = self._question(live, target, track, cause)
            await asyncio.wait({following}, timeout=deadline.remaining_s())
            if following.done():
                if following.cancelled():
                    raise Draining("the server is shutting down")
                following.result()
                if question.state.consent == _GRANTED and question.muted(live):
                    refuse_blocked(self._blocks, track, "track_sid")
            return _answer(question, live)

    async def _foreseen(
        self, target: Target, track: Track, request: RequestUnmuteRequest, deadline: Deadline
    ) -> RequestUnmuteResponse:
        if not await self._companion.has_companion(target, deadline):
            raise CompanionMissing(f"the client of participant {target.identity!r} has no companion of TrackService")
        state = UnmuteRequest(
            participant_identity=target.identity, track_sid=track.sid, reason=request.reason, muted=True
        )
        return RequestUnmuteResponse(unmute_request=state)

    def _question(
        self, live: LiveRoom, target: Target, track: Track, cause: event_pb2.EventCause
    ) -> tuple[_Question, "asyncio.Task[None]"]:
        """The question that is open, else a new one."""
        key = (target, track.sid)
        known = self._open.get(key)
        if known is not None:
            return known
        question = _Question(target, track, cause)
        task = self._tasks.begin(self._follow(live.name, question), name=f"ask to unmute {track.sid}")
        self._open[key] = question, task
        task.add_done_callback(lambda _: self._open.pop(key, None))
        return question, task

    async def _follow(self, room: str, question: _Question) -> None:
        """To the answer, or until there cannot be any. Raises what ends it without one that was asked."""
        async with self._rooms.watch(room) as live:
            try:
                consent = await self._consent(live, question)
            except TrackError as error:
                self._unattributed(room, question)
                if question.taken:
                    log.info("question_lost", room=room, track_sid=question.track.sid, reason=error.message)
                    self._move(live, question, _NO_ANSWER)
                raise
            if consent == _GRANTED:
                await live.until(lambda: not question.muted(live) or question.gone(live), _UNMUTED_S)
            else:
                self._unattributed(room, question)
            self._move(live, question, consent)

    async def _consent(self, live: LiveRoom, question: _Question) -> publication_pb2.Consent.ValueType:
        """Raises TrackError."""

        async def heard(reply: control.Reply) -> None:
            question.taken = True
            if reply.status == control.COMMAND_STATUS_ACCEPTED and question.state.consent != _ASKED:
                self._move(live, question, _ASKED)
            self._rooms.attribute(live.name, "track_unmuted", question.track.sid, question.cause)

        self._rooms.attribute(live.name, "track_unmuted", question.track.sid, question.cause)
        asking = asyncio.create_task(
            self._companion.set_muted(
                question.target, question.track.sid, Deadline.after(LONGEST_S), muted=False, on_reply=heard
            ),
            name="companion asks",
        )
        leaving = asyncio.create_task(
            live.until(lambda: question.gone(live), LONGEST_S + 60), name="participant leaves"
        )
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise ParticipantNotFound("the participant has left, or joined again, before there was an answer")
            reply = asking.result()
        except ConsentRefused as error:
            return consent_of(error)
        finally:
            for task in (asking, leaving):
                task.cancel()
            await asyncio.gather(asking, leaving, return_exceptions=True)
        if reply.status == control.COMMAND_STATUS_DONE:
            return _GRANTED
        if not question.taken:
            raise LiveKitUnavailable("the participant's client did not answer in time")
        return _NO_ANSWER

    def _move(self, live: LiveRoom, question: _Question, consent: publication_pb2.Consent.ValueType) -> None:
        question.taken = True
        question.state.consent = consent
        question.state.muted = question.muted(live)
        event = event_pb2.RoomEvent(unmute_requested=question.state, cause=question.cause)
        self._rooms.announce(live.name, event)

    def _unattributed(self, room: str, question: _Question) -> None:
        """What the participant does now is its own doing."""
        self._rooms.unattribute(room, "track_unmuted", question.track.sid)


def _answer(question: _Question, live: LiveRoom) -> RequestUnmuteResponse:
    state = UnmuteRequest()
    state.CopyFrom(question.state)
    state.muted = question.muted(live)
    answer = RequestUnmuteResponse(unmute_request=state, stage=publication_pb2.STAGE_REQUESTED)
    if question.taken:
        answer.stage = publication_pb2.STAGE_ACKNOWLEDGED
    if state.consent == _GRANTED and not state.muted:
        answer.stage, answer.evidence = publication_pb2.STAGE_OBSERVED, publication_pb2.EVIDENCE_ROOM
    return answer


def _unmuted(track: Track, request: RequestUnmuteRequest) -> RequestUnmuteResponse:
    """Of a track that is not muted: nobody is asked."""
    state = UnmuteRequest(
        participant_identity=track.participant_identity, track_sid=track.sid, reason=request.reason, muted=False
    )
    if request.validate_only:
        return RequestUnmuteResponse(unmute_request=state)
    return RequestUnmuteResponse(
        unmute_request=state, stage=publication_pb2.STAGE_OBSERVED, evidence=publication_pb2.EVIDENCE_ROOM
    )
