"""Actions as the contract's messages, made and never changed. Pure."""

import secrets
from typing import Final

from track.v1.error_pb2 import Problem
from track.v1.publication_pb2 import Stage
from track.v1.quality_policy_pb2 import (
    QualityAction,
    QualityActionKind,
    QualityEffectMeasure,
    QualityMove,
    QualityVerdict,
)
from track.v1.track_pb2 import VideoQuality
from track_server.durations import timestamp_at
from track_server.quality.clock import Moment
from track_server.quality.core.adapting.action import Action, Move
from track_server.quality.core.adapting.ladder import ActionKind, Family, Line
from track_server.quality.core.adapting.measure import Measure, Verdict
from track_server.quality.policies.reading import KINDS, LAYERS, MESSAGE_KINDS, QUALITIES

MOVES: Final = {
    Move.DOWN: QualityMove.QUALITY_MOVE_DOWN,
    Move.UP: QualityMove.QUALITY_MOVE_UP,
    Move.BACK: QualityMove.QUALITY_MOVE_BACK,
    Move.RELEASE: QualityMove.QUALITY_MOVE_RELEASE,
}
_CORE_MOVES: Final = {message: move for move, message in MOVES.items()}
VERDICTS: Final = {
    Verdict.IMPROVED: QualityVerdict.QUALITY_VERDICT_IMPROVED,
    Verdict.NONE: QualityVerdict.QUALITY_VERDICT_NONE,
    Verdict.WORSE: QualityVerdict.QUALITY_VERDICT_WORSE,
    Verdict.CANNOT_TELL: QualityVerdict.QUALITY_VERDICT_CANNOT_TELL,
}
CANNOT_TELL: Final = QualityVerdict.QUALITY_VERDICT_CANNOT_TELL
FAMILIES: Final = {
    QualityActionKind.QUALITY_ACTION_KIND_LIMIT_NETWORK: Family.DOWNLINK,
    QualityActionKind.QUALITY_ACTION_KIND_LIMIT_CPU: Family.RECEIVER,
    QualityActionKind.QUALITY_ACTION_KIND_CAP_PUBLISHER: Family.UPLINK,
    QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF: Family.DOWNLINK,
    QualityActionKind.QUALITY_ACTION_KIND_RESTART: Family.MEDIA,
}
"""By hand: on whose numbers the effect of an action shows."""


def new_id() -> str:
    """Of an action."""
    return f"QX_{secrets.token_hex(10)}"


def taken(action: Action, moment: Moment) -> QualityAction:
    """The action, a moment ago or now. ``moment``: now."""
    message = QualityAction(
        action_id=new_id(),
        move=MOVES[action.move],
        kind=MESSAGE_KINDS[action.kind],
        participant_identity=action.line.identity,
        track_sid=action.line.track_sid,
        quality=VideoQuality.VIDEO_QUALITY_UNSPECIFIED if action.quality is None else QUALITIES[action.quality],
        reason=action.reason,
        held_back=action.held,
        time=timestamp_at(moment.time_s - (moment.monotonic_s - action.time_s)),
        before=measured(action.before),
    )
    if not action.held:
        message.stage = Stage.STAGE_REQUESTED
    return message


def released(line: Line, kind: ActionKind, moment: Moment) -> QualityAction:
    """All steps of the line are taken back, because of its policies."""
    return QualityAction(
        action_id=new_id(),
        move=QualityMove.QUALITY_MOVE_RELEASE,
        kind=MESSAGE_KINDS[kind],
        participant_identity=line.identity,
        track_sid=line.track_sid,
        quality=VideoQuality.VIDEO_QUALITY_HIGH,
        reason="policy",
        time=timestamp_at(moment.time_s),
        stage=Stage.STAGE_REQUESTED,
    )


def judged(action: QualityAction, after: Measure | None, verdict: Verdict | None) -> QualityAction:
    """The action and what it did; ``after`` None: nothing was measured any more."""
    found = QualityAction()
    found.CopyFrom(action)
    found.verdict = CANNOT_TELL if verdict is None else VERDICTS[verdict]
    measure = None if after is None else measured(after)
    if measure is not None:
        found.after.CopyFrom(measure)
    return found


def as_action(message: QualityAction, line: Line, before: Measure, moment: Moment) -> Action:
    """An action that is none of the state machine's, in the words of the core, so that its effect can be judged."""
    return Action(
        number=0,
        line=line,
        move=_CORE_MOVES[message.move],
        kind=KINDS[message.kind],
        quality=LAYERS.get(message.quality),
        reason=message.reason,
        time_s=moment.monotonic_s,
        held=False,
        before=before,
    )


def carried_out(action: QualityAction, stage: "Stage.ValueType", problem: Problem | None = None) -> QualityAction:
    """The action, as far as it got."""
    found = QualityAction()
    found.CopyFrom(action)
    found.stage = stage
    if problem is not None:
        found.problem.CopyFrom(problem)
    return found


def measured(measure: Measure) -> QualityEffectMeasure | None:
    """None where nothing was."""
    if measure.seconds <= 0:
        return None
    return QualityEffectMeasure(
        lost_packets=measure.lost,
        packets=measure.packets,
        concealed_frames=measure.concealed,
        frames=measure.frames,
        frozen_s=measure.frozen_s,
        shown_s=measure.shown_s,
        troubled_s=measure.troubled_s,
        seconds=measure.seconds,
        rtt_ms=measure.mean_rtt_ms,
    )
