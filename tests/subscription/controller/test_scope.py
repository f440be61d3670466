"""An event leads to decisions about those pairs alone that it can change."""

from collections.abc import Collection, Mapping

import pytest

from track.v1.event_pb2 import ParticipantQuality, RoomEvent
from track.v1.subscription_pb2 import SubscriptionAction, SubscriptionPolicy, SubscriptionRule
from track.v1.track_pb2 import Participant, ParticipantPermission, Track, TrackType
from track_server.rooms.model import RoomModel
from track_server.subscription.controller.scope import Before, touched
from track_server.subscription.policies.policies import RoomRules
from track_server.subscription.policies.ruleset import Ruleset

ALL = None
Found = dict[str, set[str] | None]


def person(identity: str, *, may: bool = True, **attributes: str) -> Participant:
    return Participant(identity=identity, attributes=attributes, permission=ParticipantPermission(can_subscribe=may))


def camera(identity: str, number: int, *, muted: bool = False, name: str = "cam", width: int = 640) -> Track:
    kind = TrackType.TRACK_TYPE_VIDEO
    return Track(
        sid=f"TR_{identity}{number}", participant_identity=identity, type=kind, muted=muted, name=name, width=width
    )


class Room(RoomModel):
    """Ann, Bob and Eve, of whom Ann and Bob publish."""

    def __init__(self) -> None:
        super().__init__("room")
        self.participants = {identity: person(identity) for identity in ("ann", "bob", "eve")}
        self.tracks = {track.sid: track for track in (camera("ann", 1), camera("ann", 2), camera("bob", 1))}

    def tracks_of(self, identity: str) -> list[Track]:
        return [track for track in self.tracks.values() if track.participant_identity == identity]


def ruleset(condition: str) -> Ruleset | None:
    action = SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE
    rule = SubscriptionRule(name="one", condition=condition, action=action)
    return RoomRules(SubscriptionPolicy(room="room", rules=[rule])).ruleset("", None)


def scope(event: RoomEvent, *conditions: str, private: bool = False) -> Found:
    """What is decided anew. ``conditions``: of Ann's, Bob's and Eve's rules, or one for all; "": no rules."""
    model, before = Room(), Before()
    before.take(model)
    rules = [ruleset(condition) if condition else None for condition in conditions or ("",)]
    each = rules * 3 if len(rules) == 1 else rules
    rulesets: Mapping[str, Ruleset | None] = dict(zip(("ann", "bob", "eve"), each, strict=True))
    was, _ = before.took(event)
    found: Found = {}
    for identity, sids in touched(event, was, model, rulesets, private=private):
        assert identity not in found
        found[identity] = as_set(sids)
    return found


def as_set(sids: Collection[str] | None) -> set[str] | None:
    return None if sids is None else set(sids)


def test_who_joins_is_decided_for_as_a_subscriber_and_nobody_else_is() -> None:
    assert scope(RoomEvent(participant_joined=person("kim")), "track.muted") == {"kim": ALL}


@pytest.mark.parametrize(
    "event", [RoomEvent(track_published=camera("bob", 1)), RoomEvent(track_unpublished=camera("bob", 1))]
)
def test_a_track_that_comes_or_goes_is_decided_for_everybody_and_no_other_track(event: RoomEvent) -> None:
    assert scope(event, "true") == {"ann": {"TR_bob1"}, "bob": {"TR_bob1"}, "eve": {"TR_bob1"}}


def test_a_change_of_a_track_that_no_rule_reads_and_no_layer_needs_is_nothing() -> None:
    assert scope(RoomEvent(track_updated=camera("bob", 1, name="other")), "track.source == 1") == {}
    assert scope(RoomEvent(track_updated=camera("bob", 1, name="other"))) == {}


def test_a_change_that_a_rule_reads_is_decided_for_those_that_have_the_rule() -> None:
    event = RoomEvent(track_updated=camera("bob", 1, name="other"))
    assert scope(event, "track.name == 'cam'", "", "") == {"ann": {"TR_bob1"}}
    assert scope(event, "track.name == 'cam'") == {"ann": {"TR_bob1"}, "eve": {"TR_bob1"}}


@pytest.mark.parametrize(
    "event",
    [RoomEvent(track_updated=camera("bob", 1, width=320)), RoomEvent(track_muted=camera("bob", 1, muted=True))],
)
def test_what_layers_and_costs_are_made_from_is_decided_without_any_rule(event: RoomEvent) -> None:
    assert scope(event) == {"ann": {"TR_bob1"}, "eve": {"TR_bob1"}}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("track.muted", {}),
        ('subscriber.attributes["seat"] == "back"', {"ann": ALL}),
        ('publisher.attributes["seat"] == "back"', {"bob": {"TR_ann1", "TR_ann2"}, "eve": {"TR_ann1", "TR_ann2"}}),
        ('publisher.attributes["other"] == "back"', {}),
    ],
)
def test_a_participants_change_is_decided_by_who_reads_it(condition: str, expected: Found) -> None:
    assert scope(RoomEvent(participant_updated=person("ann", seat="back")), condition) == expected


def test_a_subscriber_who_may_no_more_or_whom_private_tracks_may_let_in_is_decided_for() -> None:
    assert scope(RoomEvent(participant_updated=person("ann", may=False))) == {"ann": ALL}
    assert scope(RoomEvent(participant_updated=person("ann", seat="back")), private=True) == {"ann": ALL}
    assert scope(RoomEvent(participant_updated=person("ann", seat="back"))) == {}


def test_a_publishers_quality_is_decided_by_where_it_is_read() -> None:
    event = RoomEvent(quality_changed=ParticipantQuality(participant_identity="ann"))
    assert scope(event, "track.muted") == {}
    both = {"TR_ann1", "TR_ann2"}
    assert scope(event, "quality.score < 2.0", "", "quality.score < 2.0") == {"eve": both}


def test_of_a_quality_only_what_is_read_and_differs_counts() -> None:
    model, before = Room(), Before()
    model.qualities["ann"] = ParticipantQuality(participant_identity="ann", score=4.0)
    before.take(model)
    rules = {"bob": ruleset("quality.score < 2.0"), "eve": ruleset("has(quality.connection_quality)")}
    event = RoomEvent(quality_changed=ParticipantQuality(participant_identity="ann", score=1.5))
    was, _ = before.took(event)
    assert [name for name, _ in touched(event, was, model, rules, private=False)] == ["bob"]
    was, _ = before.took(event)
    assert not list(touched(event, was, model, rules, private=False))


def test_what_was_told_is_what_is_compared_with_next() -> None:
    before = Before()
    before.take(Room())
    renamed = camera("bob", 1, name="other")
    assert before.took(RoomEvent(track_updated=renamed))[0] == camera("bob", 1)
    assert before.took(RoomEvent(track_updated=camera("bob", 1)))[0] is not None
    assert before.took(RoomEvent(track_unpublished=renamed)) == (camera("bob", 1), None)
    assert before.took(RoomEvent(participant_left=person("ann")))[1] is None
    assert "ann" not in before.participants
