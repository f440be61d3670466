"""Quality policies and adaptation by hand: what tests write often of them."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.publications import DEADLINE_S
from tests.track_process import Client
from track.v1 import quality_policy_pb2 as pb

NETWORK = pb.QUALITY_ACTION_KIND_LIMIT_NETWORK
CPU = pb.QUALITY_ACTION_KIND_LIMIT_CPU
CAP = pb.QUALITY_ACTION_KIND_CAP_PUBLISHER
OFF = pb.QUALITY_ACTION_KIND_VIDEO_OFF
RESTART = pb.QUALITY_ACTION_KIND_RESTART
UNJUDGED = pb.QUALITY_VERDICT_UNSPECIFIED


def policy(*allowed: "pb.QualityActionKind.ValueType", **fields: Any) -> pb.QualityPolicy:
    """A policy that allows those."""
    return pb.QualityPolicy(allowed_actions=allowed, **fields)


def quick(*allowed: "pb.QualityActionKind.ValueType", **fields: Any) -> pb.QualityPolicy:
    """A policy that acts and judges as soon as the contract lets it."""
    wanted = policy(*allowed, **fields)
    shortest = {
        "step_down_interval": 1,
        "settle_time": 4,
        "observe_time": 5,
        "calm_time": 5,
        "probe_time": 2,
        "min_backoff": 1,
    }
    for name, seconds in shortest.items():
        getattr(wanted.timing, name).FromSeconds(seconds)
    return wanted


async def set_policy(
    client: Client, room: str, wanted: pb.QualityPolicy, identity: str = "", track_sid: str = "", **fields: Any
) -> pb.QualityPolicy:
    """Sets it; as it is kept."""
    request = pb.SetQualityPolicyRequest(
        room=room, participant_identity=identity, track_sid=track_sid, policy=wanted, **fields
    )
    kept: pb.QualityPolicy = (await client.SetQualityPolicy(request, timeout=DEADLINE_S)).policy
    return kept


async def get_policy(client: Client, room: str, identity: str = "", track_sid: str = "") -> pb.GetQualityPolicyResponse:
    """The policy of the room, the participant or the track, and the one that holds."""
    request = pb.GetQualityPolicyRequest(room=room, participant_identity=identity, track_sid=track_sid)
    answer: pb.GetQualityPolicyResponse = await client.GetQualityPolicy(request, timeout=DEADLINE_S)
    return answer


async def delete_policy(
    client: Client, room: str, identity: str = "", track_sid: str = "", **fields: Any
) -> pb.QualityPolicy:
    """Removes it; as it was."""
    request = pb.DeleteQualityPolicyRequest(room=room, participant_identity=identity, track_sid=track_sid, **fields)
    gone: pb.QualityPolicy = (await client.DeleteQualityPolicy(request, timeout=DEADLINE_S)).policy
    return gone


async def adapt(
    client: Client,
    room: str,
    kind: "pb.QualityActionKind.ValueType",
    identity: str = "",
    track_sid: str = "",
    **fields: Any,
) -> pb.QualityAction:
    """One action by hand."""
    request = pb.ApplyAdaptationRequest(
        room=room, kind=kind, participant_identity=identity, track_sid=track_sid, **fields
    )
    action: pb.QualityAction = (await client.ApplyAdaptation(request, timeout=DEADLINE_S)).action
    return action


async def actions(
    client: Client,
    room: str,
    holds: Callable[[list[pb.QualityAction]], bool] = lambda _: True,
    matching: str = "",
) -> list[pb.QualityAction]:
    """Those of the room, newest first, once that holds of them."""
    request = pb.ListAdaptationsRequest(room=room, filter=matching)
    found: list[pb.QualityAction] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = list((await client.ListAdaptations(request)).actions)
                if holds(found):
                    return found
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise AssertionError(f"they are still {found}") from error
