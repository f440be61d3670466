"""Quality policies: kept with an etag, the narrowest as a whole, told of, refused, and there again after a restart."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import TONE, pattern, publish, unpublish, until
from tests.quality_policies import CAP, CPU, NETWORK, OFF, RESTART, delete_policy, get_policy, policy, set_policy
from tests.refusals import refusal
from tests.streams import events
from tests.subscriptions import listed
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2, publication_update_pb2, quality_pb2, track_pb2
from track.v1 import quality_policy_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LOW, MEDIUM, HIGH = (
    track_pb2.VIDEO_QUALITY_LOW,
    track_pb2.VIDEO_QUALITY_MEDIUM,
    track_pb2.VIDEO_QUALITY_HIGH,
)
TARGETS = pb.QualityTargets(loss_percent=2, audio_mos=4, level=quality_pb2.QUALITY_LEVEL_GOOD)


async def test_it_is_kept_shown_listed_and_removed(admin: Client, room_name: str) -> None:
    room = room_name
    refused = await refusal(get_policy(admin, room))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "QUALITY_POLICY_NOT_FOUND")
    wanted = policy(NETWORK, OFF, targets=TARGETS, held_back_share=0.25)
    wanted.timing.calm_time.FromSeconds(20)
    kept = await set_policy(admin, room, wanted)
    assert (kept.room, kept.participant_identity, kept.track_sid, kept.creator_identity) == (room, "", "", "admin")
    assert kept.etag
    assert kept.HasField("update_time")
    assert (list(kept.allowed_actions), kept.targets, kept.timing) == ([NETWORK, OFF], TARGETS, wanted.timing)
    shown = await get_policy(admin, room)
    assert (shown.policy, shown.effective) == (kept, kept)
    replaced = await set_policy(admin, room, policy(NETWORK, floor=MEDIUM))
    assert replaced.etag not in ("", kept.etag)
    assert (replaced.HasField("targets"), replaced.held_back_share) == (False, 0)
    for identity in ("zoe", "ann", "bob"):
        await set_policy(admin, room, policy(), identity)
    # The narrowest holds as a whole.
    theirs = await get_policy(admin, room, "ann")
    assert (theirs.policy.participant_identity, list(theirs.effective.allowed_actions)) == ("ann", [])
    others = await get_policy(admin, room, "eve")
    assert (others.HasField("policy"), others.effective) == (False, replaced)
    request = pb.ListQualityPoliciesRequest(room=room, page_size=3)
    page = await admin.ListQualityPolicies(request)
    assert [found.participant_identity for found in page.policies] == ["", "ann", "bob"]
    assert page.policies[0] == replaced
    request.page_token = page.next_page_token
    page = await admin.ListQualityPolicies(request)
    assert ([found.participant_identity for found in page.policies], page.next_page_token) == (["zoe"], "")
    request.page_token = "x"
    assert (await refusal(admin.ListQualityPolicies(request))).reason == "INVALID_PAGE_TOKEN"
    assert await delete_policy(admin, room) == replaced
    assert (await refusal(delete_policy(admin, room))).reason == "QUALITY_POLICY_NOT_FOUND"
    assert (await refusal(get_policy(admin, room, "eve"))).reason == "QUALITY_POLICY_NOT_FOUND"
    assert (await get_policy(admin, room, "ann")).policy == theirs.policy


async def test_of_two_callers_with_one_etag_one_is_told_the_other_came_first(admin: Client, room_name: str) -> None:
    room = room_name
    first = await set_policy(admin, room, policy(), etag="*")
    refused = await refusal(set_policy(admin, room, policy(), etag="*"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert (refused.metadata["etag"], refused.fields) == (first.etag, ("etag",))
    outcomes = await asyncio.gather(
        *(set_policy(admin, room, policy(NETWORK), etag=first.etag) for _ in range(6)), return_exceptions=True
    )
    (won,) = [outcome for outcome in outcomes if isinstance(outcome, pb.QualityPolicy)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert {error.code() for error in lost} == {grpc.StatusCode.ABORTED}
    refused = await refusal(delete_policy(admin, room, etag=first.etag))
    assert (refused.reason, refused.metadata["etag"]) == ("ETAG_MISMATCH", won.etag)
    assert await delete_policy(admin, room, etag=won.etag) == won
    refused = await refusal(set_policy(admin, room, policy(), etag=won.etag))
    assert (refused.reason, refused.metadata["etag"]) == ("ETAG_MISMATCH", "*")


async def test_a_call_that_is_sent_again_does_nothing_more_and_a_trial_does_nothing(
    admin: Client, room_name: str
) -> None:
    room = room_name
    tried = await set_policy(admin, room, policy(NETWORK), validate_only=True)
    assert (list(tried.allowed_actions), tried.etag) == ([NETWORK], "*")
    assert (await refusal(get_policy(admin, room))).reason == "QUALITY_POLICY_NOT_FOUND"
    kept = await set_policy(admin, room, policy(NETWORK), request_id="a")
    assert await set_policy(admin, room, policy(NETWORK), request_id="a") == kept
    assert (await refusal(set_policy(admin, room, policy(), request_id="a"))).reason == "REQUEST_ID_REUSED"
    assert (await set_policy(admin, room, policy(), validate_only=True)).etag == kept.etag
    assert await delete_policy(admin, room, validate_only=True) == kept
    assert (await get_policy(admin, room)).policy == kept


def timed(**spans: float) -> pb.QualityPolicy:
    """A policy with that timing, in seconds."""
    wanted = policy()
    for name, seconds in spans.items():
        getattr(wanted.timing, name).FromMilliseconds(round(seconds * 1000))
    return wanted


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (policy(floor=HIGH, targets=pb.QualityTargets(quality=MEDIUM)), "policy.floor"),
        (policy(NETWORK, OFF, floor=LOW), "policy.floor"),
        (policy(NETWORK, NETWORK), "policy.allowed_actions"),
        (policy(pb.QUALITY_ACTION_KIND_UNSPECIFIED), "policy.allowed_actions[0]"),
        (policy(floor=track_pb2.VIDEO_QUALITY_OFF), "policy.floor"),
        (policy(held_back_share=0.51), "policy.held_back_share"),
        (policy(held_back_share=float("nan")), "policy.held_back_share"),
        (policy(targets=pb.QualityTargets(audio_mos=5)), "policy.targets.audio_mos"),
        (policy(targets=pb.QualityTargets(loss_percent=-1)), "policy.targets.loss_percent"),
        (policy(targets=pb.QualityTargets(rtt_ms=float("nan"))), "policy.targets.rtt_ms"),
        (timed(min_backoff=60, max_backoff=30), "policy.timing.min_backoff"),
        # Above the default.
        (timed(min_backoff=130), "policy.timing.min_backoff"),
        (timed(max_backoff=5), "policy.timing.max_backoff"),
        (timed(settle_time=0.5), "policy.timing.settle_time"),
        (timed(calm_time=-1), "policy.timing.calm_time"),
        (timed(freeze_time=1e9), "policy.timing.freeze_time"),
        (policy(timing=pb.QualityTiming(actions_per_minute=-1)), "policy.timing.actions_per_minute"),
        (policy(timing=pb.QualityTiming(reversals=1)), "policy.timing.reversals"),
        (policy(room="another"), "policy.room"),
        (policy(track_sid="TR_1"), "policy.track_sid"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_its_field(
    admin: Client, room_name: str, wanted: pb.QualityPolicy, field: str
) -> None:
    refused = await refusal(set_policy(admin, room_name, wanted))
    assert (refused.code, refused.fields) == (INVALID, (field,))
    assert (await refusal(get_policy(admin, room_name))).reason == "QUALITY_POLICY_NOT_FOUND"


async def test_an_action_that_cannot_be_done_there_is_told_at_the_door(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    sound = await publish(admin, room, TONE)
    async with participant(livekit, room, "bare") as bare, camera(bare) as cam:
        await listed(admin, room, cam.sid)
        mic = await microphone(bare)
        await listed(admin, room, mic.sid)

        async def refused(wanted: pb.QualityPolicy, identity: str = "", track_sid: str = "") -> tuple[Any, ...]:
            found = await refusal(set_policy(admin, room, wanted, identity, track_sid))
            return found.code, found.reason, found.fields

        unsupported = (grpc.StatusCode.FAILED_PRECONDITION, "NOT_SUPPORTED", ("policy.allowed_actions",))
        for kind in (NETWORK, CPU, CAP, OFF):
            assert await refused(policy(kind), track_sid=sound.track_sid) == unsupported
        for kind in (NETWORK, CPU, RESTART):
            assert await refused(policy(kind), "bare") == unsupported
        for sid in (cam.sid, mic.sid):
            assert await refused(policy(RESTART), track_sid=sid) == unsupported
        # What others do about it can be done, and so can all of a publication and of who is not there yet.
        await set_policy(admin, room, policy(CAP, OFF), "bare")
        await set_policy(admin, room, policy(NETWORK, CAP, OFF), track_sid=cam.sid)
        await set_policy(admin, room, policy(RESTART), track_sid=sound.track_sid)
        await set_policy(admin, room, policy(NETWORK, CPU, CAP, OFF, RESTART), sound.participant_identity)
        await set_policy(admin, room, policy(NETWORK, CPU, CAP, OFF, RESTART), "not-there")
        unknown = await refusal(set_policy(admin, room, policy(), track_sid="TR_unknown"))
        assert (unknown.reason, unknown.fields) == ("TRACK_NOT_FOUND", ("track_sid",))
        assert (await refusal(set_policy(admin, room, policy(), "bare", cam.sid))).code == INVALID


async def test_a_tracks_policy_goes_with_its_publication_and_ends_with_it(
    restarter: Client, livekit: LiveKitProcess, room: str
) -> None:
    published = await publish(restarter, room, pattern())
    async with events(restarter, room) as stream:
        await stream.snapshot()
        kept = await set_policy(restarter, room, policy(CAP), track_sid=published.track_sid)
        told = await stream.until("policy_changed")
        assert told == event_pb2.PolicyChanged(
            kind=event_pb2.POLICY_KIND_QUALITY_POLICY, name=f"track/{published.track_sid}"
        )
        request = publication_update_pb2.RestartTrackRequest(
            room=room,
            publication_id=published.publication_id,
            level=publication_update_pb2.RESTART_LEVEL_REPUBLISH,
        )
        await restarter.RestartTrack(request, timeout=45)
        moved = await until(restarter, published, lambda now: now.track_sid not in ("", published.track_sid))
        async with asyncio.timeout(45):
            while (await restarter.ListQualityPolicies(pb.ListQualityPoliciesRequest(room=room))).policies[
                0
            ].track_sid != moved.track_sid:
                await asyncio.sleep(0.05)
        found = await get_policy(restarter, room, track_sid=moved.track_sid)
        assert (found.policy.etag, found.policy.track_sid) == (kept.etag, moved.track_sid)
        await unpublish(restarter, moved)
        gone = await stream.until("policy_changed")
        assert (gone.name, gone.removed) == (f"track/{moved.track_sid}", True)
        assert stream.seen[-1].event.cause.rule == "track_gone"
        refused = await refusal(get_policy(restarter, room, track_sid=moved.track_sid))
        assert refused.reason == "QUALITY_POLICY_NOT_FOUND"


async def test_they_are_bounded_a_room_and_hold_after_a_kill(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0", "TRACK_MAX_QUALITY_POLICIES_PER_ROOM": "3"})
    grants = {"room_admin": True, "room": room}
    async with participant(livekit, room, "ann") as ann, camera(ann) as cam, camera(ann, "other") as other:
        async with track.client("admin", **grants) as admin:
            await listed(admin, room, cam.sid)
            await listed(admin, room, other.sid)
            kept = [
                await set_policy(admin, room, policy(NETWORK)),
                await set_policy(admin, room, policy(), "ann"),
                await set_policy(admin, room, policy(CAP), track_sid=cam.sid),
            ]
            refused = await refusal(set_policy(admin, room, policy(), track_sid=other.sid))
            assert refused.quota == ("max_quality_policies_per_room", 3, f"room {room}")
            await set_policy(admin, room, kept[1], "ann")
        await track.kill()
        await track.start()
        async with track.client("admin", **grants) as admin:
            listing = await admin.ListQualityPolicies(pb.ListQualityPoliciesRequest(room=room))
            assert [found.track_sid for found in listing.policies] == ["", "", cam.sid]
            assert (listing.policies[0], listing.policies[2]) == (kept[0], kept[2])
            await delete_policy(admin, room, track_sid=cam.sid)
            found = await get_policy(admin, room, track_sid=cam.sid)
            assert found.effective.participant_identity == "ann"


async def test_participants_read_policies_and_only_admins_set_them(
    track: TrackProcess, admin: Client, room: str
) -> None:
    kept = await set_policy(admin, room, policy())
    async with track.client("ann", room_join=True, room=room) as ann:
        assert (await get_policy(ann, room)).policy == kept
        assert (await refusal(set_policy(ann, room, policy()))).reason == "PERMISSION_DENIED"
        assert (await refusal(delete_policy(ann, room))).reason == "PERMISSION_DENIED"
