"""What a subscriber should have of a track, by everybody who has a word in it. Pure."""

from dataclasses import dataclass
from typing import Final

from track.v1.subscription_pb2 import (
    DesiredSubscription,
    SubscriptionAction,
    SubscriptionDecider,
    SubscriptionSettings,
)
from track_server.durations import timestamp_at
from track_server.subscription.choice import Choice
from track_server.subscription.policies.settings import filled
from track_server.subscription.policies.verdict import Verdict

NOTHING: Final = SubscriptionSettings()
"""No settings. Never changed."""

_SUBSCRIBED: Final = {
    SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE: True,
    SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE: False,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``subscribed``: None where nobody here decides it. ``held``: a client that does otherwise is corrected.

    ``manual``: settings are of a manual choice, by ``chosen_by``; else of the rule. They are shared: never change them.
    """

    subscribed: bool | None
    settings: SubscriptionSettings
    decider: "SubscriptionDecider.ValueType"
    rule: str = ""
    held: bool = False
    manual: bool = False
    chosen_by: str = ""
    expire_time: float | None = None

    @property
    def private(self) -> bool:
        """The track is not for that subscriber: its publisher's rule is enforced elsewhere."""
        return self.decider == SubscriptionDecider.SUBSCRIPTION_DECIDER_PRIVATE_TRACK

    def message(self) -> DesiredSubscription:
        """As the contract says it."""
        found = DesiredSubscription(
            subscribed=self.subscribed, settings=self.settings, decider=self.decider, rule=self.rule
        )
        if self.expire_time is not None:
            found.expire_time.CopyFrom(timestamp_at(self.expire_time))
        return found


PRIVATE: Final = Outcome(False, NOTHING, SubscriptionDecider.SUBSCRIPTION_DECIDER_PRIVATE_TRACK)


def outcome(*, refused: bool, choice: Choice | None, verdict: Verdict | None) -> Outcome | None:
    """``refused``: by a private track's rule, which goes before all. Then come the choice of an admin, the rule, and
    the subscriber's own choice, which goes before a rule that lets the client choose or says nothing of subscribing.
    None where nobody says anything."""
    if refused:
        return PRIVATE
    ruled = _ruled(verdict) if verdict is not None else None
    if choice is None or (ruled is not None and ruled.held and not choice.by_admin):
        return ruled
    # What the rule says of how it is received stands where the client may not choose.
    bound = verdict is not None and not verdict.client_may_choose and not choice.by_admin
    settings, manual = ruled.settings if ruled is not None else NOTHING, False
    if choice.subscribe and choice.settings is not None and not bound:
        settings, manual = filled(choice.settings, settings), True
    return Outcome(
        choice.subscribe,
        settings if choice.subscribe else NOTHING,
        SubscriptionDecider.SUBSCRIPTION_DECIDER_MANUAL,
        rule="" if manual or ruled is None else ruled.rule,
        held=choice.by_admin,
        manual=manual,
        chosen_by=choice.chosen_by,
        expire_time=choice.expire_time,
    )


def _ruled(verdict: Verdict) -> Outcome:
    subscribed = _SUBSCRIBED.get(verdict.action)
    held = subscribed is not None and not verdict.client_may_choose
    return Outcome(subscribed, verdict.settings, verdict.decider, verdict.rule, held)
