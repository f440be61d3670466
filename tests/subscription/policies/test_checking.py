"""Policies that are not kept."""

from typing import Any

import pytest

from track.v1.subscription_pb2 import SubscriptionPolicy, SubscriptionRule, SubscriptionSettings
from track.v1.track_pb2 import VideoQuality
from track_server.errors import InvalidExpression, InvalidField, TrackError
from track_server.subscription.policies.checking import check

LOW = VideoQuality.VIDEO_QUALITY_LOW
ON_VIDEO: list[dict[str, Any]] = [
    {"quality": LOW},
    {"width": 640, "height": 360},
    {"frames_per_second": 5.0},
    {"fallback": 3},
]


def policy(condition: str, **settings: Any) -> SubscriptionPolicy:
    rule = SubscriptionRule(name="r", condition=condition, settings=SubscriptionSettings(**settings))
    return SubscriptionPolicy(rules=[SubscriptionRule(name="first"), rule])


async def refused(policy: SubscriptionPolicy) -> TrackError:
    with pytest.raises(TrackError) as caught:
        await check(policy, "room", "ann")
    return caught.value


@pytest.mark.parametrize(
    "condition",
    [
        "track.type == TrackType.TRACK_TYPE_AUDIO",
        "track.type == 1",
        'track.type == TrackType.TRACK_TYPE_AUDIO && subscriber.name == "x"',
        "track.source == TrackSource.TRACK_SOURCE_MICROPHONE || track.type == TrackType.TRACK_TYPE_AUDIO",
        "track.source in [TrackSource.TRACK_SOURCE_MICROPHONE, TrackSource.TRACK_SOURCE_SCREEN_SHARE_AUDIO]",
        "!(track.type == TrackType.TRACK_TYPE_VIDEO)",
        "track.type == TrackType.TRACK_TYPE_VIDEO ? false : track.name == 'x'",
    ],
)
@pytest.mark.parametrize("settings", ON_VIDEO)
async def test_what_is_for_video_is_refused_where_a_rule_is_about_sound_alone(
    condition: str, settings: dict[str, Any]
) -> None:
    error = await refused(policy(condition, **settings))
    assert isinstance(error, InvalidField)
    assert error.field == f"policy.rules[1].settings.{next(iter(settings))}"
    await check(policy(condition, priority=3, enabled=False), "room", "ann")


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "true",
        "track.type == TrackType.TRACK_TYPE_AUDIO || subscriber.name == 'x'",
        "track.type != TrackType.TRACK_TYPE_UNSPECIFIED",
        "track.mime_type == 'audio/opus'",
        "subscriber.name == 'x' ? track.type == TrackType.TRACK_TYPE_AUDIO : track.muted",
        "track.type == TrackType.TRACK_TYPE_VIDEO && track.source == TrackSource.TRACK_SOURCE_UNSPECIFIED",
    ],
)
async def test_it_is_taken_where_a_rule_may_be_about_video(condition: str) -> None:
    for settings in ON_VIDEO:
        await check(policy(condition, **settings), "room", "ann")


@pytest.mark.parametrize(
    ("condition", "line", "column", "suggestion"),
    [
        ("track.sourc == TrackSource.TRACK_SOURCE_CAMERA", 1, 6, "source"),
        ("track.name == 'a' &&\n  subscriber.attribute['x'] == 'y'", 2, 13, "attributes"),
        ("track.name == 1", 1, 12, None),
        ("track.name", 1, 1, None),
        ("true &&", 1, 8, None),
        ("participant.name == 'a'", 1, 12, None),
    ],
)
async def test_a_condition_that_does_not_compile_is_refused_with_its_place(
    condition: str, line: int, column: int, suggestion: str | None
) -> None:
    error = await refused(policy(condition))
    assert isinstance(error, InvalidExpression)
    assert error.field == "policy.rules[1].condition"
    assert (error.metadata["line"], error.metadata["column"]) == (str(line), str(column))
    assert error.metadata.get("suggestion") == suggestion
    assert suggestion is None or suggestion in error.message


async def test_conditions_that_take_long_are_refused() -> None:
    sixty = f"[{','.join(['1'] * 60)}]"
    error = await refused(policy(f"{sixty}.all(a, {sixty}.all(b, {sixty}.all(c, true)))"))
    assert (type(error), error.field) == (InvalidExpression, "policy.rules[1].condition")
    # Each of them for itself is quick enough.
    ten = f"[{','.join(['1'] * 10)}]"
    slow = f"{ten}.all(a, {ten}.all(b, [a, b, a, b, a, b, a].map(c, c + a).size() == 7))"
    await check(policy(slow), "room", "ann")
    rules = [SubscriptionRule(name=f"r{index}", condition=slow) for index in range(100)]
    error = await refused(SubscriptionPolicy(rules=rules))
    assert (type(error), error.message.startswith("the conditions take too long")) == (InvalidExpression, True)
    error = await refused(policy("track.name.matches(track.sid)"))
    assert (type(error), error.field) == (InvalidExpression, "policy.rules[1].condition")
    error = await refused(policy("track.name.matches('(x{1,31}){1,31}')"))
    assert (type(error), error.field) == (InvalidExpression, "policy.rules[1].condition")
    usual = "track.metadata.role == 'r{}' && subscriber.attributes['seat'] == 'back' || publisher.name.startsWith('x')"
    rules = [SubscriptionRule(name=f"r{index}", condition=usual.format(index)) for index in range(100)]
    await check(SubscriptionPolicy(rules=rules), "room", "")


async def test_its_names_are_those_of_the_request_and_it_has_a_size() -> None:
    named = SubscriptionPolicy()
    await check(named, "room", "ann")
    assert (named.room, named.participant_identity) == ("room", "ann")
    assert (await refused(SubscriptionPolicy(room="other"))).field == "policy.room"
    assert (await refused(SubscriptionPolicy(participant_identity="bob"))).field == "policy.participant_identity"
    rules = [SubscriptionRule(name=f"r{index}", condition="true" + " " * 1000) for index in range(66)]
    error = await refused(SubscriptionPolicy(rules=rules))
    assert (type(error), error.field) == (InvalidField, "policy")
    await check(SubscriptionPolicy(rules=rules[:60]), "room", "ann")
