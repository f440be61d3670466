"""Whether a quality policy can be kept: what it says, and whether it can be done there."""

from typing import Final

from track.v1.quality_policy_pb2 import QualityActionKind, QualityPolicy
from track.v1.track_pb2 import TRACK_TYPE_VIDEO, Track
from track_server.errors import InvalidField, NotSupported
from track_server.quality.policies.reading import LAYERS, timing_of

LAYER_LIMITS: Final = frozenset(
    {QualityActionKind.QUALITY_ACTION_KIND_LIMIT_NETWORK, QualityActionKind.QUALITY_ACTION_KIND_LIMIT_CPU}
)
"""What is done by the subscriber's own client."""
RESTART: Final = QualityActionKind.QUALITY_ACTION_KIND_RESTART
_OF_VIDEO: Final = LAYER_LIMITS | {
    QualityActionKind.QUALITY_ACTION_KIND_CAP_PUBLISHER,
    QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF,
}
_LEAST_REVERSALS: Final = 2


def checked(policy: QualityPolicy, room: str, identity: str, track_sid: str) -> QualityPolicy:
    """The policy as that of the room, the participant or the track, without what is output only. Raises
    InvalidField."""
    found = QualityPolicy()
    found.CopyFrom(policy)
    for field, wanted in (("room", room), ("participant_identity", identity), ("track_sid", track_sid)):
        if getattr(found, field) not in ("", wanted):
            raise InvalidField(f"the policy has another `{field}` than the request", field=f"policy.{field}")
        setattr(found, field, wanted)
    found.ClearField("etag")
    found.ClearField("update_time")
    found.ClearField("creator_identity")
    if found.floor and QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF in found.allowed_actions:
        raise InvalidField("VIDEO_OFF leaves nothing of a video, so it goes with no `floor`", field="policy.floor")
    if found.floor and found.targets.quality and LAYERS[found.floor] > LAYERS[found.targets.quality]:
        raise InvalidField("`floor` is above `targets.quality`", field="policy.floor")
    if 0 < found.timing.reversals < _LEAST_REVERSALS:
        raise InvalidField(f"at least {_LEAST_REVERSALS} reversals", field="policy.timing.reversals")
    timing = timing_of(found.timing)
    if timing.backoff_s > timing.backoff_most_s:
        given = "min_backoff" if found.timing.HasField("min_backoff") else "max_backoff"
        raise InvalidField(
            f"`min_backoff` ({timing.backoff_s:g} s) is above `max_backoff` ({timing.backoff_most_s:g} s)",
            field=f"policy.timing.{given}",
        )
    return found


def refuse_of_sound(policy: QualityPolicy, track: Track) -> None:
    """Raises NotSupported where the policy allows what is for video, and the track is none."""
    if track.type == TRACK_TYPE_VIDEO:
        return
    for kind in policy.allowed_actions:
        if kind in _OF_VIDEO:
            raise NotSupported(f"{name_of(kind)} is for video, and the track is none", field="policy.allowed_actions")
    if policy.floor:
        raise InvalidField("a floor is for video, and the track is none", field="policy.floor")


def name_of(kind: "QualityActionKind.ValueType") -> str:
    """As callers write it, without the prefix."""
    return QualityActionKind.Name(kind).removeprefix("QUALITY_ACTION_KIND_")
