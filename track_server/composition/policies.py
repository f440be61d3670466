"""Subscription policies: kept, and answered for."""

from dataclasses import dataclass

from track_server.composition.foundation import Foundation
from track_server.subscription.policies.policies import Policies
from track_server.subscription.policies.requests import PolicyRequests


@dataclass(frozen=True, slots=True)
class Ruled:
    """The parts."""

    policies: Policies
    requests: PolicyRequests


async def ruling(ground: Foundation) -> Ruled:
    """The policies. What an earlier run left is read. Raises StoreError."""
    policies = Policies(ground.store, ground.settings.max_subscription_policies_per_room)
    await policies.load()
    requests = PolicyRequests(policies, ground.rooms)
    ground.rooms.contribute(requests.contribute)
    ground.rooms.listen(requests.happened)
    return Ruled(policies, requests)
