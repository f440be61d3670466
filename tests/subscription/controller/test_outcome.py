"""Whose word counts about a subscription: a private track's, an admin's, a rule's, the subscriber's own."""

import pytest

from track.v1.access_pb2 import Principal as PrincipalMessage
from track.v1.subscription_pb2 import SubscriptionAction, SubscriptionDecider, SubscriptionSettings
from track.v1.track_pb2 import VideoQuality
from track_server.access.principal import remembered
from track_server.subscription.choice import Choice
from track_server.subscription.controller.outcome import PRIVATE, Outcome, outcome
from track_server.subscription.policies.verdict import Verdict

LEAVE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSPECIFIED
SUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE
UNSUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE
RULE = SubscriptionDecider.SUBSCRIPTION_DECIDER_ROOM_RULE
MANUAL = SubscriptionDecider.SUBSCRIPTION_DECIDER_MANUAL
LOW = SubscriptionSettings(quality=VideoQuality.VIDEO_QUALITY_LOW, priority=7)
SIZE = SubscriptionSettings(width=640, height=360)


def verdict(
    action: SubscriptionAction.ValueType, *, choose: bool = False, settings: SubscriptionSettings | None = None
) -> Verdict:
    return Verdict(RULE, "one", action, settings or SubscriptionSettings(), choose)


def choice(subscribe: bool, *, admin: bool, settings: SubscriptionSettings | None = None) -> Choice:
    return Choice("ann", "TR_1", subscribe, settings, 99.0, remembered(PrincipalMessage(identity="who")), admin)


def decided(found: Outcome | None) -> tuple[object, ...] | None:
    """Whether subscribed, whose word it is, and whether a client that does otherwise is corrected."""
    return None if found is None else (found.subscribed, found.decider, found.held)


@pytest.mark.parametrize(
    ("chosen", "ruled", "expected"),
    [
        (None, None, None),
        (None, verdict(SUBSCRIBE), (True, RULE, True)),
        (None, verdict(UNSUBSCRIBE), (False, RULE, True)),
        (None, verdict(UNSUBSCRIBE, choose=True), (False, RULE, False)),
        (None, verdict(LEAVE, settings=LOW), (None, RULE, False)),
        # An admin goes before every rule, and is held as one.
        (choice(True, admin=True), verdict(UNSUBSCRIBE), (True, MANUAL, True)),
        (choice(False, admin=True), verdict(SUBSCRIBE, choose=True), (False, MANUAL, True)),
        (choice(False, admin=True), None, (False, MANUAL, True)),
        # The subscriber itself does where the rule lets it, or says nothing; its client may change its mind.
        (choice(True, admin=False), verdict(UNSUBSCRIBE), (False, RULE, True)),
        (choice(True, admin=False), verdict(UNSUBSCRIBE, choose=True), (True, MANUAL, False)),
        (choice(False, admin=False), verdict(LEAVE, settings=LOW), (False, MANUAL, False)),
        (choice(False, admin=False), None, (False, MANUAL, False)),
    ],
)
def test_the_word_that_goes_before_all_others_counts(
    chosen: Choice | None, ruled: Verdict | None, expected: tuple[object, ...] | None
) -> None:
    assert decided(outcome(refused=False, choice=chosen, verdict=ruled)) == expected


@pytest.mark.parametrize("chosen", [None, choice(True, admin=True), choice(True, admin=False)])
def test_a_private_track_goes_before_everybody(chosen: Choice | None) -> None:
    found = outcome(refused=True, choice=chosen, verdict=verdict(SUBSCRIBE))
    assert found is PRIVATE
    assert found.private
    assert not found.held


def test_a_choice_stands_in_the_place_of_the_rule_and_leaves_open_what_it_does_not_say() -> None:
    found = outcome(
        refused=False, choice=choice(True, admin=True, settings=SIZE), verdict=verdict(SUBSCRIBE, settings=LOW)
    )
    assert found is not None
    # A size and a quality are one setting.
    assert found.settings == SubscriptionSettings(width=640, height=360, priority=7)
    assert (found.manual, found.chosen_by, found.rule, found.expire_time) == (True, "who", "", 99.0)


def test_a_choice_without_settings_leaves_the_rules() -> None:
    found = outcome(refused=False, choice=choice(True, admin=True), verdict=verdict(UNSUBSCRIBE, settings=LOW))
    assert found is not None
    assert (found.settings, found.manual, found.rule) == (LOW, False, "one")


@pytest.mark.parametrize(
    ("lets", "expected"), [(False, LOW), (True, SubscriptionSettings(width=640, height=360, priority=7))]
)
def test_a_subscriber_may_change_how_it_receives_only_where_the_rule_lets_it(
    lets: bool, expected: SubscriptionSettings
) -> None:
    ruled = verdict(LEAVE, choose=lets, settings=LOW)
    found = outcome(refused=False, choice=choice(True, admin=False, settings=SIZE), verdict=ruled)
    assert found is not None
    assert found.settings == expected


def test_who_is_not_subscribed_receives_nothing_in_any_way() -> None:
    found = outcome(
        refused=False, choice=choice(False, admin=True, settings=SIZE), verdict=verdict(SUBSCRIBE, settings=LOW)
    )
    assert found is not None
    assert found.settings == SubscriptionSettings()
    assert not found.message().settings.ListFields()
