"""Sessions that are let in on a participant's behalf."""

from track.v1 import subscription_permission_pb2 as pb
from track_server.private_tracks.admission import lets_in
from track_server.private_tracks.guests import Guests, admitted
from track_server.private_tracks.rule import Rule
from track_server.publishing.audience import OPEN, Audience

RULE = Rule(pb.TrackSubscriptionRule(participant_identities=["ann"]))


def test_a_guest_is_let_in_as_the_participant_is_and_no_longer_than_it_is_there() -> None:
    changes: list[str] = []
    guests = Guests(changes.append)
    with guests.admit("room", "g1", "ann"), guests.admit("room", "g2", "ben"), guests.admit("other", "g3", "ann"):
        assert admitted(guests.of_room("room"), RULE, ()) == {"g1"}
        assert admitted(guests.of_room("room"), RULE, {"ben"}) == {"g1", "g2"}
        assert changes == ["room", "room", "other"]
    assert not guests.of_room("room")
    assert changes == ["room", "room", "other", "other", "room", "room"]


def test_nobody_is_a_guest_of_nobody() -> None:
    assert admitted({"g": ""}, RULE, ()) == frozenset()


def test_what_livekit_was_told_lets_in_who_is_named() -> None:
    told = Audience(frozenset({"g", "ben"}), {"PUB_1": frozenset({"g"}), "PUB_2": frozenset({"ben"})})
    assert lets_in(told, "g", "PUB_1", private=True)
    assert not lets_in(told, "g", "PUB_2", private=True)
    assert lets_in(told, "g", "PUB_3", private=False)
    # A rule that LiveKit was not told of yet.
    assert not lets_in(told, "g", "PUB_3", private=True)
    assert not lets_in(told, "stranger", "PUB_3", private=False)
    for nothing in (None, OPEN):
        assert lets_in(nothing, "g", "PUB_1", private=False)
        assert not lets_in(nothing, "g", "PUB_1", private=True)
