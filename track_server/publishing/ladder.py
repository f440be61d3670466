"""Down the ladder: what is tried next where publishing failed. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from track.v1 import error_pb2, publication_pb2
from track.v1.publication_pb2 import FallbackStep, PublicationAttempt, PublicationSpec, VideoCodec, VideoOptions
from track_server.durations import seconds_of
from track_server.publishing.spec.fallback import DEFAULT_DEADLINE_S, DEFAULT_MAX_ATTEMPTS, DEFAULT_STEPS
from track_server.publishing.spec.kinds import AUDIO, VIDEO
from track_server.publishing.spec.layers import SIMULCAST_EDGE, most_usable_bps
from track_server.publishing.spec.video import MIN_BITRATE_BPS, sent_below_bps

CODEC: Final = FallbackStep.FALLBACK_STEP_CODEC
SIZE: Final = FallbackStep.FALLBACK_STEP_SIZE
FRAME_RATE: Final = FallbackStep.FALLBACK_STEP_FRAME_RATE
BITRATE: Final = FallbackStep.FALLBACK_STEP_BITRATE
SIMULCAST: Final = FallbackStep.FALLBACK_STEP_SIMULCAST

# A publication that fails does so within a tenth of a second, mostly: the first tries come fast.
_DELAY_FIRST_S: Final = 0.1
_DELAY_LAST_S: Final = 2.0

# The contract's least values.
_MIN_EDGE: Final = 16
_MIN_FRAMES_PER_SECOND: Final = 5.0
_MIN_AUDIO_BPS: Final = 6_000
_PLAINEST: Final = (publication_pb2.VIDEO_CODEC_VP8, publication_pb2.VIDEO_CODEC_UNSPECIFIED)


class Outlook(Enum):
    """What another try may bring."""

    HOPELESS = "the same again, whatever is tried"
    PASSING = "it may pass by itself"
    LOWER = "less may be possible"


_HOPELESS: Final = frozenset(
    {
        error_pb2.ERROR_REASON_PERMISSION_DENIED,
        error_pb2.ERROR_REASON_TARGET_PERMISSION,
        error_pb2.ERROR_REASON_IDENTITY_IN_USE,
        error_pb2.ERROR_REASON_LIMIT_EXCEEDED,
        error_pb2.ERROR_REASON_NOT_FOR_DATA_TRACKS,
        error_pb2.ERROR_REASON_NOT_SUPPORTED,
        error_pb2.ERROR_REASON_CONSENT_REFUSED,
        error_pb2.ERROR_REASON_INVALID_FIELD,
        error_pb2.ERROR_REASON_INVALID_OPTIONS,
        error_pb2.ERROR_REASON_MEDIA_NOT_ALLOWED,
    }
)
OF_THE_INPUT: Final = frozenset({error_pb2.ERROR_REASON_MEDIA_NOT_FOUND, error_pb2.ERROR_REASON_MEDIA_INVALID})
"""What was there and can be read no more may come back; what never could be read will not."""
_LOWER: Final = frozenset(
    {
        error_pb2.ERROR_REASON_PUBLISH_FAILED,
        error_pb2.ERROR_REASON_INTERNAL,
        error_pb2.ERROR_REASON_COMPANION_FAILED,
    }
)


def outlook(problem: error_pb2.Problem, *, was_live: bool) -> Outlook:
    """What another try may bring after ``problem``. ``was_live``: it was in the room before."""
    if problem.reason in _HOPELESS or (problem.reason in OF_THE_INPUT and not was_live):
        return Outlook.HOPELESS
    return Outlook.LOWER if problem.reason in _LOWER else Outlook.PASSING


@dataclass(frozen=True, slots=True)
class Ladder:
    """What a spec declares, with the defaults of the contract."""

    steps: tuple["FallbackStep.ValueType", ...]
    max_attempts: int
    deadline_s: float


def ladder_of(spec: PublicationSpec) -> Ladder:
    """The ladder of a spec."""
    declared = spec.fallback
    return Ladder(
        steps=tuple(declared.steps) or DEFAULT_STEPS,
        max_attempts=declared.max_attempts or DEFAULT_MAX_ATTEMPTS,
        deadline_s=seconds_of(declared.deadline) if declared.HasField("deadline") else DEFAULT_DEADLINE_S,
    )


def lowered(spec: PublicationSpec, kind: int, step: "FallbackStep.ValueType") -> PublicationSpec:
    """``spec`` for a track of type ``kind`` with one step down; the same where it would change nothing."""
    result = PublicationSpec()
    result.CopyFrom(spec)
    if kind == VIDEO:
        _lower_video(result, step)
    elif kind == AUDIO and step == BITRATE and result.audio.max_bitrate_bps > _MIN_AUDIO_BPS:
        result.audio.max_bitrate_bps = max(_MIN_AUDIO_BPS, result.audio.max_bitrate_bps // 2)
    return result


def next_step(
    spec: PublicationSpec, kind: int, taken: Sequence["FallbackStep.ValueType"]
) -> "FallbackStep.ValueType | None":
    """The next step of the ladder that changes something, after those taken; None where there is none.

    ``spec``: as it was tried last, with those steps down.
    """
    left = list(ladder_of(spec).steps)
    for step in taken:
        # Some were left out on the way: those before a step that was taken are not gone back to.
        if step in left:
            del left[: left.index(step) + 1]
    return next((step for step in left if lowered(spec, kind, step) != spec), None)


def delay_s(failures: int, chance: float) -> float:
    """Seconds from the ``failures``-th failure in a row (from 1) to the next try. ``chance``: 0 to 1, at random."""
    return min(_DELAY_LAST_S, _DELAY_FIRST_S * float(2 ** min(failures - 1, 10))) * (0.5 + chance / 2)


def within(spec: PublicationSpec, codecs: Collection["VideoCodec.ValueType"] | None) -> PublicationSpec:
    """``spec`` with a ladder that keeps to the codecs that its creator may use; None: all."""
    if codecs is None or publication_pb2.VIDEO_CODEC_VP8 in codecs or CODEC not in ladder_of(spec).steps:
        return spec
    result = PublicationSpec()
    result.CopyFrom(spec)
    result.fallback.steps[:] = [step for step in ladder_of(spec).steps if step != CODEC]
    return result


def failed_in_a_row(attempts: Sequence[PublicationAttempt]) -> Sequence[PublicationAttempt]:
    """The latest tries that failed, one after the other."""
    count = 0
    while count < len(attempts) and attempts[-1 - count].HasField("problem"):
        count += 1
    return attempts[len(attempts) - count :]


def steps_of(attempts: Sequence[PublicationAttempt]) -> tuple["FallbackStep.ValueType", ...]:
    """The steps down that are in force after those tries."""
    return tuple(attempts[-1].steps) if attempts else ()


def may_try_again(spec: PublicationSpec, attempts: Sequence[PublicationAttempt], now_s: float, pause_s: float) -> bool:
    """Whether one more try ``pause_s`` after ``now_s`` (seconds since 1970) is within budget and deadline."""
    ladder = ladder_of(spec)
    failed = failed_in_a_row(attempts)
    if len(failed) >= ladder.max_attempts:
        return False
    # When a try failed is not kept; the next one began right after.
    first_failed_s = seconds_of(failed[1].begin_time) if len(failed) > 1 else now_s
    return now_s + pause_s - first_failed_s < ladder.deadline_s


def may_change_codec(spec: PublicationSpec) -> bool:
    """Whether another codec may be taken in the place of the one asked for."""
    ladder = ladder_of(spec)
    return CODEC in ladder.steps and ladder.max_attempts > 1 and not spec.push.HasField("encoded_video")


def _lower_video(spec: PublicationSpec, step: int) -> None:
    video = spec.video
    encoded = spec.push.HasField("encoded_video")
    match step:
        case FallbackStep.FALLBACK_STEP_CODEC if video.codec not in _PLAINEST and not encoded:
            video.codec = publication_pb2.VIDEO_CODEC_VP8
            video.ClearField("scalability_mode")
        # Not said: the choice of whoever encodes.
        case FallbackStep.FALLBACK_STEP_SIMULCAST if video.simulcast or not video.HasField("simulcast"):
            _one_layer(video)
        # The size of pushed frames is their sender's.
        case FallbackStep.FALLBACK_STEP_SIZE if spec.WhichOneof("input") != "push":
            _halve_size(video)
        case FallbackStep.FALLBACK_STEP_FRAME_RATE if video.frames_per_second > _MIN_FRAMES_PER_SECOND and not encoded:
            _halve_rate(video)
        case FallbackStep.FALLBACK_STEP_BITRATE if video.max_bitrate_bps > MIN_BITRATE_BPS and not encoded:
            _halve_bitrate(video)
        case _:
            pass
    if video.simulcast and not video.layers and video.max_bitrate_bps < sent_below_bps(spec):
        video.simulcast = False


def _one_layer(video: VideoOptions) -> None:
    video.simulcast = False
    video.ClearField("layers")


def _halve_size(video: VideoOptions) -> None:
    if min(video.width, video.height) < 2 * _MIN_EDGE:
        return
    video.width, video.height = _half(video.width), _half(video.height)
    if video.simulcast and max(video.width, video.height) < SIMULCAST_EDGE:
        video.simulcast = False
    _fit(video)


def _halve_rate(video: VideoOptions) -> None:
    video.frames_per_second = max(_MIN_FRAMES_PER_SECOND, video.frames_per_second / 2)
    _fit(video)


def _halve_bitrate(video: VideoOptions) -> None:
    video.max_bitrate_bps = max(MIN_BITRATE_BPS, video.max_bitrate_bps // 2)
    _fit(video)


def _fit(video: VideoOptions) -> None:
    """Layers that were named one by one are those of the whole; a bitrate that no encoder can use is refused."""
    video.ClearField("layers")
    video.ClearField("scalability_mode")
    if video.width and video.frames_per_second:
        most = most_usable_bps(video.width, video.height, video.frames_per_second)
        video.max_bitrate_bps = min(video.max_bitrate_bps, max(MIN_BITRATE_BPS, most))


def _half(edge: int) -> int:
    return max(_MIN_EDGE, edge // 4 * 2)
