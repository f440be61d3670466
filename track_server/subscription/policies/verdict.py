"""What a policy says about one subscriber and one track."""

from dataclasses import dataclass

from track.v1.subscription_pb2 import SubscriptionAction, SubscriptionDecider, SubscriptionSettings


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rule``: empty where the defaults decide. ``settings``: the rule's with the defaults filled in; of sound without
    what is for video alone, and empty where it unsubscribes. They are shared: never change them."""

    decider: SubscriptionDecider.ValueType
    rule: str
    action: SubscriptionAction.ValueType
    settings: SubscriptionSettings
    client_may_choose: bool
