"""The three RPCs about private tracks, shortly said."""

from typing import Any

from tests.track_process import Client
from track.v1 import publication_pb2
from track.v1 import subscription_permission_pb2 as pb

ENFORCED = pb.SUBSCRIPTION_ENFORCEMENT_ENFORCED
WATCHED = pb.SUBSCRIPTION_ENFORCEMENT_WATCHED
REFUSED_HERE_ONLY = pb.SUBSCRIPTION_ENFORCEMENT_REFUSED_HERE_ONLY
UNRESTRICTED = pb.SUBSCRIPTION_ENFORCEMENT_UNSPECIFIED
OBSERVED = publication_pb2.STAGE_OBSERVED
ACKNOWLEDGED = publication_pb2.STAGE_ACKNOWLEDGED
REQUESTED = publication_pb2.STAGE_REQUESTED
DEBUG_VIEW = publication_pb2.EVIDENCE_DEBUG_VIEW
UNSEEN = publication_pb2.EVIDENCE_UNSPECIFIED

STAFF = 'participant.attributes["role"] == "staff"'


def rule(*identities: str, filter: str = "", nobody: bool = False) -> pb.TrackSubscriptionRule:  # noqa: A002
    """A rule."""
    return pb.TrackSubscriptionRule(participant_identities=identities, filter=filter, nobody=nobody)


async def restrict(
    client: Client, room: str, wanted: pb.TrackSubscriptionRule, **target: Any
) -> pb.SetTrackSubscriptionPermissionsResponse:
    """SetTrackSubscriptionPermissions; ``within_s``: its deadline."""
    within_s = target.pop("within_s", 20)
    request = pb.SetTrackSubscriptionPermissionsRequest(room=room, rule=wanted, **target)
    answer: pb.SetTrackSubscriptionPermissionsResponse = await client.SetTrackSubscriptionPermissions(
        request, timeout=within_s
    )
    return answer


async def shown(client: Client, room: str, **target: Any) -> pb.TrackSubscriptionPermissions:
    """GetTrackSubscriptionPermissions."""
    request = pb.GetTrackSubscriptionPermissionsRequest(room=room, **target)
    permissions: pb.TrackSubscriptionPermissions = (
        await client.GetTrackSubscriptionPermissions(request, timeout=45)
    ).permissions
    return permissions


async def clear(client: Client, room: str, **target: Any) -> pb.ClearTrackSubscriptionPermissionsResponse:
    """ClearTrackSubscriptionPermissions."""
    request = pb.ClearTrackSubscriptionPermissionsRequest(room=room, **target)
    answer: pb.ClearTrackSubscriptionPermissionsResponse = await client.ClearTrackSubscriptionPermissions(
        request, timeout=20
    )
    return answer
