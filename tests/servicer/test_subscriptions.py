"""UpdateSubscriptions, held against LiveKit's debug view."""

import asyncio

import grpc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import DATA, DEADLINE_S, OBSERVED, TONE, pattern, publish
from tests.refusals import refusal
from tests.subscriptions import apply, down_tracks, listed, subscribers, update
from tests.track_process import Client
from track.v1 import error_pb2, publication_pb2

DEBUG_VIEW = publication_pb2.EVIDENCE_DEBUG_VIEW


async def test_a_subscription_is_observed_both_ways(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    video = await publish(admin, room, pattern(320, 180, 10))
    async with subscribers(livekit, room, "viewer") as (viewer,):
        assert await down_tracks(livekit, room) == set()
        got: asyncio.Queue[str] = asyncio.Queue()
        viewer.on("track_subscribed", lambda track, *_: got.put_nowait(track.sid))
        (result,) = await apply(admin, room, update("viewer", video.track_sid))
        assert (result.stage, result.evidence, result.observed) == (OBSERVED, DEBUG_VIEW, True)
        assert result.attempts >= 1
        assert result.subscription == update("viewer", video.track_sid)
        assert await down_tracks(livekit, room) == {("viewer", video.track_sid)}
        async with asyncio.timeout(DEADLINE_S):
            assert await got.get() == video.track_sid
        (result,) = await apply(admin, room, update("viewer", video.track_sid, subscribe=False))
        assert (result.stage, result.evidence) == (OBSERVED, DEBUG_VIEW)
        assert result.HasField("observed")
        assert not result.observed
        assert await down_tracks(livekit, room) == set()


async def test_many_subscribers_and_tracks_in_one_call(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    video, tone = await asyncio.gather(publish(admin, room, pattern(320, 180, 10)), publish(admin, room, TONE))
    async with subscribers(livekit, room, "ann", "ben"):
        wanted = {(name, found.track_sid) for name in ("ann", "ben") for found in (video, tone)}
        results = await apply(admin, room, *(update(name, sid) for name, sid in sorted(wanted)))
        assert [result.stage for result in results] == [OBSERVED] * 4
        assert await down_tracks(livekit, room) == wanted
        results = await apply(
            admin, room, update("ann", video.track_sid, subscribe=False), update("ben", tone.track_sid)
        )
        assert [(result.stage, result.observed) for result in results] == [(OBSERVED, False), (OBSERVED, True)]
        assert await down_tracks(livekit, room) == wanted - {("ann", video.track_sid)}


async def test_without_the_debug_view_nobody_can_see_it_and_the_answer_says_so(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_LIVEKIT_DEBUG_URL": "", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        track.client("admin", room_admin=True, room=room) as client,
        participant(livekit, room, "alice") as alice,
        subscribers(livekit, room, "viewer"),
        camera(alice) as cam,
    ):
        await listed(client, room, cam.sid)
        (result,) = await apply(client, room, update("viewer", cam.sid))
        assert result.stage == publication_pb2.STAGE_REQUESTED
        assert result.evidence == publication_pb2.EVIDENCE_UNSPECIFIED
        assert not result.HasField("observed")
        assert not result.HasField("problem")
        assert result.attempts == 1
        # It took effect all the same.
        async with asyncio.timeout(DEADLINE_S):
            while await down_tracks(livekit, room) != {("viewer", cam.sid)}:
                await asyncio.sleep(0.05)


async def test_a_client_that_may_not_subscribe_is_told_so_and_others_go_on(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    tone = await publish(admin, room, TONE)
    async with (
        subscribers(livekit, room, "deaf", can_subscribe=False),
        subscribers(livekit, room, "ann"),
    ):
        results = await apply(admin, room, update("deaf", tone.track_sid), update("ann", tone.track_sid))
        assert results[0].problem.reason == error_pb2.ERROR_REASON_TARGET_PERMISSION
        assert results[0].problem.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert results[0].problem.field == "updates[0].participant_identity"
        assert results[0].stage == publication_pb2.STAGE_UNSPECIFIED
        assert results[0].attempts == 0
        assert results[1].stage == OBSERVED
        refused = await refusal(apply(admin, room, update("deaf", tone.track_sid)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TARGET_PERMISSION")
        assert await down_tracks(livekit, room) == {("ann", tone.track_sid)}


async def test_what_cannot_be_is_told_item_by_item(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    tone, data = await asyncio.gather(publish(admin, room, TONE), publish(admin, room, DATA))
    async with subscribers(livekit, room, "ann") as (ann,):
        own = await microphone(ann)
        await listed(admin, room, own.sid)
        results = await apply(
            admin,
            room,
            update("nobody", tone.track_sid),
            update("ann", "TR_unknown"),
            update("ann", own.sid),
            update("ann", data.track_sid),
            update("ann", tone.track_sid),
        )
    problems = [(result.problem.reason, result.problem.field) for result in results[:4]]
    assert problems == [
        (error_pb2.ERROR_REASON_PARTICIPANT_NOT_FOUND, "updates[0].participant_identity"),
        (error_pb2.ERROR_REASON_TRACK_NOT_FOUND, "updates[1].track_sid"),
        (error_pb2.ERROR_REASON_INVALID_OPTIONS, "updates[2].track_sid"),
        (error_pb2.ERROR_REASON_NOT_FOR_DATA_TRACKS, "updates[3].track_sid"),
    ]
    assert results[4].stage == OBSERVED


async def test_a_subscription_named_twice_is_refused_and_nothing_is_done(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    tone = await publish(admin, room, TONE)
    async with subscribers(livekit, room, "ann"):
        twice = [update("ann", tone.track_sid), update("ann", tone.track_sid, subscribe=False)]
        refused = await refusal(apply(admin, room, *twice))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert refused.fields == ("updates[1]",)
        assert await down_tracks(livekit, room) == set()
