"""Whether a policy can be kept."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from track.v1.event_pb2 import ParticipantQuality
from track.v1.subscription_pb2 import SubscriptionPolicy
from track.v1.track_pb2 import Participant, Track
from track_server.cel import EXHAUSTED, Outcome
from track_server.errors import InvalidExpression, InvalidField
from track_server.subscription.policies.condition import Condition, Memory, condition_of, values_of
from track_server.subscription.policies.settings import of_video_alone

_MOST_BYTES: Final = 64 << 10
# CPU seconds for all conditions of a policy, of one subscriber and one track. Conditions that look at names and
# attributes take 0.00001 to 0.00004 each.
_BUDGET_S: Final = 0.02
_TIMES: Final = 3


async def check(policy: SubscriptionPolicy, room: str, identity: str, field: str = "policy") -> None:
    """Returns where the policy can be kept as that of the room, or of the subscriber in it; fills in both.

    Raises InvalidField, and InvalidExpression with the rule's place. Lets others run between the rules.
    """
    if policy.room not in ("", room):
        raise InvalidField("the policy is of another room than the request", field=f"{field}.room")
    if policy.participant_identity not in ("", identity):
        raise InvalidField(
            "the policy is of another participant than the request", field=f"{field}.participant_identity"
        )
    policy.room, policy.participant_identity = room, identity
    if policy.ByteSize() > _MOST_BYTES:
        raise InvalidField(
            f"the policy has {policy.ByteSize()} bytes, and may have {_MOST_BYTES}",
            field=field,
        )
    conditions: list[Condition | None] = []
    for index, rule in enumerate(policy.rules):
        place = f"{field}.rules[{index}]"
        condition = condition_of(rule.condition, f"{place}.condition")
        conditions.append(condition)
        video = of_video_alone(rule.settings)
        if video and condition is not None and condition.of_sound_alone():
            raise InvalidField(
                f"{video[0]} is for video, and the rule is about sound alone", field=f"{place}.settings.{video[0]}"
            )
        # Compiling takes about a millisecond.
        await asyncio.sleep(0)
    _refuse_slow(conditions, field)


def _refuse_slow(conditions: Sequence[Condition | None], field: str) -> None:
    """Raises InvalidExpression where evaluating them once takes too long: it is done for every track and subscriber."""
    left_s = _BUDGET_S
    found: Outcome | None = None
    values = values_of(Participant(), Participant(), Track(), ParticipantQuality())
    for index, condition in enumerate(conditions):
        if condition is None:
            continue
        taken_s = []
        for _ in range(_TIMES):
            begun = time.thread_time()
            found = condition.holds(values, Memory())
            taken_s.append(time.thread_time() - begun)
            if found is EXHAUSTED:
                break
            if taken_s[-1] < _BUDGET_S / len(conditions):
                break
        # The others were somebody else's: caches, or a collection of garbage.
        left_s -= min(taken_s)
        place = f"{field}.rules[{index}].condition"
        if found is EXHAUSTED:
            raise InvalidExpression("the condition takes too many steps to be evaluated", field=place)
        if left_s < 0:
            raise InvalidExpression("the conditions take too long, this one the last of them", field=place)
