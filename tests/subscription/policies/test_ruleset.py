"""What the rules decide about one subscriber and one track."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.subscription.policies.rulesets import (
    ANN,
    BOB,
    CAMERA,
    DATA,
    DEFAULTS,
    LEAVE,
    LOST,
    LOW,
    OWN,
    ROOM,
    SOUND,
    SUBSCRIBE,
    UNSUBSCRIBE,
    decided,
    policy,
    rule,
    ruleset,
)
from track.v1.subscription_pb2 import (
    SubscriptionDefaults,
    SubscriptionSettings,
)
from track.v1.track_pb2 import Track
from track_server.cel import compile_condition
from track_server.errors import InvalidExpression


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("", True),
        ("  ", True),
        ("true", True),
        ('track.metadata.role == "presenter"', True),
        ('track.metadata.role == "guest"', False),
        ('track.metadata.missing == "x"', False),
        ('!(track.metadata.missing == "x")', False),
        ('track.metadata.missing == "x" || track.name == "cam"', True),
        ('track.metadata.missing == "x" || subscriber.name == "Ann"', True),
        ('!(track.metadata.missing == "x" && subscriber.name == "Bob")', True),
        ('subscriber.attributes["seat"] == "back" && track.source == TrackSource.TRACK_SOURCE_CAMERA', True),
        ('subscriber.attributes["seat"] == "back" && track.muted', False),
        ("subscriber.attributes.team == publisher.attributes.team", True),
        ("subscriber.attributes.team != publisher.attributes.team", False),
        ('subscriber.identity == "ann" ? track.name == "cam" : publisher.name == "Ann"', True),
        ('publisher.identity == "bob" ? subscriber.name == "Bob" : true', False),
        ('track.metadata.missing ? true : subscriber.name == "Ann"', False),
        ("track.metadata.role", False),
        ("quality.connection_quality == ConnectionQuality.CONNECTION_QUALITY_LOST", True),
        ("has(quality.score)", False),
        ("track.layers.exists(layer, layer.width > 640)", False),
        ("[track.sid].exists(track, track == subscriber.identity)", False),
        ('"team" in subscriber.attributes && !("seat" in publisher.attributes)', True),
    ],
)
def test_a_rule_holds_as_the_expression_says_whatever_its_parts_read(condition: str, holds: bool) -> None:
    for found in (ruleset(policy(rule("r", condition))), ruleset(None, policy(rule("r", condition)))):
        for _ in range(2):
            assert (found.decide(ANN, BOB, CAMERA, LOST) is not None) is holds


PARTS = st.sampled_from(
    [
        *(
            "true",
            "false",
            "track.muted",
            "track.metadata.missing",
            "track.metadata.role",
            'track.metadata.missing == "x"',
        ),
        *('track.metadata.role == "presenter"', 'subscriber.name == "Ann"', 'subscriber.attributes["row"] == "1"'),
        *("subscriber.name != publisher.name", 'subscriber.attributes["row"] == publisher.name', "has(quality.score)"),
    ]
)


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} && {})".format, parts, parts),
        st.builds("({} || {})".format, parts, parts),
        st.builds("!({})".format, parts),
        st.builds("(({}) == true ? {} : {})".format, parts, parts, parts),
        st.builds("({} ? {} : {})".format, parts, parts, parts),
    )


@given(st.recursive(PARTS, _joined, max_leaves=8))
def test_an_expression_comes_to_the_same_in_its_parts_as_in_one(source: str) -> None:
    variables = ("publisher", "quality", "subscriber", "track")
    try:
        whole = compile_condition(source, variables, "condition")
    except InvalidExpression:  # e.g. `has(..) ? "x" : ..`
        return
    values = {"subscriber": ANN, "publisher": BOB, "track": CAMERA, "quality": LOST}
    expected = whole(values)
    rules = policy(rule("r", source))
    shared, own = ruleset(rules), ruleset(None, rules)
    for found in (shared, own):
        assert (found.decide(ANN, BOB, CAMERA, LOST) is not None) is (expected is True)
        (seen,) = found.examine(ANN, BOB, CAMERA, LOST)
        assert seen.matched is (expected is True)
        assert (seen.error != "") is (expected is None)


def test_the_first_rule_that_holds_decides_the_subscribers_own_before_the_rooms() -> None:
    room = policy(
        rule("cameras", "track.type == TrackType.TRACK_TYPE_VIDEO", UNSUBSCRIBE),
        rule("all"),
        rule("never reached", action=UNSUBSCRIBE),
    )
    own = policy(
        rule("presenter", 'track.metadata.role == "presenter"', priority=90),
        rule("mute", "track.muted", UNSUBSCRIBE),
    )
    theirs, mine = ruleset(room), ruleset(room, own)
    assert decided(theirs.decide(ANN, BOB, CAMERA, None)) == (ROOM, "cameras", UNSUBSCRIBE)
    assert decided(theirs.decide(ANN, BOB, SOUND, None)) == (ROOM, "all", SUBSCRIBE)
    assert decided(mine.decide(ANN, BOB, CAMERA, None)) == (OWN, "presenter", SUBSCRIBE)
    assert decided(mine.decide(ANN, BOB, SOUND, None)) == (ROOM, "all", SUBSCRIBE)
    assert [seen.rule for seen in mine.examine(ANN, BOB, SOUND, None)] == ["presenter", "mute", "cameras", "all"]


def test_where_no_rule_holds_the_defaults_decide_and_without_them_nothing() -> None:
    rules = (rule("never", "false"),)
    assert ruleset(policy(*rules)).decide(ANN, BOB, CAMERA, None) is None
    assert ruleset(policy(*rules, defaults=SubscriptionDefaults())).decide(ANN, BOB, CAMERA, None) is None
    closed = policy(*rules, defaults=SubscriptionDefaults(action=UNSUBSCRIBE, client_may_choose=True))
    found = ruleset(closed).decide(ANN, BOB, CAMERA, None)
    assert decided(found) == (DEFAULTS, "", UNSUBSCRIBE)
    assert found is not None
    assert found.client_may_choose
    small = SubscriptionDefaults(settings=SubscriptionSettings(quality=LOW))
    found = ruleset(policy(*rules, defaults=small)).decide(ANN, BOB, CAMERA, None)
    assert decided(found) == (DEFAULTS, "", LEAVE)
    assert found is not None
    assert found.settings.quality == LOW


def test_what_a_rule_leaves_open_comes_from_the_defaults_but_not_its_action() -> None:
    defaults = SubscriptionDefaults(
        action=UNSUBSCRIBE,
        settings=SubscriptionSettings(quality=LOW, priority=10, enabled=False),
        client_may_choose=True,
    )
    own = policy(rule("small", "track.muted", priority=1), rule("left", action=LEAVE, width=64, height=36))
    found = ruleset(policy(defaults=defaults), own).decide(ANN, BOB, CAMERA, None)
    assert found is not None
    assert decided(found) == (OWN, "left", LEAVE)
    assert not found.client_may_choose
    assert found.settings == SubscriptionSettings(width=64, height=36, priority=10, enabled=False)
    # Of sound without what is for video alone.
    sound = ruleset(policy(defaults=defaults), own).decide(ANN, BOB, SOUND, None)
    assert sound is not None
    assert sound.settings == SubscriptionSettings(priority=10, enabled=False)
    taken = ruleset(policy(rule("none", action=UNSUBSCRIBE), defaults=defaults)).decide(ANN, BOB, CAMERA, None)
    assert taken is not None
    assert taken.settings == SubscriptionSettings()


def test_data_tracks_are_not_decided() -> None:
    found = ruleset(policy(rule("all"), defaults=SubscriptionDefaults(action=SUBSCRIBE)))
    assert found.decide(ANN, BOB, Track(sid="DTR_a", type=DATA), None) is None


def test_an_examined_rule_says_why_it_could_not_be_evaluated() -> None:
    found = ruleset(
        policy(
            rule("missing", 'track.metadata.topic == "a" && subscriber.identity == "ann"'),
            rule("other", 'track.metadata.topic == "a" && subscriber.identity == "eve"'),
            rule("flag", "track.metadata.role"),
            rule("count", "track.metadata.role > 3"),
        )
    )
    seen = found.examine(ANN, BOB, CAMERA, None)
    assert [(one.rule, one.matched) for one in seen] == [
        (name, False) for name in ("missing", "other", "flag", "count")
    ]
    assert seen[0].error == 'no key "topic"'
    # As CEL has it: what is false without the missing key is false.
    assert seen[1].error == ""
    assert "bool" in seen[2].error
    assert seen[3].error
