"""What the rules decide about one subscriber and one track, how often they look, and what they look at."""

import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track.v1.event_pb2 import ParticipantQuality, RoomEvent
from track.v1.quality_pb2 import CONNECTION_QUALITY_LOST
from track.v1.subscription_pb2 import (
    SubscriptionAction,
    SubscriptionDecider,
    SubscriptionDefaults,
    SubscriptionPolicy,
    SubscriptionRule,
    SubscriptionSettings,
)
from track.v1.track_pb2 import Participant, Track, TrackSource, TrackType, VideoQuality
from track_server.cel import Leaf, checked, compile_condition
from track_server.errors import InvalidExpression
from track_server.subscription.policies.condition import VARIABLES
from track_server.subscription.policies.policies import RoomRules
from track_server.subscription.policies.ruleset import Ruleset
from track_server.subscription.policies.verdict import Verdict

LEAVE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSPECIFIED
SUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE
UNSUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE
OWN = SubscriptionDecider.SUBSCRIPTION_DECIDER_SUBSCRIBER_RULE
ROOM = SubscriptionDecider.SUBSCRIPTION_DECIDER_ROOM_RULE
DEFAULTS = SubscriptionDecider.SUBSCRIPTION_DECIDER_DEFAULTS
LOW = VideoQuality.VIDEO_QUALITY_LOW
VIDEO, AUDIO, DATA = TrackType.TRACK_TYPE_VIDEO, TrackType.TRACK_TYPE_AUDIO, TrackType.TRACK_TYPE_DATA

ANN = Participant(identity="ann", name="Ann", attributes={"seat": "back", "team": "red"})
BOB = Participant(identity="bob", name="Bob", attributes={"team": "red"})
EVE = Participant(identity="eve", name="Eve", attributes={"team": "blue"})
CAMERA = Track(sid="TR_c", participant_identity="bob", type=VIDEO, source=TrackSource.TRACK_SOURCE_CAMERA, name="cam")
CAMERA.metadata["role"] = "presenter"
SOUND = Track(sid="TR_m", participant_identity="bob", type=AUDIO, source=TrackSource.TRACK_SOURCE_MICROPHONE)
LOST = ParticipantQuality(participant_identity="bob", connection_quality=CONNECTION_QUALITY_LOST)


def rule(
    name: str, condition: str = "", action: "SubscriptionAction.ValueType" = SUBSCRIBE, **fields: Any
) -> SubscriptionRule:
    choose = fields.pop("choose", False)
    made = SubscriptionRule(name=name, condition=condition, action=action, client_may_choose=choose)
    if fields:
        made.settings.CopyFrom(SubscriptionSettings(**fields))
    return made


def policy(*rules: SubscriptionRule, **fields: Any) -> SubscriptionPolicy:
    return SubscriptionPolicy(rules=rules, **fields)


def ruleset(room: SubscriptionPolicy | None, own: SubscriptionPolicy | None = None, identity: str = "ann") -> Ruleset:
    found = RoomRules(room).ruleset(identity, own)
    assert found is not None
    return found


def decided(found: Verdict | None) -> tuple[Any, ...] | None:
    return None if found is None else (found.decider, found.rule, found.action)


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


def test_another_message_is_looked_at_anew_and_the_same_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ruleset(policy(rule("r", 'track.metadata.role == "presenter" && subscriber.name == "Ann"')))
    looks = _counted(monkeypatch)
    for _ in range(3):
        assert found.decide(ANN, BOB, CAMERA, None) is not None
    assert looks == {("track",): 1, ("subscriber",): 1}
    renamed = Participant(identity="ann", name="Anna")
    assert found.decide(renamed, BOB, CAMERA, None) is None
    changed = Track()
    changed.CopyFrom(CAMERA)
    changed.metadata["role"] = "guest"
    assert found.decide(ANN, BOB, changed, None) is None
    assert looks == {("track",): 2, ("subscriber",): 2}


def test_nothing_is_kept_of_what_a_participant_and_a_track_were() -> None:
    """A participant may change its attributes, of up to 64 KiB, as often as it likes."""
    found = ruleset(
        policy(
            rule("s", 'subscriber.attributes.seat == "front"'),
            rule("p", 'publisher.attributes.seat == "front"'),
            rule("both", "subscriber.attributes.seat == publisher.attributes.seat && track.muted"),
        )
    )
    were = [Participant(identity="ann", attributes={"seat": str(index)}) for index in range(3)]
    for was in were:
        assert found.decide(was, BOB, CAMERA, None) is None
        assert found.decide(BOB, was, CAMERA, None) is None
    assert sys.getrefcount(were[0]) == sys.getrefcount(were[1]) < sys.getrefcount(were[2])


def test_a_join_looks_once_at_each_track_and_once_at_the_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a condition that reads the track alone is evaluated once a track, whoever subscribes."""
    conditions = [
        'track.metadata.role == "nobody"',
        'publisher.name == "nobody" || track.muted',
        'subscriber.attributes["seat"] == "front" && track.source == TrackSource.TRACK_SOURCE_SCREEN_SHARE',
        'subscriber.attributes["seat"] == "front" || track.name == "x"',
        "subscriber.attributes.team == publisher.attributes.team && track.source == TrackSource.TRACK_SOURCE_CAMERA",
    ]
    found = ruleset(policy(*(rule(f"r{index}", condition) for index, condition in enumerate(conditions))))
    publishers = [Participant(identity=f"p{index}", attributes={"team": "green"}) for index in range(10)]
    tracks = [
        Track(sid=f"TR_{index}", type=VIDEO, source=TrackSource.TRACK_SOURCE_CAMERA, name="cam") for index in range(100)
    ]
    subscribers = [Participant(identity=f"s{index}", attributes={"team": "red", "seat": "back"}) for index in range(20)]
    looks = _counted(monkeypatch)

    def join(subscriber: Participant) -> None:
        for index, track in enumerate(tracks):
            assert found.decide(subscriber, publishers[index % 10], track, None) is None

    join(subscribers[0])
    first = Counter(looks)
    for subscriber in subscribers[1:]:
        join(subscriber)
    later = looks - first
    # Five parts read tracks, one of them with the publisher. Nobody who comes later has one looked at again.
    assert first["track",] == 4 * 100
    assert first["publisher", "track"] == 100
    assert later["track",] == later["publisher", "track"] == 0
    # Rule r2 is about no track here, so that the subscriber need not be looked at for it.
    assert (first["subscriber",], later["subscriber",]) == (1, 19)
    # What reads both is evaluated for each pair of what it reads: subscribers and publishers, not tracks.
    assert (first["publisher", "subscriber"], later["publisher", "subscriber"]) == (10, 190)


def _counted(monkeypatch: pytest.MonkeyPatch) -> "Counter[tuple[str, ...]]":
    """From now on counts the evaluations, by what they read."""
    from track_server.subscription.policies import condition as module

    looks: Counter[tuple[str, ...]] = Counter()
    plain = module.evaluate

    def counting(leaf: Leaf, values: Any) -> Any:
        looks[leaf.variables] += 1
        return plain(leaf, values)

    monkeypatch.setattr(module, "evaluate", counting)
    return looks


@pytest.mark.parametrize(
    ("condition", "reads"),
    [
        ("true", set()),
        ('track.metadata.role == "x"', {("track", "metadata", "role")}),
        ('track.metadata["ro.le"] == "x"', {("track", "metadata", "ro.le")}),
        (
            "has(track.metadata.role) && subscriber == publisher",
            {("track", "metadata", "role"), ("subscriber",), ("publisher",)},
        ),
        ("subscriber.attributes[track.name] == ''", {("subscriber", "attributes"), ("track", "name")}),
        ("track.layers.exists(l, double(l.width) > quality.score)", {("track", "layers"), ("quality", "score")}),
        ("[1].exists(track, track == 1)", set()),
        ("subscriber.permission.can_publish", {("subscriber", "permission", "can_publish")}),
        ("Track{name: subscriber.name} == track", {("subscriber", "name"), ("track",)}),
    ],
)
def test_what_a_condition_reads_is_known(condition: str, reads: set[tuple[str, ...]]) -> None:
    assert ruleset(policy(rule("r", condition))).reads == reads


def test_only_events_about_what_is_read_concern_it() -> None:
    events = {
        "metadata": RoomEvent(track_updated=CAMERA),
        "muted": RoomEvent(track_muted=CAMERA),
        "unmuted": RoomEvent(track_unmuted=CAMERA),
        "participant": RoomEvent(participant_updated=ANN),
        "quality": RoomEvent(quality_changed=LOST),
        "published": RoomEvent(track_published=CAMERA),
    }
    table = {
        "true": set(),
        'track.source == TrackSource.TRACK_SOURCE_CAMERA && publisher.identity == "bob"': set(),
        "track.muted": {"metadata", "muted", "unmuted"},
        'track.metadata.role == "x"': {"metadata"},
        "track == Track{}": {"metadata", "muted", "unmuted"},
        'subscriber.attributes.seat == "x"': {"participant"},
        "publisher.permission.can_publish": {"participant"},
        "has(quality.score)": {"quality"},
    }
    for condition, concerning in table.items():
        found = ruleset(policy(rule("r", condition)))
        assert {name for name, event in events.items() if found.concerned(event)} == concerning, condition


def test_only_a_difference_in_what_is_read_counts() -> None:
    found = ruleset(
        policy(
            rule("a", 'subscriber.attributes["lk.seat"] == "back" && has(track.metadata.topic.name)'),
            rule("b", "has(quality.score) && track.layers.size() > 1"),
        )
    )

    def seated(**attributes: str) -> Participant:
        return Participant(identity="ann", attributes={name.replace("_", "."): at for name, at in attributes.items()})

    assert found.differs("subscriber", seated(), seated(lk_seat="back"))
    assert found.differs("subscriber", seated(lk_seat="back"), seated(lk_seat="front"))
    assert not found.differs("subscriber", seated(lk_seat="back"), seated(lk_seat="back", other="x"))
    assert not found.differs("publisher", seated(), seated(lk_seat="back"))
    plain, named, other = Track(), Track(), Track()
    named.metadata["topic"] = {"name": "a"}
    other.metadata["role"] = "b"
    assert found.differs("track", plain, named)
    assert not found.differs("track", plain, other)
    assert found.differs("quality", ParticipantQuality(), ParticipantQuality(score=0.0))
    assert not found.differs("quality", ParticipantQuality(), LOST)


@pytest.mark.parametrize("path", ["fields.a", "a.fields", "a.string_value", "string_value", "a.kind", "a.values"])
def test_a_key_that_is_named_as_something_of_protobufs_is_a_key(path: str) -> None:
    found = ruleset(policy(rule("r", f'track.metadata.{path} == "x"')))
    name, _, rest = path.partition(".")

    def described(text: str) -> Track:
        track = Track(sid="TR_c", type=VIDEO)
        track.metadata[name] = {rest: text} if rest else text
        return track

    assert found.decide(ANN, BOB, described("x"), None) is not None
    assert found.differs("track", described("y"), described("x"))
    assert found.differs("track", Track(), described("x"))
    assert not found.differs("track", described("x"), described("x"))


def test_a_condition_of_very_many_parts_is_not_taken_apart() -> None:
    """Compiling them takes 0.2 s, for each rule."""
    many = " || ".join(['(track.muted && subscriber.name == "")'] * 100)
    tree = checked(many, VARIABLES, "condition").tree(lambda reads: False)
    assert isinstance(tree, Leaf)
    assert ruleset(policy(rule("r", f'{many} || subscriber.name == "Ann"'))).decide(ANN, BOB, CAMERA, None) is not None


def test_a_macro_goes_through_so_much_and_no_more() -> None:
    """Looked at as a whole for each of its elements, 100 kB take 30 s, in which nothing else is served."""
    found = ruleset(policy(rule("r", "track.metadata.tags.all(tag, track.metadata.tags == track.metadata.tags)")))

    def tagged(count: int) -> Track:
        track = Track(sid="TR_c", type=VIDEO)
        track.metadata["tags"] = [None] * count
        track.metadata["other"] = "x" * 50_000
        return track

    assert found.decide(ANN, BOB, tagged(100), None) is not None
    assert found.decide(ANN, BOB, tagged(2_000), None) is None
    (seen,) = found.examine(ANN, BOB, tagged(2_000), None)
    assert seen.error == "it takes too many steps"
