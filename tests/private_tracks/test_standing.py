"""How restrictions stand: what sessions are to say, who is to be unsubscribed, and what counts as kept."""

import pytest

from track.v1 import publication_pb2, track_pb2
from track.v1 import subscription_permission_pb2 as pb
from track_server.livekit.debug import DownTrack
from track_server.private_tracks.restrictions import Key, Restriction
from track_server.private_tracks.rule import Rule
from track_server.private_tracks.standing import (
    ENFORCED,
    WATCHED,
    Standing,
    Subject,
    asked_again,
    audience_of,
    enforced,
    seen,
    uninvited,
)
from track_server.publishing.audience import OPEN, Audience, Telling
from track_server.rooms.room import now

WATCHER = "track-watcher-1"


def participants(*identities: str) -> dict[str, track_pb2.Participant]:
    return {name: track_pb2.Participant(identity=name, sid=f"PA_{name}") for name in identities}


def standing(*allowed: str, hosted: bool = False) -> Standing:
    rule = Rule(pb.TrackSubscriptionRule(participant_identities=allowed, nobody=not allowed))
    key = Key("demo", "PUB_1") if hosted else Key("demo", track_sid="TR_1")
    video, camera = track_pb2.TRACK_TYPE_VIDEO, track_pb2.TRACK_SOURCE_CAMERA
    subject = Subject("host", "TR_1", hosted=hosted, type=video, source=camera)
    return Standing(Restriction(key, rule, 1, now()), subject)


def test_a_session_is_told_who_is_named_who_matches_and_the_watcher() -> None:
    found = standing("ann", "absent", hosted=True)
    found.allow(participants("ann", "ben", "host"), frozenset())
    (audience,) = audience_of([found, standing("cora")], frozenset({"ann", "ben"}), WATCHER).values()
    assert audience == Audience(frozenset({"ann", "ben", WATCHER}), {"PUB_1": frozenset({"ann", "absent", WATCHER})})


def test_hidden_ones_and_the_publisher_are_allowed_and_not_shown() -> None:
    found = standing("ann", "recorder", "host")
    found.allow(participants("ann", "recorder", "host"), {"recorder"})
    assert found.allowed == {"ann", "recorder", "host"}
    assert found.shown == ("ann",)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (None, False),
        (OPEN, False),
        (Audience(frozenset(), {"PUB_2": frozenset()}), False),
        (Audience(frozenset(), {"PUB_1": frozenset()}), True),
        (Audience(frozenset(), {"PUB_1": frozenset({"ann"})}), True),
        (Audience(frozenset(), {"PUB_1": frozenset({"ann", "ben"})}), False),
        (Audience(frozenset(), {"PUB_1": frozenset({"ann", "gone"})}), True),
    ],
)
def test_it_is_enforced_where_livekit_lets_in_nobody_present_who_may_not(told: Audience | None, kept: bool) -> None:
    assert enforced(told, "PUB_1", {"ann"}, {"ann", "ben"}) is kept


def test_copies_for_others_are_seen_but_the_watchers_own() -> None:
    found = standing("ann")
    found.allow(participants("ann", "ben"), frozenset())
    down = [DownTrack("TR_1", who, True, 0) for who in ("ann", "ben", WATCHER)] + [DownTrack("TR_2", "ben", True, 0)]
    assert [copy.subscriber_identity for copy in seen(down, found, WATCHER)] == ["ben"]


def test_everybody_new_is_asked_about_once_and_blindly_in_rounds() -> None:
    found, room = standing("ann"), participants("ann", "ben", "host", WATCHER)
    found.allow(room, frozenset())

    def due(at: float, *, blind: bool) -> list[str]:
        return uninvited(found, room, WATCHER, at, blind=blind)

    assert due(10, blind=False) == ["ben"]
    found.asked["ben"] = asked_again(None, "PA_ben", 10)
    assert due(100, blind=False) == []
    assert (due(10.5, blind=True), due(11, blind=True)) == ([], ["ben"])
    for at in (11, 12, 14):
        found.asked["ben"] = asked_again(found.asked["ben"], "PA_ben", at)
    assert due(100, blind=True) == []
    room["ben"] = track_pb2.Participant(identity="ben", sid="PA_again")
    assert due(100, blind=False) == ["ben"]


def test_who_loses_the_right_again_is_asked_about_again() -> None:
    found, room = standing("ann"), participants("ben")
    found.asked["ben"] = asked_again(None, "PA_ben", 0)
    found.restriction.rule.identities = frozenset({"ben"})
    found.allow(room, frozenset())
    found.restriction.rule.identities = frozenset()
    found.allow(room, frozenset())
    assert uninvited(found, room, WATCHER, 1, blind=False) == ["ben"]


def test_a_stage_is_never_beyond_what_was_seen() -> None:
    hosted, other = standing(hosted=True), standing()
    assert not hosted.settled
    assert hosted.stage()[0] == publication_pb2.STAGE_REQUESTED
    hosted.looked, hosted.unseen = True, True
    assert not hosted.settled, "LiveKit was not told yet"
    assert hosted.stage()[0] == publication_pb2.STAGE_REQUESTED
    hosted.level, hosted.unseen = ENFORCED, False
    assert (hosted.settled, hosted.stage()[0]) == (False, publication_pb2.STAGE_ACKNOWLEDGED)
    hosted.unseen = None
    assert (hosted.settled, hosted.stage()[0]) == (True, publication_pb2.STAGE_ACKNOWLEDGED)
    hosted.unseen = True
    assert (hosted.settled, hosted.stage()[0]) == (True, publication_pb2.STAGE_OBSERVED)
    other.level, other.looked, other.asking = WATCHED, True, 1
    assert not other.settled
    other.asking = 0
    assert (other.settled, other.stage()[0]) == (True, publication_pb2.STAGE_REQUESTED)


def test_a_worker_that_speaks_of_something_older_is_not_believed() -> None:
    telling = Telling()
    assert not telling.want(OPEN), "a session that was never restricted is told nothing"
    assert telling.message is None
    first, second = (Audience(frozenset(), {"PUB_1": frozenset({name})}) for name in ("ann", "ben"))
    assert telling.want(first)
    assert not telling.want(first)
    message = telling.message
    assert message is not None
    revision = message.revision
    assert telling.want(second)
    telling.told(revision)
    assert telling.in_force is None
    telling.told((telling.message or message).revision)
    assert telling.in_force == second
    telling.worker_lost()
    assert telling.in_force is None
