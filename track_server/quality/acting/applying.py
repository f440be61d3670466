"""ApplyAdaptation: one action by hand."""

import asyncio
import time
from typing import Final

from track.v1.event_pb2 import EventCause, RoomEvent
from track.v1.publication_pb2 import Stage
from track.v1.publication_update_pb2 import RestartTrackRequest
from track.v1.quality_policy_pb2 import (
    ApplyAdaptationRequest,
    ApplyAdaptationResponse,
    QualityAction,
    QualityActionKind,
    QualityMove,
)
from track.v1.track_pb2 import TRACK_TYPE_VIDEO, Participant, Track, VideoQuality
from track_server.access.principal import Principal
from track_server.deadline import Deadline
from track_server.durations import seconds_of, timestamp_at
from track_server.errors import (
    InvalidField,
    NotSupported,
    ParticipantNotFound,
    StoreUnavailable,
    TrackError,
)
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.quality.acting.acting import Acting
from track_server.quality.acting.hands import Kept
from track_server.quality.acting.means import Means
from track_server.quality.acting.messages import FAMILIES, carried_out, measured, new_id
from track_server.quality.acting.room import RoomActing
from track_server.quality.acting.terms import is_release
from track_server.quality.clock import Moment
from track_server.quality.core.adapting.ladder import Family, Line
from track_server.quality.core.adapting.measure import Measure
from track_server.quality.policies.checking import name_of
from track_server.quality.policies.reading import LAYERS
from track_server.rooms.causes import rule_cause
from track_server.rooms.reading import look, track_of
from track_server.rooms.room import LiveRoom
from track_server.store.records import StoreError

LONGEST_S: Final = 24 * 3600.0
"""How far from now on a limit may expire."""
EXPIRED: Final = "quality_limit_expired"
"""Rule: a limit by hand ends at its time."""

_RESTART: Final = QualityActionKind.QUALITY_ACTION_KIND_RESTART
_CAP: Final = QualityActionKind.QUALITY_ACTION_KIND_CAP_PUBLISHER
_OFF: Final = QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF
_HIGH: Final = VideoQuality.VIDEO_QUALITY_HIGH
_UNSET: Final = VideoQuality.VIDEO_QUALITY_UNSPECIFIED


class HandActions(Closing):
    """Answers ApplyAdaptation, and takes back what expires, `async with`. Who may was decided before. What has begun to
    be stored is carried out, though its caller is gone."""

    def __init__(self, means: Means, acting: Acting, api: LiveKitApi) -> None:
        self._means = means
        self._acting = acting
        self._api = api
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Finishes what was begun. May be called twice."""
        await self._tasks.settle()
        await self._tasks.aclose()

    async def apply(
        self, principal: Principal, request: ApplyAdaptationRequest, deadline: Deadline, cause: EventCause
    ) -> ApplyAdaptationResponse:
        """Stores it, and does it.

        Raises InvalidField, RoomNotFound, ParticipantNotFound, TrackNotFound, NotSupported, StoreUnavailable,
        LiveKitUnavailable, and for RESTART what Restarts raises.
        """
        check(request)
        async with self._means.rooms.watch(request.room) as live:
            sid = request.track_sid
            track = await track_of(self._api, live, sid, "track_sid") if sid else None
            if request.kind == _RESTART and track is not None:
                action = await self._restart(principal, request, live, track, deadline, cause)
            else:
                action = await self._limit(principal, request, live, track, cause)
            return ApplyAdaptationResponse(action=action)

    def expired(self, kept: Kept) -> None:
        """Listens to Hands."""
        action = QualityAction()
        action.CopyFrom(kept.action)
        for field in ("expire_time", "before", "after", "verdict"):
            action.ClearField(field)
        action.action_id, action.reason = new_id(), "expired"
        action.quality, action.move = _HIGH, QualityMove.QUALITY_MOVE_RELEASE
        action.time.CopyFrom(timestamp_at(time.time()))
        self._tasks.spawn(self._record(kept.room, action, rule_cause(EXPIRED)), name="record an expired limit")

    # Limits.

    async def _limit(
        self,
        principal: Principal,
        request: ApplyAdaptationRequest,
        live: LiveRoom,
        track: Track | None,
        cause: EventCause,
    ) -> QualityAction:
        participant = await self._participant(live, request.participant_identity)
        if track is not None:
            _refuse_track(request, track)
        release = is_release(request.quality)
        if request.kind != _CAP and not release:
            await self._means.abilities.require_layers(live.name, participant, name_of(request.kind), "kind")
        action = self._action(principal, request, request.participant_identity)
        if request.kind == _OFF and not release:
            action.quality = VideoQuality.VIDEO_QUALITY_OFF
        kept = Kept(live.name, action, track.publication_id if track is not None else "")
        known = self._means.hands.find(kept)
        action.move = _move(known, action)
        if request.HasField("expire_time"):
            action.expire_time.CopyFrom(request.expire_time)
        if request.validate_only:
            return action
        action.action_id, action.stage = new_id(), Stage.STAGE_REQUESTED
        doing = self._set(live, kept, cause, release=release)
        return await asyncio.shield(self._tasks.begin(doing, name="limit by hand"))

    async def _set(self, live: LiveRoom, kept: Kept, cause: EventCause, *, release: bool) -> QualityAction:
        hands, action, line = self._means.hands, kept.action, _line(kept.action)
        room = self._acting.of(live.name)
        now = self._means.assessing.clock.now()
        before = _before(action, room, line, now)
        try:
            await self._store(live.name, action)
            await (hands.release(kept) if release else hands.set(live, kept))
        except StoreUnavailable:
            self._acting.settle(live.name)
            raise
        except StoreError as error:
            failed = StoreUnavailable("the limit cannot be stored now")
            self._acting.settle(live.name)
            await self._store(live.name, carried_out(action, Stage.STAGE_REQUESTED, failed.problem()), version=1)
            raise failed from error
        self._tell(live.name, action, cause)
        room.watch(action, line, before, now)
        return action

    # Restarts.

    async def _restart(
        self,
        principal: Principal,
        request: ApplyAdaptationRequest,
        live: LiveRoom,
        track: Track,
        deadline: Deadline,
        cause: EventCause,
    ) -> QualityAction:
        publisher = live.model.participants.get(track.participant_identity)
        await self._means.abilities.require_restart(live.name, publisher, track.sid, "track_sid")
        asked = RestartTrackRequest(room=live.name, track_sid=track.sid, validate_only=True)
        await self._means.restarts.restart(principal, asked, deadline, cause)
        action = self._action(principal, request, track.participant_identity)
        action.move = QualityMove.QUALITY_MOVE_DOWN
        if request.validate_only:
            return action
        action.action_id, action.stage = new_id(), Stage.STAGE_REQUESTED
        doing = self._do_restart(principal, live, action, deadline, cause)
        return await asyncio.shield(self._tasks.begin(doing, name="restart by hand"))

    async def _do_restart(
        self, principal: Principal, live: LiveRoom, action: QualityAction, deadline: Deadline, cause: EventCause
    ) -> QualityAction:
        line = _line(action)
        room = self._acting.of(live.name)
        before = _before(action, room, line, self._means.assessing.clock.now())
        asked = RestartTrackRequest(room=live.name, track_sid=action.track_sid)
        try:
            await self._store(live.name, action)
            self._tell(live.name, action, cause)
            answer = await self._means.restarts.restart(principal, asked, deadline, cause)
        except TrackError as error:
            self._acting.settle(live.name)
            failed = carried_out(action, Stage.STAGE_REQUESTED, error.problem())
            await self._store(live.name, failed, version=1)
            raise
        last = answer.steps[-1] if answer.steps else None
        problem = last.problem if last is not None and last.HasField("problem") else None
        done = carried_out(action, answer.stage, problem)
        await self._store(live.name, done, version=1)
        sid = answer.publication.track_sid or action.track_sid
        line = Line(Family.MEDIA, action.participant_identity, sid)
        room.watch(done, line, before, self._means.assessing.clock.now())
        return done

    # Both.

    def _action(self, principal: Principal, request: ApplyAdaptationRequest, identity: str) -> QualityAction:
        action = QualityAction(
            kind=request.kind,
            participant_identity=identity,
            track_sid=request.track_sid,
            quality=request.quality,
            reason=request.reason,
            applied_by=principal.identity or "anonymous",
        )
        action.time.CopyFrom(timestamp_at(time.time()))
        return action

    async def _record(self, room: str, action: QualityAction, cause: EventCause) -> None:
        await self._store(room, action)
        self._tell(room, action, cause)

    async def _store(self, room: str, action: QualityAction, *, version: int = 0) -> None:
        """Raises StoreUnavailable."""
        try:
            await self._means.history.add(room, action, version=version)
        except StoreError as error:
            raise StoreUnavailable("the action cannot be stored now") from error

    def _tell(self, room: str, action: QualityAction, cause: EventCause) -> None:
        self._means.rooms.announce(room, RoomEvent(quality_action_taken=action, cause=cause))

    async def _participant(self, live: LiveRoom, identity: str) -> Participant:
        participant = live.model.participants.get(identity)
        if participant is None:
            # LiveKit tells late of who publishes nothing.
            participant = (await look(self._api, live.name)).participants.get(identity)
        if participant is None:
            raise ParticipantNotFound(f"no participant {identity!r} in the room", field="participant_identity")
        return participant


def check(request: ApplyAdaptationRequest) -> None:
    """Raises InvalidField where its fields do not go together."""
    restart, release = request.kind == _RESTART, is_release(request.quality)
    if restart and not request.track_sid:
        raise InvalidField("a restart is of one track", field="track_sid")
    if restart and request.participant_identity:
        raise InvalidField("a restart is of a track, not of a participant", field="participant_identity")
    if not restart and not request.participant_identity:
        raise InvalidField(f"{name_of(request.kind)} is about a participant", field="participant_identity")
    if restart and request.quality != _UNSET:
        raise InvalidField("a restart limits no layer", field="quality")
    if request.kind == _OFF and request.quality not in (_UNSET, _HIGH):
        raise InvalidField("VIDEO_OFF leaves no layer: leave it unset, or HIGH to release", field="quality")
    if not restart and request.kind != _OFF and request.quality == _UNSET:
        raise InvalidField("say which layer is left, or HIGH to release", field="quality")
    if not request.HasField("expire_time"):
        return
    if restart or release:
        raise InvalidField("only a limit expires", field="expire_time")
    left_s = seconds_of(request.expire_time) - time.time()
    if left_s <= 0:
        raise InvalidField("the time is past", field="expire_time")
    if left_s > LONGEST_S:
        raise InvalidField(f"at most {LONGEST_S / 3600:g} hours from now", field="expire_time")


def _refuse_track(request: ApplyAdaptationRequest, track: Track) -> None:
    """Raises where a limit cannot be about that track."""
    if track.type != TRACK_TYPE_VIDEO:
        raise NotSupported(f"{name_of(request.kind)} is for video, and the track is none", field="track_sid")
    own = track.participant_identity == request.participant_identity
    if own is not (request.kind == _CAP):
        said = "another participant's" if request.kind == _CAP else "the participant's own"
        raise InvalidField(f"the track is {said}", field="track_sid")


def _move(known: Kept | None, action: QualityAction) -> "QualityMove.ValueType":
    if is_release(action.quality):
        return QualityMove.QUALITY_MOVE_RELEASE
    if known is not None and LAYERS[known.action.quality] < LAYERS[action.quality]:
        return QualityMove.QUALITY_MOVE_UP
    return QualityMove.QUALITY_MOVE_DOWN


def _before(action: QualityAction, room: RoomActing, line: Line, now: Moment) -> Measure:
    """What was measured before it; the action is told, where anything was."""
    before = room.before(line, now)
    if (told := measured(before)) is not None:
        action.before.CopyFrom(told)
    return before


def _line(action: QualityAction) -> Line:
    """On whose numbers its effect shows."""
    family = FAMILIES[action.kind]
    return Line(family, action.participant_identity, action.track_sid if family is Family.MEDIA else "")
