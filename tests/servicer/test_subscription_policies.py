"""Subscription policies: kept with an etag, inherited, told of, refused, and there again after a restart."""

import asyncio
from typing import Final

import grpc
import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.refusals import refusal
from tests.streams import events
from tests.subscription_policies import LEAVE, UNSUBSCRIBE, delete_policy, get_policy, policy, rule, set_policy
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2, track_pb2
from track.v1 import subscription_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NO_SCREENS: Final = rule("no-screens", "track.source == TrackSource.TRACK_SOURCE_SCREEN_SHARE", UNSUBSCRIBE)
PRESENTERS: Final = rule("presenters", 'track.metadata.role == "presenter"', priority=90)


async def test_it_is_kept_shown_listed_and_removed(admin: Client, room_name: str) -> None:
    room = room_name
    refused = await refusal(get_policy(admin, room))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "SUBSCRIPTION_POLICY_NOT_FOUND")
    kept = await set_policy(admin, room, policy(NO_SCREENS, bandwidth_bps=500_000))
    assert (kept.room, kept.participant_identity, kept.creator_identity) == (room, "", "admin")
    assert kept.etag
    assert kept.HasField("update_time")
    assert list(kept.rules) == [NO_SCREENS]
    shown = await get_policy(admin, room)
    assert (shown.policy, shown.effective, list(shown.inherited)) == (kept, kept, [])
    replaced = await set_policy(admin, room, policy(PRESENTERS))
    assert replaced.etag not in ("", kept.etag)
    assert not replaced.HasField("bandwidth_bps")
    for identity in ("zoe", "ann", "bob"):
        await set_policy(admin, room, policy(rule(f"of-{identity}")), identity)
    request = pb.ListSubscriptionPoliciesRequest(room=room, page_size=3)
    page = await admin.ListSubscriptionPolicies(request)
    assert [found.participant_identity for found in page.policies] == ["", "ann", "bob"]
    assert page.policies[0] == replaced
    request.page_token = page.next_page_token
    page = await admin.ListSubscriptionPolicies(request)
    assert [found.participant_identity for found in page.policies] == ["zoe"]
    assert not page.next_page_token
    request.page_token = "x"
    assert (await refusal(admin.ListSubscriptionPolicies(request))).reason == "INVALID_PAGE_TOKEN"
    assert await delete_policy(admin, room) == replaced
    refused = await refusal(delete_policy(admin, room))
    assert refused.reason == "SUBSCRIPTION_POLICY_NOT_FOUND"
    # Those of subscribers are there without one of the room.
    assert (await get_policy(admin, room, "ann")).policy.rules[0].name == "of-ann"
    refused = await refusal(get_policy(admin, room, "eve"))
    assert refused.reason == "SUBSCRIPTION_POLICY_NOT_FOUND"


async def test_what_a_subscriber_inherits_can_be_read(admin: Client, room_name: str) -> None:
    room = room_name
    low = pb.SubscriptionSettings(quality=track_pb2.VIDEO_QUALITY_LOW, priority=20)
    defaults = pb.SubscriptionDefaults(action=UNSUBSCRIBE, settings=low)
    kept = await set_policy(admin, room, policy(NO_SCREENS, PRESENTERS, defaults=defaults, bandwidth_bps=900_000))
    theirs = await get_policy(admin, room, "ann")
    assert not theirs.HasField("policy")
    assert list(theirs.effective.rules) == list(kept.rules)
    assert (theirs.effective.defaults, theirs.effective.bandwidth_bps) == (defaults, 900_000)
    assert list(theirs.inherited) == [
        *("rules[0]", "rules[1]", "defaults.action", "defaults.settings.quality", "defaults.settings.priority"),
        "bandwidth_bps",
    ]
    own_defaults = pb.SubscriptionDefaults(settings=pb.SubscriptionSettings(width=640, height=360))
    own = await set_policy(admin, room, policy(rule("mine"), defaults=own_defaults, bandwidth_bps=100_000), "ann")
    found = await get_policy(admin, room, "ann")
    assert found.policy == own
    assert [rule.name for rule in found.effective.rules] == ["mine", "no-screens", "presenters"]
    assert found.effective.participant_identity == "ann"
    assert found.effective.bandwidth_bps == 100_000
    assert found.effective.defaults == pb.SubscriptionDefaults(
        action=UNSUBSCRIBE, settings=pb.SubscriptionSettings(width=640, height=360, priority=20)
    )
    assert list(found.inherited) == ["rules[1]", "rules[2]", "defaults.action", "defaults.settings.priority"]
    await delete_policy(admin, room, "ann")
    assert await get_policy(admin, room, "ann") == theirs


async def test_of_two_callers_with_one_etag_one_is_told_the_other_came_first(admin: Client, room_name: str) -> None:
    room = room_name
    first = await set_policy(admin, room, policy(), etag="*")
    refused = await refusal(set_policy(admin, room, policy(), etag="*"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert (refused.metadata["etag"], refused.fields) == (first.etag, ("etag",))
    outcomes = await asyncio.gather(
        *(set_policy(admin, room, policy(rule(f"r{number}")), etag=first.etag) for number in range(8)),
        return_exceptions=True,
    )
    (won,) = [outcome for outcome in outcomes if isinstance(outcome, pb.SubscriptionPolicy)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert len(lost) == 7
    assert {error.code() for error in lost} == {grpc.StatusCode.ABORTED}
    assert (await get_policy(admin, room)).policy == won
    refused = await refusal(delete_policy(admin, room, etag=first.etag))
    assert (refused.reason, refused.metadata["etag"]) == ("ETAG_MISMATCH", won.etag)
    assert await delete_policy(admin, room, etag=won.etag) == won
    # What is gone has no state but that it is not there.
    refused = await refusal(set_policy(admin, room, policy(), etag=won.etag))
    assert (refused.reason, refused.metadata["etag"]) == ("ETAG_MISMATCH", "*")
    refused = await refusal(delete_policy(admin, room, etag=won.etag))
    assert refused.reason == "SUBSCRIPTION_POLICY_NOT_FOUND"
    again = await set_policy(admin, room, policy(), etag="*")
    assert again.etag not in (first.etag, won.etag)


async def test_a_call_that_is_sent_again_does_nothing_more_and_a_trial_does_nothing(
    admin: Client, room_name: str
) -> None:
    room = room_name
    tried = await set_policy(admin, room, policy(NO_SCREENS), validate_only=True)
    assert list(tried.rules) == [NO_SCREENS]
    assert (await refusal(get_policy(admin, room))).reason == "SUBSCRIPTION_POLICY_NOT_FOUND"
    kept = await set_policy(admin, room, policy(NO_SCREENS), request_id="a")
    assert await set_policy(admin, room, policy(NO_SCREENS), request_id="a") == kept
    assert (await refusal(set_policy(admin, room, policy(), request_id="a"))).reason == "REQUEST_ID_REUSED"
    assert (await set_policy(admin, room, policy(), validate_only=True)).etag == kept.etag
    refused = await refusal(set_policy(admin, room, policy(rule("x", "track.nme == 1")), validate_only=True))
    assert refused.reason == "INVALID_EXPRESSION"
    assert await delete_policy(admin, room, validate_only=True) == kept
    assert (await get_policy(admin, room)).policy == kept


async def test_those_who_watch_are_told_who_set_it_and_see_it_in_snapshots(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "ann"), events(admin, room) as stream:
        await stream.snapshot()
        kept = await set_policy(admin, room, policy(NO_SCREENS))
        told = await stream.until("policy_changed")
        assert told == event_pb2.PolicyChanged(kind=event_pb2.POLICY_KIND_SUBSCRIPTION_POLICY)
        cause = stream.seen[-1].event.cause
        assert (cause.principal_identity, bool(cause.request_id), cause.rule) == ("admin", True, "")
        own = await set_policy(admin, room, policy(rule("mine")), "ann")
        assert (await stream.until("policy_changed")).name == "ann"
        async with events(admin, room) as late:
            assert list((await late.snapshot()).subscription_policies) == [kept, own]
        await delete_policy(admin, room)
        told = await stream.until("policy_changed")
        assert (told.name, told.removed) == ("", True)
        async with events(admin, room) as late:
            assert list((await late.snapshot()).subscription_policies) == [own]


@pytest.mark.parametrize(
    ("wanted", "fields", "said"),
    [
        (policy(rule("a"), rule("a")), ("policy",), "same name"),
        (policy(rule("")), ("policy.rules[0].name",), ""),
        (policy(rule("a b")), ("policy.rules[0].name",), ""),
        (policy(rule("a", "x" * 4097)), ("policy.rules[0].condition",), "4096"),
        (policy(*(rule(f"r{number}") for number in range(101))), ("policy.rules",), "100"),
        (policy(rule("a", action=UNSUBSCRIBE, priority=1)), ("policy.rules[0]",), "no settings"),
        (policy(rule("a", priority=0)), ("policy.rules[0].settings.priority",), ""),
        (policy(rule("a", priority=101)), ("policy.rules[0].settings.priority",), ""),
        (policy(rule("a", quality=track_pb2.VIDEO_QUALITY_OFF)), ("policy.rules[0].settings.quality",), ""),
        (policy(rule("a", width=0, height=1)), ("policy.rules[0].settings.width",), ""),
        (policy(rule("a", width=1)), ("policy.rules[0].settings",), "go together"),
        (
            policy(rule("a", width=1, height=1, quality=track_pb2.VIDEO_QUALITY_LOW)),
            ("policy.rules[0].settings",),
            "either",
        ),
        (policy(rule("a", frames_per_second=0.5)), ("policy.rules[0].settings.frames_per_second",), ""),
        (policy(rule("a", frames_per_second=float("nan"))), ("policy.rules[0].settings.frames_per_second",), ""),
        (policy(bandwidth_bps=15_999), ("policy.bandwidth_bps",), "16000"),
        (policy(room="elsewhere"), ("policy.room",), "another room"),
        (policy(participant_identity="bob"), ("policy.participant_identity",), "another participant"),
        (
            policy(rule("a", "track.type == TrackType.TRACK_TYPE_AUDIO", quality=track_pb2.VIDEO_QUALITY_LOW)),
            ("policy.rules[0].settings.quality",),
            "sound",
        ),
        (policy(*(rule(f"r{number}", "true" + " " * 900) for number in range(80))), ("policy",), "65536"),
    ],
)
async def test_what_cannot_be_a_policy_is_refused(
    admin: Client, room_name: str, wanted: pb.SubscriptionPolicy, fields: tuple[str, ...], said: str
) -> None:
    refused = await refusal(set_policy(admin, room_name, wanted, "ann"))
    assert (refused.code, refused.fields) == (INVALID, fields), refused
    assert said in refused.message


@pytest.mark.parametrize(
    ("condition", "line", "column", "suggestion"),
    [
        ("track.sourc == TrackSource.TRACK_SOURCE_CAMERA", "1", "6", "source"),
        ("track.name == 'x' &&\n  publisher.atributes.x == 'y'", "2", "12", "attributes"),
        ("track.muted == 'yes'", "1", "13", None),
        ("subscriber.name", "1", "1", None),
        ("listener.name == 'x'", "1", "9", None),
    ],
)
async def test_a_condition_that_does_not_compile_is_refused_with_its_place_and_the_nearest_name(
    admin: Client, room_name: str, condition: str, line: str, column: str, suggestion: str | None
) -> None:
    wanted = policy(rule("a"), rule("b"), rule("c", condition))
    refused = await refusal(set_policy(admin, room_name, wanted))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_EXPRESSION")
    assert refused.fields == ("policy.rules[2].condition",)
    assert (refused.metadata["line"], refused.metadata["column"]) == (line, column)
    assert refused.metadata.get("suggestion") == suggestion


async def test_only_admins_of_the_room_set_them_and_a_room_has_so_many(
    track: TrackProcess, start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    async with track.client("ann", room_join=True, room=room_name) as ann:
        for call in (set_policy(ann, room_name, policy()), delete_policy(ann, room_name, "ann")):
            assert (await refusal(call)).code is grpc.StatusCode.PERMISSION_DENIED
        assert (await refusal(get_policy(ann, room_name))).reason == "SUBSCRIPTION_POLICY_NOT_FOUND"
    limits = {"TRACK_MAX_SUBSCRIPTION_POLICIES_PER_ROOM": "2", "TRACK_MEDIA_WORKERS": "0"}
    server = await start_track(livekit, limits)
    async with server.client("admin", room_admin=True, room=room_name) as admin:
        kept = await set_policy(admin, room_name, policy(rule("all", action=LEAVE, choose=True)))
        await set_policy(admin, room_name, policy(), "ann")
        refused = await refusal(set_policy(admin, room_name, policy(), "bob"))
        assert refused.quota == ("max_subscription_policies_per_room", 2, f"room {room_name}")
        own = await set_policy(admin, room_name, policy(NO_SCREENS), "ann")
        # They outlive the server, and the room, which was never there.
        await server.kill()
        await server.start()
    async with server.client("admin", room_admin=True, room=room_name) as admin:
        listed = await admin.ListSubscriptionPolicies(pb.ListSubscriptionPoliciesRequest(room=room_name), timeout=30)
        assert list(listed.policies) == [kept, own]
        refused = await refusal(set_policy(admin, room_name, policy(), "ann", etag="*"))
        assert refused.metadata["etag"] == own.etag
