"""How often the rules look at participants and tracks, and what they look at."""

import sys
from collections import Counter
from typing import Any

import pytest

from tests.subscription.policies.rulesets import (
    ANN,
    BOB,
    CAMERA,
    LOST,
    VIDEO,
    policy,
    rule,
    ruleset,
)
from track.v1.event_pb2 import ParticipantQuality, RoomEvent
from track.v1.track_pb2 import Participant, Track, TrackSource
from track_server.cel import Leaf, checked
from track_server.subscription.policies.condition import VARIABLES


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
