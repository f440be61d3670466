"""What is tried where publishing fails: its defaults, which the contract tells."""

from typing import Final

from track.v1.publication_pb2 import FallbackStep, PublicationSpec
from track_server.durations import duration_of

DEFAULT_STEPS: Final = (
    FallbackStep.FALLBACK_STEP_CODEC,
    FallbackStep.FALLBACK_STEP_SIMULCAST,
    FallbackStep.FALLBACK_STEP_SIZE,
    FallbackStep.FALLBACK_STEP_FRAME_RATE,
    FallbackStep.FALLBACK_STEP_BITRATE,
)
DEFAULT_MAX_ATTEMPTS: Final = 5
DEFAULT_DEADLINE_S: Final = 30.0


def complete_fallback(spec: PublicationSpec) -> None:
    """Fills in the defaults; what Ingress publishes is tried once."""
    if spec.HasField("ingress"):
        return
    fallback = spec.fallback
    if not fallback.steps:
        fallback.steps.extend(DEFAULT_STEPS)
    fallback.max_attempts = fallback.max_attempts or DEFAULT_MAX_ATTEMPTS
    if not fallback.HasField("deadline"):
        fallback.deadline.CopyFrom(duration_of(DEFAULT_DEADLINE_S))
