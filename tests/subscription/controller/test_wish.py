"""What is to be of a subscription: decided, given back, or left alone."""

import pytest

from track.v1.subscription_pb2 import SubscriptionDecider, SubscriptionSettings
from track_server.subscription.controller.outcome import PRIVATE, Outcome
from track_server.subscription.controller.progress import Progress
from track_server.subscription.controller.wish import Wish

RULE = SubscriptionDecider.SUBSCRIPTION_DECIDER_ROOM_RULE
NOTHING = SubscriptionSettings()
AWAY = Outcome(False, NOTHING, RULE, "away", held=True)
THERE = Outcome(True, NOTHING, RULE, "there", held=True)
OPEN = Outcome(None, SubscriptionSettings(priority=9), RULE, "open")
CHOSEN = Outcome(False, NOTHING, SubscriptionDecider.SUBSCRIPTION_DECIDER_MANUAL, held=True, chosen_by="admin")


@pytest.mark.parametrize(
    ("decided", "taken", "wanted", "why"),
    [
        (AWAY, False, False, ("subscription_policy", "away")),
        (THERE, True, True, ("subscription_policy", "there")),
        (CHOSEN, False, False, ("subscription_choice", "")),
        (OPEN, False, None, ("subscription_policy", "open")),
        # Nobody decides any more: what was taken is given back.
        (OPEN, True, True, ("subscription_given_back", "")),
        (None, True, True, ("subscription_given_back", "")),
        (None, False, None, ("subscription_given_back", "")),
        # But never what is private by now.
        (PRIVATE, True, None, ("subscription_policy", "")),
    ],
)
def test_what_is_wanted_and_why(
    decided: Outcome | None, taken: bool, wanted: bool | None, why: tuple[str, str]
) -> None:
    wish = Wish(Progress(), 0.0)
    assert wish.aim(decided, 1.0, taken=taken) is (decided is not None or taken)
    assert (wish.progress.wanted, wish.why) == (wanted, why)
    assert wish.held is (decided is not None and decided.held)
