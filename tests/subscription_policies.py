"""Subscription policies: what tests write often of them."""

from typing import Any

from tests.track_process import Client
from track.v1 import subscription_pb2 as pb

SUBSCRIBE = pb.SUBSCRIPTION_ACTION_SUBSCRIBE
UNSUBSCRIBE = pb.SUBSCRIPTION_ACTION_UNSUBSCRIBE
LEAVE = pb.SUBSCRIPTION_ACTION_UNSPECIFIED


def rule(
    name: str,
    condition: str = "",
    action: "pb.SubscriptionAction.ValueType" = SUBSCRIBE,
    *,
    choose: bool = False,
    **settings: Any,
) -> pb.SubscriptionRule:
    """A rule. ``settings``: of SubscriptionSettings."""
    made = pb.SubscriptionRule(name=name, condition=condition, action=action, client_may_choose=choose)
    if settings:
        made.settings.CopyFrom(pb.SubscriptionSettings(**settings))
    return made


def policy(*rules: pb.SubscriptionRule, **fields: Any) -> pb.SubscriptionPolicy:
    """A policy of those rules."""
    return pb.SubscriptionPolicy(rules=rules, **fields)


async def set_policy(
    client: Client, room: str, wanted: pb.SubscriptionPolicy, identity: str = "", **fields: Any
) -> pb.SubscriptionPolicy:
    """Sets it; as it is kept."""
    request = pb.SetSubscriptionPolicyRequest(room=room, participant_identity=identity, policy=wanted, **fields)
    answer = await client.SetSubscriptionPolicy(request, timeout=30)
    kept: pb.SubscriptionPolicy = answer.policy
    return kept


async def get_policy(client: Client, room: str, identity: str = "") -> pb.GetSubscriptionPolicyResponse:
    """The policy of the room, or of the subscriber."""
    request = pb.GetSubscriptionPolicyRequest(room=room, participant_identity=identity)
    answer: pb.GetSubscriptionPolicyResponse = await client.GetSubscriptionPolicy(request, timeout=30)
    return answer


async def delete_policy(client: Client, room: str, identity: str = "", **fields: Any) -> pb.SubscriptionPolicy:
    """Removes it; as it was."""
    request = pb.DeleteSubscriptionPolicyRequest(room=room, participant_identity=identity, **fields)
    answer = await client.DeleteSubscriptionPolicy(request, timeout=30)
    gone: pb.SubscriptionPolicy = answer.policy
    return gone


async def explain(client: Client, room: str, **fields: Any) -> list[pb.SubscriptionExplanation]:
    """The first page."""
    request = pb.ExplainSubscriptionsRequest(room=room, **fields)
    answer = await client.ExplainSubscriptions(request, timeout=30)
    return list(answer.explanations)
