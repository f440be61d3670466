"""What is limited, as terms: each track keeps the floor of its own policy."""

from typing import Final

from track.v1.quality_policy_pb2 import QualityActionKind, QualityPolicy
from track.v1.subscription_pb2 import LayerTermKind
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO, Track, VideoQuality
from track_server.quality.acting.lines import together
from track_server.quality.acting.terms import Hand, Held, Place, clipped, covered, of_hands, of_lines
from track_server.quality.core.adapting.ladder import HIGH, LOW, MEDIUM, OFF, ActionKind, Family, Line, Policy

TRACKS: Final = [
    Track(sid="TR_ann", participant_identity="ann", type=TRACK_TYPE_VIDEO),
    Track(sid="TR_bob", participant_identity="bob", type=TRACK_TYPE_VIDEO),
    Track(sid="TR_sound", participant_identity="bob", type=TRACK_TYPE_AUDIO),
]
DOWNLINK: Final = Line(Family.DOWNLINK, "ann")
UPLINK: Final = Line(Family.UPLINK, "bob")
ALL: Final = Policy()
KEEPS: Final = Policy(allowed=frozenset({ActionKind.LIMIT_NETWORK, ActionKind.CAP_PUBLISHER}), floor=MEDIUM)
NETWORK_KIND: Final = QualityActionKind.QUALITY_ACTION_KIND_LIMIT_NETWORK
OFF_KIND: Final = QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF


def sids(line: Line) -> list[str]:
    """Of what the line is about."""
    return [track.sid for track in covered(line, TRACKS)]


def test_a_subscribers_line_is_about_others_videos_and_a_publishers_about_its_own() -> None:
    assert sids(DOWNLINK) == sids(Line(Family.RECEIVER, "ann")) == ["TR_bob"]
    assert sids(UPLINK) == sids(Line(Family.SENDER, "bob")) == ["TR_bob"]
    assert sids(Line(Family.DOWNLINK, "carol")) == ["TR_ann", "TR_bob"]
    assert sids(Line(Family.MEDIA, "bob", "TR_sound")) == ["TR_sound"]


def test_a_track_is_lowered_as_far_as_its_own_policy_lets_it() -> None:
    for left in (MEDIUM, LOW, OFF):
        assert clipped(ALL, Family.DOWNLINK, left) == left
        assert clipped(KEEPS, Family.DOWNLINK, left) == MEDIUM
        assert clipped(None, Family.DOWNLINK, left) is None
        assert clipped(Policy(allowed=frozenset({ActionKind.LIMIT_CPU})), Family.DOWNLINK, left) is None
    without_off = Policy(allowed=frozenset({ActionKind.LIMIT_NETWORK}), floor=LOW)
    assert clipped(without_off, Family.DOWNLINK, OFF) == LOW
    assert clipped(Policy(floor=HIGH), Family.DOWNLINK, LOW) is None


def test_terms_are_of_single_tracks_each_with_its_floor() -> None:
    def at(identity: str, sid: str) -> Policy:
        return KEEPS if sid == "TR_bob" else ALL

    held = {
        Line(Family.DOWNLINK, "carol"): Held(LOW, ActionKind.LIMIT_NETWORK, "network_loss"),
        UPLINK: Held(OFF, ActionKind.VIDEO_OFF, "severe_loss"),
    }
    found = {place: (term.kind, term.quality, term.detail) for place, term in of_lines(held, TRACKS, at).items()}
    network, cap = LayerTermKind.LAYER_TERM_KIND_NETWORK, LayerTermKind.LAYER_TERM_KIND_PUBLISHER_CAP
    medium = VideoQuality.VIDEO_QUALITY_MEDIUM
    assert found == {
        Place("quality downlink", "carol", "TR_ann"): (network, VideoQuality.VIDEO_QUALITY_LOW, "network_loss"),
        Place("quality downlink", "carol", "TR_bob"): (network, medium, "network_loss"),
        Place("quality uplink", "", "TR_bob"): (cap, medium, "severe_loss"),
    }


def test_limits_by_hand_of_one_participant_do_not_replace_each_other() -> None:
    def hand(kind: "QualityActionKind.ValueType", sid: str = "") -> Hand:
        low = VideoQuality.VIDEO_QUALITY_LOW
        return Hand(kind=kind, identity="bob", track_sid=sid, quality=low, expire_time=12.5, detail="why")

    cap = QualityActionKind.QUALITY_ACTION_KIND_CAP_PUBLISHER
    hands = [hand(NETWORK_KIND), hand(OFF_KIND), hand(NETWORK_KIND, "TR_ann"), hand(cap), hand(cap, "TR_bob")]
    found = of_hands(hands, TRACKS)
    assert [(place.identity, place.track_sid) for place in found] == [
        ("bob", ""),
        ("bob", ""),
        ("bob", "TR_ann"),
        ("", "TR_bob"),
        ("", "TR_bob"),
    ]
    assert {term.expire_time.ToMilliseconds() for term in found.values()} == {12_500}


def test_a_line_goes_as_far_as_one_of_its_tracks_may() -> None:
    assert together([]) is None
    assert together([QualityPolicy()]) is None
    wide = QualityPolicy(allowed_actions=[NETWORK_KIND], floor=VideoQuality.VIDEO_QUALITY_MEDIUM, held_back_share=0.5)
    narrow = QualityPolicy(track_sid="TR_1", allowed_actions=[OFF_KIND])
    found = together([wide, narrow])
    assert found is not None
    assert found.allowed == {ActionKind.LIMIT_NETWORK, ActionKind.VIDEO_OFF}
    assert (found.floor, found.hold_back) == (OFF, 0.5)
    # What allows nothing does not lower the floor.
    assert together([wide, QualityPolicy(track_sid="TR_1")]) == together([wide])
