"""ExplainSubscriptions: what policies would do to those in the room, or to those that are given, and why."""

from typing import Any, Final

import grpc
import pytest

from tests.focuses import set_focus, whole
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import until_listed
from tests.refusals import refusal
from tests.subscription_policies import UNSUBSCRIBE, explain, get_policy, policy, rule, set_policy
from tests.track_process import Client, TrackProcess
from track.v1 import subscription_pb2 as pb
from track.v1 import track_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LOW, HIGH = track_pb2.VIDEO_QUALITY_LOW, track_pb2.VIDEO_QUALITY_HIGH
ROOM = pb.SUBSCRIPTION_DECIDER_ROOM_RULE
OWN = pb.SUBSCRIPTION_DECIDER_SUBSCRIBER_RULE
DEFAULTS = pb.SUBSCRIPTION_DECIDER_DEFAULTS
VIDEO_ONLY = "track.type == TrackType.TRACK_TYPE_VIDEO"


LAYERS: Final = [
    track_pb2.VideoLayer(quality=LOW, width=320, height=180, bitrate_bps=150_000),
    track_pb2.VideoLayer(quality=track_pb2.VIDEO_QUALITY_MEDIUM, width=640, height=360, bitrate_bps=450_000),
    track_pb2.VideoLayer(quality=HIGH, width=1280, height=720, bitrate_bps=1_500_000),
]


def person(identity: str, **attributes: str) -> track_pb2.Participant:
    return track_pb2.Participant(identity=identity, attributes=attributes)


def video(sid: str, publisher: str, **fields: Any) -> track_pb2.Track:
    """A camera of three layers."""
    metadata = fields.pop("metadata", {})
    track = track_pb2.Track(
        sid=sid,
        participant_identity=publisher,
        type=track_pb2.TRACK_TYPE_VIDEO,
        source=track_pb2.TRACK_SOURCE_CAMERA,
        width=1280,
        height=720,
        layers=LAYERS,
        **fields,
    )
    track.metadata.update(metadata)
    return track


def sound(sid: str, publisher: str) -> track_pb2.Track:
    kind, source = track_pb2.TRACK_TYPE_AUDIO, track_pb2.TRACK_SOURCE_MICROPHONE
    return track_pb2.Track(sid=sid, participant_identity=publisher, type=kind, source=source)


PEOPLE: Final = [person("ann", seat="front"), person("bob", seat="back"), person("eve")]
TRACKS: Final = [video("TR_b", "bob", metadata={"role": "presenter"}), sound("TR_m", "bob"), video("TR_e", "eve")]
GIVEN: Final[dict[str, Any]] = {"participants": PEOPLE, "tracks": TRACKS}


async def test_it_tells_what_would_be_and_which_rules_were_looked_at(admin: Client, room_name: str) -> None:
    """The room need not exist, and nothing is kept."""
    tried = policy(
        rule("back", 'subscriber.attributes.seat == "back" && ' + VIDEO_ONLY, UNSUBSCRIBE),
        rule("presenter", 'track.metadata.role == "presenter"', quality=HIGH, priority=90),
        defaults=pb.SubscriptionDefaults(settings=pb.SubscriptionSettings(quality=LOW, priority=10)),
    )
    found = await explain(admin, room_name, policy=tried, **GIVEN)
    pairs = [(one.participant_identity, one.track_sid, one.publisher_identity) for one in found]
    assert pairs == [
        *(("ann", "TR_b", "bob"), ("ann", "TR_e", "eve"), ("ann", "TR_m", "bob"), ("bob", "TR_e", "eve")),
        *(("eve", "TR_b", "bob"), ("eve", "TR_m", "bob")),
    ]
    by_pair = {(one.participant_identity, one.track_sid): one for one in found}
    presented = by_pair["ann", "TR_b"]
    assert presented.desired == pb.DesiredSubscription(
        subscribed=True,
        settings=pb.SubscriptionSettings(quality=HIGH, priority=90),
        decider=ROOM,
        rule="presenter",
    )
    assert [(seen.rule, seen.matched, seen.error) for seen in presented.examined] == [
        ("back", False, ""),
        ("presenter", True, ""),
    ]
    assert (presented.layer.quality, presented.layer.width, presented.layer.priority) == (HIGH, 1280, 90)
    # Eve has no seat: the rule could not be evaluated.
    missing = by_pair["eve", "TR_b"].examined[0]
    assert (missing.rule, missing.matched, missing.error) == ("back", False, 'no key "seat"')
    taken = by_pair["bob", "TR_e"]
    assert (taken.desired.HasField("subscribed"), taken.desired.subscribed, taken.desired.rule) == (True, False, "back")
    assert not taken.HasField("layer")
    assert len(taken.examined) == 1
    left = by_pair["ann", "TR_e"]
    assert (left.desired.decider, left.desired.HasField("subscribed")) == (DEFAULTS, False)
    assert (left.layer.quality, left.layer.limiting_term) == (LOW, pb.LAYER_TERM_KIND_POLICY)
    assert [(seen.rule, seen.matched, seen.error) for seen in left.examined][1] == ("presenter", False, 'no key "role"')
    heard = by_pair["ann", "TR_m"]
    assert heard.desired.settings == pb.SubscriptionSettings(priority=10)
    assert not heard.HasField("layer")
    assert (await refusal(get_policy(admin, room_name))).reason == "SUBSCRIPTION_POLICY_NOT_FOUND"


async def test_a_budget_is_shared_by_priority_and_named(admin: Client, room_name: str) -> None:
    people = [person("ann"), person("bob")]
    tracks = [video(f"TR_{number}", "bob") for number in range(3)]
    tried = policy(rule("first", 'track.sid == "TR_2"', priority=90), rule("others"), bandwidth_bps=700_000)
    found = await explain(admin, room_name, policy=tried, participants=people, tracks=tracks)
    layers = {one.track_sid: one.layer for one in found}
    assert {sid: layer.quality for sid, layer in layers.items()} == {
        "TR_2": track_pb2.VIDEO_QUALITY_MEDIUM,
        "TR_0": LOW,
        "TR_1": track_pb2.VIDEO_QUALITY_OFF,
    }
    assert {layer.limiting_term for layer in layers.values()} == {pb.LAYER_TERM_KIND_BUDGET}
    assert layers["TR_2"].terms[-1].bitrate_bps == 700_000
    # One of them alone has the same share as with the others.
    (alone,) = await explain(
        admin, room_name, policy=tried, participants=people, tracks=tracks, participant_identity="ann", track_sid="TR_0"
    )
    assert alone.layer == layers["TR_0"]


async def test_what_is_kept_holds_but_for_the_policy_that_is_tried(admin: Client, room_name: str) -> None:
    await set_policy(admin, room_name, policy(rule("kept", action=UNSUBSCRIBE)))
    await set_policy(admin, room_name, policy(rule("own", VIDEO_ONLY)), "ann")

    async def rules(tried: pb.SubscriptionPolicy | None = None) -> dict[str, str]:
        found = await explain(admin, room_name, policy=tried, track_sid="TR_e", **GIVEN)
        return {one.participant_identity: one.desired.rule for one in found}

    assert await rules() == {"ann": "own", "bob": "kept"}
    assert await rules(policy(rule("tried"))) == {"ann": "own", "bob": "tried"}
    assert await rules(policy(rule("tried"), participant_identity="bob")) == {"ann": "own", "bob": "tried"}
    assert await rules(policy(participant_identity="ann")) == {"ann": "kept", "bob": "kept"}
    (found,) = await explain(admin, room_name, participant_identity="ann", track_sid="TR_m", **GIVEN)
    assert [(seen.rule, seen.of_subscriber, seen.matched) for seen in found.examined] == [
        ("own", True, False),
        ("kept", False, True),
    ]
    assert found.desired.decider == ROOM


async def test_without_a_policy_nothing_is_decided(admin: Client, room_name: str) -> None:
    (found,) = await explain(admin, room_name, participant_identity="ann", track_sid="TR_e", **GIVEN)
    assert found.desired == pb.DesiredSubscription()
    assert not found.examined
    assert (found.layer.quality, found.layer.limiting_term) == (HIGH, pb.LAYER_TERM_KIND_PUBLISHER)


async def test_it_goes_on_from_page_to_page(admin: Client, room_name: str) -> None:
    people = [person(f"p{number}") for number in range(5)]
    tracks = [video(f"TR_{number}", f"p{number}") for number in range(5)]
    request = pb.ExplainSubscriptionsRequest(room=room_name, participants=people, tracks=tracks, page_size=3)
    found = []
    for _ in range(20):
        page = await admin.ExplainSubscriptions(request, timeout=30)
        assert 1 <= len(page.explanations) <= 3
        found += [(one.participant_identity, one.track_sid) for one in page.explanations]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == [(f"p{a}", f"TR_{b}") for a in range(5) for b in range(5) if a != b]
    request.page_token = (await admin.ExplainSubscriptions(request, timeout=30)).next_page_token
    request.participant_identity = "p1"
    refused = await refusal(admin.ExplainSubscriptions(request, timeout=30))
    assert refused.reason == "INVALID_PAGE_TOKEN"


async def test_those_in_the_room_are_meant_where_none_are_given(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob"),
        participant(livekit, room, "deaf", can_subscribe=False),
        participant(livekit, room, "ghost", hidden=True),
        camera(ann) as cam,
    ):
        mic = await microphone(ann)
        data = await ann.local_participant.publish_data_track(name="d")
        await until_listed(admin, room, cam.sid, mic.sid, data.info.sid)
        tried = policy(rule("cameras", VIDEO_ONLY, enabled=False))
        found = await explain(admin, room, policy=tried)
        assert [(one.participant_identity, one.track_sid, one.desired.rule) for one in found] == sorted(
            [("bob", cam.sid, "cameras"), ("bob", mic.sid, "")]
        )
        seen = next(one for one in found if one.track_sid == cam.sid)
        assert seen.layer.quality == track_pb2.VIDEO_QUALITY_OFF
        # Somebody who is not there yet, with the tracks that are.
        found = await explain(admin, room, policy=tried, participants=[person("new")], track_sid=cam.sid)
        assert [(one.participant_identity, one.publisher_identity) for one in found] == [("new", "ann")]
        # A track that is not there yet, with the participants that are.
        found = await explain(admin, room, policy=tried, tracks=[video("TR_new", "bob")])
        assert [(one.participant_identity, one.track_sid) for one in found] == [("ann", "TR_new")]
        # Of those who are there the focus counts, and what their clients report.
        await set_focus(admin, room, pinned=[whole("bob")])
        state = pb.SubscriberState(
            viewports=[pb.TrackViewport(track_sid=cam.sid, width=160, height=90)], downlink_bps=5_000_000
        )
        report = pb.ReportSubscriberStateRequest(room=room, participant_identity="bob", state=state)
        await admin.ReportSubscriberState(report, timeout=30)
        request = {"policy": policy(rule("all"), bandwidth_bps=9_000_000), "track_sid": cam.sid}
        (seen,) = await explain(admin, room, **request)
        terms = {term.kind: term for term in seen.layer.terms}
        assert {pb.LAYER_TERM_KIND_FOCUS, pb.LAYER_TERM_KIND_VIEWPORT} <= terms.keys()
        assert terms[pb.LAYER_TERM_KIND_BUDGET].bitrate_bps == 5_000_000
        (seen,) = await explain(admin, room, participants=[person("bob")], **request)
        assert {term.kind for term in seen.layer.terms} == {pb.LAYER_TERM_KIND_PUBLISHER, pb.LAYER_TERM_KIND_BUDGET}
        async with track.client("ann", room_join=True, room=room) as caller:
            assert len(await explain(caller, room, policy=tried)) == 2


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"tracks": [video("TR_x", "nobody")], "participants": PEOPLE}, "tracks[0].participant_identity", "publisher"),
        ({"tracks": [TRACKS[0], TRACKS[0]], "participants": PEOPLE}, "tracks[1].sid", "twice"),
        ({"tracks": [video("", "bob")], "participants": PEOPLE}, "tracks[0].sid", ""),
        ({"tracks": [video("TR_x", "bob", room="other")], "participants": PEOPLE}, "tracks[0].room", "another room"),
        ({"tracks": TRACKS, "participants": [*PEOPLE, PEOPLE[0]]}, "participants[3].identity", "twice"),
        ({"tracks": TRACKS, "participants": [*PEOPLE, person("")]}, "participants[3].identity", ""),
        ({"tracks": TRACKS, "participants": [person("x" * 257)]}, "participants[0].identity", "256"),
        ({**GIVEN, "policy": policy(room="other")}, "policy.room", "another room"),
        ({**GIVEN, "policy": policy(rule("a"), rule("b", "track.nme == 1"))}, "policy.rules[1].condition", "name"),
        ({**GIVEN, "policy": policy(rule("a"), rule("a"))}, "policy", "same name"),
        ({**GIVEN, "page_size": 1001}, "page_size", ""),
        ({"tracks": TRACKS, "participants": [person(f"p{n}") for n in range(101)]}, "participants", "100"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    admin: Client, room_name: str, fields: dict[str, Any], field: str, said: str
) -> None:
    refused = await refusal(explain(admin, room_name, **fields))
    assert (refused.code, refused.fields) == (INVALID, (field,)), refused
    assert said in refused.message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({**GIVEN, "participant_identity": "nobody"}, "PARTICIPANT_NOT_FOUND"),
        ({**GIVEN, "track_sid": "TR_nothing"}, "TRACK_NOT_FOUND"),
        ({"tracks": TRACKS}, "ROOM_NOT_FOUND"),
        ({"participants": PEOPLE}, "ROOM_NOT_FOUND"),
        ({}, "ROOM_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_not_found(
    admin: Client, room_name: str, fields: dict[str, Any], reason: str
) -> None:
    refused = await refusal(explain(admin, room_name, **fields))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, reason)


async def test_conditions_that_take_long_end_there_and_only_what_is_asked_about_is_looked_at(
    admin: Client, room_name: str
) -> None:
    """Whoever is in a room may ask, with participants, tracks and rules of its own."""
    dear = policy(rule("dear", "track.metadata.tags.all(tag, track.metadata.tags == track.metadata.tags)"))
    tracks = [video(f"TR_{index}", "bob", metadata={"tags": [None] * 800}) for index in range(60)]
    given: dict[str, Any] = {"participants": PEOPLE[:2], "tracks": tracks, "policy": dear}
    refused = await refusal(explain(admin, room_name, **given))
    assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_EXPRESSION", ("policy",))
    (one,) = await explain(admin, room_name, track_sid="TR_7", **given)
    assert one.examined == [pb.ExaminedRule(rule="dear", matched=True)]
