"""What a quality policy says, in the words of the pure core. Pure."""

from dataclasses import replace
from typing import Final

from track.v1.quality_policy_pb2 import QualityActionKind, QualityPolicy, QualityTiming
from track.v1.track_pb2 import VideoQuality
from track_server.durations import seconds_of
from track_server.quality.core.adapting.ladder import HIGH, LOW, MEDIUM, OFF, ActionKind, Policy, Timing

LAYERS: Final = {
    VideoQuality.VIDEO_QUALITY_OFF: OFF,
    VideoQuality.VIDEO_QUALITY_LOW: LOW,
    VideoQuality.VIDEO_QUALITY_MEDIUM: MEDIUM,
    VideoQuality.VIDEO_QUALITY_HIGH: HIGH,
}
QUALITIES: Final = {layer: quality for quality, layer in LAYERS.items()}

KINDS: Final = {
    QualityActionKind.QUALITY_ACTION_KIND_LIMIT_NETWORK: ActionKind.LIMIT_NETWORK,
    QualityActionKind.QUALITY_ACTION_KIND_LIMIT_CPU: ActionKind.LIMIT_CPU,
    QualityActionKind.QUALITY_ACTION_KIND_CAP_PUBLISHER: ActionKind.CAP_PUBLISHER,
    QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF: ActionKind.VIDEO_OFF,
    QualityActionKind.QUALITY_ACTION_KIND_RESTART: ActionKind.RESTART,
}
MESSAGE_KINDS: Final = {kind: message for message, kind in KINDS.items()}

_SPANS: Final = {
    "step_down_interval": "step_s",
    "settle_time": "settle_s",
    "observe_time": "observe_s",
    "calm_time": "calm_s",
    "probe_time": "probe_s",
    "min_backoff": "backoff_s",
    "max_backoff": "backoff_most_s",
    "reversals_within": "reversals_within_s",
    "freeze_time": "freeze_s",
}
"""Durations of the contract, and the spans of the core that they set."""


def timing_of(timing: QualityTiming) -> Timing:
    """Its spans, and the defaults for what it leaves open."""
    given = {_SPANS[field.name]: seconds_of(span) for field, span in timing.ListFields() if field.name in _SPANS}
    default = Timing()
    return replace(
        default,
        **given,
        reversals=timing.reversals or default.reversals,
        budget=timing.actions_per_minute or default.budget,
    )


def floor_of(policy: QualityPolicy) -> int:
    """The lowest layer that is left: LOW where the policy does not say, and OFF where video may be switched off."""
    if policy.floor:
        return LAYERS[policy.floor]
    return OFF if QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF in policy.allowed_actions else LOW


def policy_of(policy: QualityPolicy) -> Policy:
    """What it allows."""
    return Policy(
        allowed=frozenset(KINDS[kind] for kind in policy.allowed_actions),
        floor=floor_of(policy),
        hold_back=policy.held_back_share,
        timing=timing_of(policy.timing),
    )
