"""Manual choices: one by one refused where they cannot be, carried to new SIDs, released, and held against rules."""

import asyncio
from typing import Any

import grpc
from google.protobuf import timestamp_pb2

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import DATA, DEADLINE_S, OBSERVED, TONE, pattern, publish
from tests.refusals import refusal
from tests.subscriptions import apply, down_tracks, listed, release, subscribers, subscription, update
from tests.track_process import Client, TrackProcess
from track.v1 import error_pb2, track_pb2, tracks_pb2
from track.v1 import subscription_pb2 as sub

LOW = track_pb2.VIDEO_QUALITY_LOW
MANUAL = sub.SUBSCRIPTION_DECIDER_MANUAL
ADVISED = sub.LAYER_ENFORCEMENT_ADVISED


def in_seconds(seconds: float) -> timestamp_pb2.Timestamp:
    """That moment."""
    moment = timestamp_pb2.Timestamp()
    moment.GetCurrentTime()
    moment.FromNanoseconds(moment.ToNanoseconds() + round(seconds * 1e9))
    return moment


async def test_each_bad_item_is_refused_for_itself_and_the_good_one_is_done(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video, tone, data = await asyncio.gather(
        publish(admin, room, pattern()), publish(admin, room, TONE), publish(admin, room, DATA)
    )
    async with subscribers(livekit, room, "ann") as (ann,), subscribers(livekit, room, "deaf", can_subscribe=False):
        own = await microphone(ann)
        await listed(admin, room, own.sid)
        low = sub.SubscriptionSettings(quality=LOW)
        bad: dict[str, tuple[tracks_pb2.SubscriptionUpdate, int]] = {
            "updates[0].participant_identity": (
                update("nobody", video.track_sid),
                error_pb2.ERROR_REASON_PARTICIPANT_NOT_FOUND,
            ),
            "updates[1].track_sid": (update("ann", "TR_unknown"), error_pb2.ERROR_REASON_TRACK_NOT_FOUND),
            "updates[2].track_sid": (update("ann", own.sid), error_pb2.ERROR_REASON_INVALID_OPTIONS),
            "updates[3].track_sid": (update("ann", data.track_sid), error_pb2.ERROR_REASON_NOT_FOR_DATA_TRACKS),
            "updates[4].settings.quality": (
                update("ann", tone.track_sid, settings=low),
                error_pb2.ERROR_REASON_INVALID_OPTIONS,
            ),
            "updates[5].participant_identity": (
                update("deaf", video.track_sid),
                error_pb2.ERROR_REASON_TARGET_PERMISSION,
            ),
            "updates[6].expire_time": (
                update("deaf", tone.track_sid, subscribe=False, expire_time=in_seconds(-1)),
                error_pb2.ERROR_REASON_INVALID_FIELD,
            ),
            "updates[7].track_sid": (release("ann", "TR_gone"), error_pb2.ERROR_REASON_TRACK_NOT_FOUND),
        }
        results = await apply(admin, room, *(each for each, _ in bad.values()), update("ann", video.track_sid))
        told = {result.problem.field: result.problem.reason for result in results[:-1]}
        assert told == {field: reason for field, (_, reason) in bad.items()}
        assert (results[-1].stage, results[-1].HasField("problem")) == (OBSERVED, False)
        assert await down_tracks(livekit, room) == {("ann", video.track_sid)}


async def test_what_is_out_of_range_or_contradicts_itself_is_refused_with_its_place(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern())
    wrong: dict[str, dict[str, Any]] = {
        "updates[0].settings.priority": {"settings": sub.SubscriptionSettings(priority=101)},
        "updates[0].settings.quality": {"settings": sub.SubscriptionSettings(quality=track_pb2.VIDEO_QUALITY_OFF)},
        "updates[0].settings.height": {"settings": sub.SubscriptionSettings(width=1, height=20_000)},
        "updates[0].settings.frames_per_second": {"settings": sub.SubscriptionSettings(frames_per_second=0.5)},
        "updates[0].settings": {"settings": sub.SubscriptionSettings(width=640)},
        "updates[0]": {"release": True},
    }
    async with subscribers(livekit, room, "ann"):
        for field, fields in wrong.items():
            refused = await refusal(apply(admin, room, update("ann", video.track_sid, **fields)))
            assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))
        low = sub.SubscriptionSettings(quality=LOW)
        refused = await refusal(apply(admin, room, update("ann", video.track_sid, subscribe=False, settings=low)))
        assert refused.fields == ("updates[0]",)
        for seconds in (-1.0, 31 * 24 * 3600.0):
            refused = await refusal(apply(admin, room, update("ann", video.track_sid, expire_time=in_seconds(seconds))))
            assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("updates[0].expire_time",))
        assert await down_tracks(livekit, room) == set()


async def test_a_choice_is_carried_to_the_track_that_its_publisher_publishes_again(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, participant(livekit, room, "viewer"):
        async with camera(alice) as cam, camera(alice, name="other") as other:
            for sid in (cam.sid, other.sid):
                await listed(admin, room, sid)
            low = sub.SubscriptionSettings(quality=LOW, priority=90)
            (result,) = await apply(admin, room, update("viewer", cam.sid, settings=low))
            assert result.stage == OBSERVED
            (result,) = await apply(admin, room, update("viewer", other.sid, subscribe=False))
            assert result.stage == OBSERVED
            await alice.local_participant.unpublish_track(cam.sid)
            await alice.local_participant.unpublish_track(other.sid)
        async with camera(alice, name="other") as other, camera(alice) as cam:
            found = await subscription(admin, room, "viewer", cam.sid, lambda found: found.desired.decider == MANUAL)
            assert (found.desired.subscribed, found.desired.settings) == (True, low)
            found = await subscription(admin, room, "viewer", other.sid, lambda found: found.desired.decider == MANUAL)
            assert not found.desired.subscribed
            # LiveKit subscribes the viewer to it by itself, and that is undone.
            await subscription(
                admin,
                room,
                "viewer",
                other.sid,
                lambda found: found.observed.HasField("subscribed") and not found.observed.subscribed,
            )


async def test_settings_stay_as_they_were_where_a_later_choice_says_nothing_of_them(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern(640, 360, 10))
    async with subscribers(livekit, room, "viewer"):
        low = sub.SubscriptionSettings(quality=LOW)
        (result,) = await apply(admin, room, update("viewer", video.track_sid, settings=low))
        assert (result.stage, result.enforcement, result.layer.quality) == (OBSERVED, ADVISED, LOW), result
        await apply(admin, room, update("viewer", video.track_sid, subscribe=False))
        (result,) = await apply(admin, room, update("viewer", video.track_sid))
        assert result.layer.quality == LOW
        found = await subscription(admin, room, "viewer", video.track_sid)
        assert (found.desired.decider, found.desired.settings) == (MANUAL, low)
        (result,) = await apply(admin, room, update("viewer", video.track_sid, settings=sub.SubscriptionSettings()))
        found = await subscription(admin, room, "viewer", video.track_sid)
        assert found.desired.settings == sub.SubscriptionSettings()


async def test_a_subscribers_own_choice_does_not_go_against_a_rule_and_an_admins_does(
    admin: Client, track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    video, tone = await asyncio.gather(publish(admin, room, pattern()), publish(admin, room, TONE))
    no_video = sub.SubscriptionRule(
        name="no-video",
        condition="track.type == TrackType.TRACK_TYPE_VIDEO",
        action=sub.SUBSCRIPTION_ACTION_UNSUBSCRIBE,
    )
    begin = sub.SubscriptionRule(name="begin", action=sub.SUBSCRIPTION_ACTION_SUBSCRIBE, client_may_choose=True)
    policy = sub.SubscriptionPolicy(rules=[no_video, begin])
    request = sub.SetSubscriptionPolicyRequest(room=room, policy=policy)
    async with (
        subscribers(livekit, room, "viewer"),
        track.client("viewer", room_join=True, room=room, can_subscribe=True) as viewer,
    ):
        await admin.SetSubscriptionPolicy(request)
        results = await apply(
            viewer, room, update("viewer", video.track_sid), update("viewer", tone.track_sid, subscribe=False)
        )
        problem = results[0].problem
        assert problem.reason == error_pb2.ERROR_REASON_SUBSCRIPTION_RULE
        assert (problem.field, dict(problem.metadata)) == ("updates[0]", {"rule": "no-video"})
        assert results[1].stage == OBSERVED
        refused = await refusal(apply(viewer, room, update("viewer", video.track_sid)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SUBSCRIPTION_RULE")
        # What the rule says may be said too, and an admin may say otherwise.
        (result,) = await apply(viewer, room, update("viewer", video.track_sid, subscribe=False))
        assert not result.HasField("problem")
        (result,) = await apply(admin, room, update("viewer", video.track_sid))
        assert result.stage == OBSERVED
        assert ("viewer", video.track_sid) in await down_tracks(livekit, room)
        # Which the subscriber can neither change nor give up.
        for undoing in (update("viewer", video.track_sid, subscribe=False), release("viewer", video.track_sid)):
            refused = await refusal(apply(viewer, room, undoing))
            assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SUBSCRIPTION_RULE")
        # Released, the rule decides again.
        await apply(admin, room, release("viewer", video.track_sid))
        found = await subscription(
            admin,
            room,
            "viewer",
            video.track_sid,
            lambda found: found.observed.HasField("subscribed") and not found.observed.subscribed,
        )
        assert (found.desired.decider, found.desired.rule) == (sub.SUBSCRIPTION_DECIDER_ROOM_RULE, "no-video")


async def test_checked_alone_nothing_is_chosen(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    video = await publish(admin, room, pattern())
    async with subscribers(livekit, room, "viewer"):
        low = sub.SubscriptionSettings(quality=LOW)
        request = tracks_pb2.UpdateSubscriptionsRequest(
            room=room, updates=[update("viewer", video.track_sid, settings=low)], validate_only=True
        )
        (result,) = (await admin.UpdateSubscriptions(request, timeout=DEADLINE_S)).results
        assert not result.HasField("problem")
        found = await subscription(admin, room, "viewer", video.track_sid)
        assert not found.HasField("desired")
        assert await down_tracks(livekit, room) == set()
