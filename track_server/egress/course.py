"""The course of a recording: what is to be done next, from what is known. Pure."""

from dataclasses import dataclass
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from track.v1.egress_pb2 import EgressEndCause, EgressPart, EgressState, TrackEgress
from track.v1.error_pb2 import Problem
from track_server.durations import seconds_of

STARTING: Final = EgressState.EGRESS_STATE_STARTING
ACTIVE: Final = EgressState.EGRESS_STATE_ACTIVE
WAITING: Final = EgressState.EGRESS_STATE_WAITING
ENDING: Final = EgressState.EGRESS_STATE_ENDING
COMPLETE: Final = EgressState.EGRESS_STATE_COMPLETE
FAILED: Final = EgressState.EGRESS_STATE_FAILED
ABORTED: Final = EgressState.EGRESS_STATE_ABORTED

STOPPED: Final = EgressEndCause.EGRESS_END_CAUSE_STOPPED
TRACK_ENDED: Final = EgressEndCause.EGRESS_END_CAUSE_TRACK_ENDED
ROOM_CLOSED: Final = EgressEndCause.EGRESS_END_CAUSE_ROOM_CLOSED
BROKE: Final = EgressEndCause.EGRESS_END_CAUSE_FAILED
BY_LIVEKIT: Final = EgressEndCause.EGRESS_END_CAUSE_ENDED_BY_LIVEKIT

MAX_FAILURES: Final = 10
"""Parts that failed one after the other, after which a recording is not tried again."""

GRACE_S: Final = 2.0
"""LiveKit may tell that a recording is over before it tells that its track is: so long it is waited for, in seconds."""

_ENDED: Final = frozenset({COMPLETE, FAILED, ABORTED})
_PART_ENDED: Final = frozenset({"EGRESS_COMPLETE", "EGRESS_FAILED", "EGRESS_ABORTED", "EGRESS_LIMIT_REACHED"})
_PART_DONE: Final = frozenset({"EGRESS_COMPLETE", "EGRESS_LIMIT_REACHED"})
_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to record. SIDs are empty where there is no such track now.

    ``over``: why nothing will come any more. ``audio_awaited``: an audio track belongs to it that is not there now, and
    may come back.
    """

    track_sid: str = ""
    audio_sid: str = ""
    over: "EgressEndCause.ValueType | None" = None
    audio_awaited: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """Have these recorded as a new part."""

    track_sid: str
    audio_sid: str


@dataclass(frozen=True, slots=True)
class Look:
    """LiveKit was asked, and what it said is not known: look whether it records."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Have the running part ended. ``cause``: why the whole ends; None where it goes on."""

    cause: "EgressEndCause.ValueType | None"


@dataclass(frozen=True, slots=True)
class Finish:
    """It is over."""

    cause: "EgressEndCause.ValueType"


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until something changes, or ``seconds`` have passed."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The last part failed; another is to begin after so many seconds."""

    seconds: float


Step = Begin | Look | Halt | Finish | Rest | Retry


def ended(egress: TrackEgress) -> bool:
    """Whether it is over."""
    return egress.state in _ENDED


def part_ended(part: EgressPart) -> bool:
    """Whether that part is over."""
    return part.livekit_status in _PART_ENDED


def running(egress: TrackEgress) -> EgressPart | None:
    """The part that is not over."""
    return egress.parts[-1] if egress.parts and not part_ended(egress.parts[-1]) else None


def needs_secrets(egress: TrackEgress) -> bool:
    """Whether LiveKit may be asked for it again."""
    if ended(egress) or egress.end_cause:
        return False
    return bool(egress.publication_id or egress.rule_name) or not any(part.livekit_egress_id for part in egress.parts)


def next_step(egress: TrackEgress, scene: Scene, now_s: float, part_over_s: float) -> Step:
    """What to do now. In seconds: ``now_s`` since 1970, ``part_over_s`` since the last part was seen to be over."""
    part = running(egress)
    if part is not None:
        return _while_running(egress, part, scene)
    if egress.end_cause:
        return Finish(egress.end_cause)
    if scene.over is not None:
        return Finish(scene.over)
    if egress.parts and _same(egress.parts[-1], scene):
        # What was recorded is still there, and its recording is over by itself.
        if part_over_s < GRACE_S:
            return Rest(GRACE_S - part_over_s)
        if egress.parts[-1].livekit_status != "EGRESS_FAILED":
            return Finish(BY_LIVEKIT)
        if not may_retry(egress):
            return Finish(BROKE)
        if not egress.HasField("next_try_time"):
            return Retry(pause_s(failures(egress)))
    if not scene.track_sid or (scene.audio_awaited and not scene.audio_sid):
        return Rest()
    due = seconds_of(egress.next_try_time) if egress.HasField("next_try_time") else 0.0
    if now_s < due:
        return Rest(due - now_s)
    return Begin(scene.track_sid, scene.audio_sid)


def _while_running(egress: TrackEgress, part: EgressPart, scene: Scene) -> Step:
    if not part.livekit_egress_id:
        return Look()
    if egress.end_cause:
        return Halt(egress.end_cause)
    if scene.over is not None:
        return Halt(scene.over)
    other_track = scene.track_sid != part.track_sid
    other_audio = bool(scene.audio_sid) and scene.audio_sid != part.audio_track_sid
    return Halt(None) if other_track or other_audio else Rest()


def _same(part: EgressPart, scene: Scene) -> bool:
    return scene.track_sid == part.track_sid and (not scene.audio_sid or scene.audio_sid == part.audio_track_sid)


def may_retry(egress: TrackEgress) -> bool:
    """Whether it is tried again after a failure: one of a rule, or of a publication that was recorded before."""
    lasting = egress.rule_name or (egress.publication_id and any(part.HasField("start_time") for part in egress.parts))
    return bool(lasting) and failures(egress) < MAX_FAILURES


def failures(egress: TrackEgress) -> int:
    """Parts that failed, one after the other, at its end."""
    count = 0
    for part in reversed(egress.parts):
        if part.livekit_status != "EGRESS_FAILED":
            break
        count += 1
    return count


def pause_s(tries: int) -> float:
    """How long to wait after that many failed tries, 1 or more, in seconds."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries - 1, 10))


def finished(egress: TrackEgress, cause: "EgressEndCause.ValueType", now: Timestamp) -> TrackEgress:
    """It, over for that reason."""
    result = TrackEgress()
    result.CopyFrom(egress)
    last = egress.parts[-1] if egress.parts else None
    recorded = any(part.livekit_status in _PART_DONE for part in egress.parts)
    if last is not None and last.livekit_status == "EGRESS_FAILED" and last.HasField("start_time"):
        # Whatever ended it: what was recorded is not there.
        cause = BROKE
    if cause == BROKE:
        result.state = FAILED
        if not result.HasField("problem"):
            result.problem.CopyFrom(failure_of(last))
    else:
        result.state = COMPLETE if recorded else ABORTED
        result.ClearField("problem")
    result.end_cause = cause
    result.ClearField("next_try_time")
    result.end_time.CopyFrom(now)
    return result


def failure_of(part: EgressPart | None) -> Problem:
    """Why a part failed, as Egress says."""
    problem = Problem(code=13, message="the recording failed")
    if part is not None and part.error:
        problem.message = f"Egress failed: {part.error}"
    return problem


def with_part(egress: TrackEgress, told: EgressPart) -> TrackEgress:
    """It with what LiveKit tells of one of its parts."""
    result = TrackEgress()
    result.CopyFrom(egress)
    for part in result.parts:
        if part.livekit_egress_id != told.livekit_egress_id or part_ended(part):
            continue
        part.livekit_status = told.livekit_status
        part.error = told.error
        for name in ("start_time", "end_time"):
            if told.HasField(name):
                getattr(part, name).CopyFrom(getattr(told, name))
        del part.files[:]
        part.files.extend(told.files)
    if not ended(result):
        result.state = _state(result)
        if result.state == ACTIVE:
            result.ClearField("problem")
    return result


def _state(egress: TrackEgress) -> "EgressState.ValueType":
    if egress.end_cause:
        return ENDING
    part = running(egress)
    if part is None:
        return egress.state if egress.state != ACTIVE else ENDING
    match part.livekit_status:
        case "EGRESS_ACTIVE":
            return ACTIVE
        case "EGRESS_ENDING":
            return ENDING
        case _:
            return STARTING
