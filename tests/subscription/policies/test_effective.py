"""What holds for a subscriber with rules of its own in a room that has some, and what of it is the room's."""

from typing import Any

import pytest

from track.v1.subscription_pb2 import (
    LayerFallback,
    SubscriptionAction,
    SubscriptionDefaults,
    SubscriptionPolicy,
    SubscriptionRule,
    SubscriptionSettings,
)
from track.v1.track_pb2 import VideoQuality
from track_server.subscription.policies.effective import effective
from track_server.subscription.policies.settings import filled, for_sound

LEAVE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSPECIFIED
SUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE
UNSUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE
LOW = VideoQuality.VIDEO_QUALITY_LOW
HIGH = VideoQuality.VIDEO_QUALITY_HIGH
OFF = LayerFallback.LAYER_FALLBACK_OFF


def settings(**fields: Any) -> SubscriptionSettings:
    return SubscriptionSettings(**fields)


def defaults(
    action: "SubscriptionAction.ValueType" = LEAVE, choose: bool = False, **fields: Any
) -> SubscriptionDefaults:
    found = SubscriptionDefaults(action=action, client_may_choose=choose)
    if fields:
        found.settings.CopyFrom(settings(**fields))
    return found


def test_own_rules_come_first_and_the_rooms_are_told_apart() -> None:
    own = SubscriptionPolicy(room="r", participant_identity="a", rules=[SubscriptionRule(name="mine")], etag="1")
    room = SubscriptionPolicy(room="r", rules=[SubscriptionRule(name=name) for name in ("mine", "theirs")])
    found = effective("a", own, room)
    assert [rule.name for rule in found.policy.rules] == ["mine", "mine", "theirs"]
    assert found.inherited == ("rules[1]", "rules[2]")
    assert found.own == 1
    assert (found.policy.room, found.policy.participant_identity, found.policy.etag) == ("r", "a", "")
    alone = effective("a", own, None)
    assert (len(alone.policy.rules), alone.inherited) == (1, ())
    theirs = effective("b", None, room)
    assert (theirs.policy.participant_identity, theirs.inherited, theirs.own) == ("b", ("rules[0]", "rules[1]"), 0)


@pytest.mark.parametrize(
    ("own", "room", "found", "inherited"),
    [
        (None, None, SubscriptionDefaults(), ()),
        (
            None,
            defaults(UNSUBSCRIBE, True, priority=7),
            defaults(UNSUBSCRIBE, True, priority=7),
            ("action", "client_may_choose", "settings.priority"),
        ),
        # The action comes with whether the client may choose.
        (defaults(SUBSCRIBE), defaults(UNSUBSCRIBE, True), defaults(SUBSCRIBE), ()),
        (defaults(choose=True), defaults(UNSUBSCRIBE), defaults(choose=True), ()),
        (defaults(priority=3), defaults(UNSUBSCRIBE), defaults(UNSUBSCRIBE, priority=3), ("action",)),
        # Every setting by itself, but that a layer and a size say one thing.
        (
            defaults(priority=3),
            defaults(priority=9, quality=LOW, frames_per_second=5.0),
            defaults(priority=3, quality=LOW, frames_per_second=5.0),
            ("settings.quality", "settings.frames_per_second"),
        ),
        (defaults(quality=HIGH), defaults(width=640, height=360), defaults(quality=HIGH), ()),
        (
            defaults(width=640, height=360),
            defaults(quality=LOW, enabled=False, fallback=OFF),
            defaults(width=640, height=360, enabled=False, fallback=OFF),
            ("settings.enabled", "settings.fallback"),
        ),
        (defaults(enabled=True), defaults(enabled=False), defaults(enabled=True), ()),
    ],
)
def test_defaults_are_filled_in_from_the_rooms(
    own: SubscriptionDefaults | None,
    room: SubscriptionDefaults | None,
    found: SubscriptionDefaults,
    inherited: tuple[str, ...],
) -> None:
    whole = effective("a", SubscriptionPolicy(defaults=own), SubscriptionPolicy(defaults=room))
    assert whole.policy.defaults == found
    assert whole.inherited == tuple(f"defaults.{path}" for path in inherited)
    assert whole.policy.HasField("defaults") == (own is not None or room is not None)


@pytest.mark.parametrize(
    ("own", "room", "found", "inherited"),
    [
        (None, None, None, ()),
        (None, 16_000, 16_000, ("bandwidth_bps",)),
        (20_000, 16_000, 20_000, ()),
        (20_000, None, 20_000, ()),
    ],
)
def test_the_budget_is_the_subscribers_own_else_the_rooms(
    own: int | None, room: int | None, found: int | None, inherited: tuple[str, ...]
) -> None:
    whole = effective("a", SubscriptionPolicy(bandwidth_bps=own), SubscriptionPolicy(bandwidth_bps=room))
    assert (whole.policy.bandwidth_bps if whole.policy.HasField("bandwidth_bps") else None) == found
    assert whole.inherited == inherited


def test_putting_settings_together_changes_neither() -> None:
    rule, default = settings(priority=1), settings(priority=2, quality=LOW)
    assert filled(rule, default) == settings(priority=1, quality=LOW)
    assert (rule, default) == (settings(priority=1), settings(priority=2, quality=LOW))


def test_sound_keeps_what_is_not_of_video_alone() -> None:
    whole = settings(enabled=False, priority=9, quality=LOW, frames_per_second=5.0, fallback=OFF)
    assert for_sound(whole) == settings(enabled=False, priority=9)
    assert for_sound(settings(width=1, height=1)) == settings()
    assert whole.HasField("quality")
