"""RestartTrack: tracks that are stuck flow again, as mildly as can be, and nobody loses what it had."""

import asyncio
import contextlib

import grpc
import pytest

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import microphone, participant
from tests.publications import DATA, LIVE, OBSERVED, TONE, pattern, publish, until, until_listed
from tests.receivers import receiver
from tests.refusals import refusal
from tests.restrictions import restrict, rule
from tests.servicer.restarting import (
    KEYFRAME,
    REJOIN,
    REPUBLISH,
    RESUBSCRIBE,
    flowing,
    levels,
    restart,
    silent_receiver,
    subscribed,
    subscribers,
)
from tests.track_process import Client
from track.v1 import media_frame_pb2, publication_pb2, tracks_pb2
from track.v1 import publication_update_pb2 as pb

PUSHED_DATA = publication_pb2.PublicationSpec(push=publication_pb2.PushInput(data=media_frame_pb2.DataFormat()))


@pytest.mark.parametrize("size", [(320, 180), (1280, 720)])
async def test_a_keyframe_is_sent_and_seen_by_the_session(
    livekit: LiveKitProcess, restarter: Client, room: str, size: tuple[int, int]
) -> None:
    known = await publish(restarter, room, pattern(*size), "host")
    async with receiver(livekit, room, "viewer") as viewer:
        await viewer.receives(known.track_sid)
        answer = await restart(restarter, known, KEYFRAME)
        assert (answer.stage, answer.evidence) == (OBSERVED, publication_pb2.EVIDENCE_HOSTED_SESSION), answer
        assert levels(answer) == [KEYFRAME]
        assert not answer.steps[0].HasField("problem")
        assert answer.steps[0].duration.ToNanoseconds() > 0
        assert answer.publication.track_sid == known.track_sid
        assert not answer.HasField("gap"), "nothing was published again"
        assert answer.quality_after.track_sid == known.track_sid
        await viewer.receives(known.track_sid)


async def test_by_default_a_track_that_flows_is_sent_a_keyframe_and_no_more(
    livekit: LiveKitProcess, restarter: Client, room: str
) -> None:
    known = await publish(restarter, room, pattern(), "host")
    await flowing(restarter, known)
    answer = await restart(restarter, known)
    assert levels(answer) == [KEYFRAME]
    assert answer.stage == OBSERVED
    sound = await publish(restarter, room, TONE, "host")
    await flowing(restarter, sound)
    answer = await restart(restarter, sound)
    assert levels(answer) == [RESUBSCRIBE]


async def test_subscribers_are_subscribed_again_and_nobody_else(
    livekit: LiveKitProcess, restarter: Client, room: str
) -> None:
    known = await publish(restarter, room, pattern(1280, 720), "host")
    async with (
        receiver(livekit, room, "viewer") as viewer,
        participant(livekit, room, "bystander", auto_subscribe=False),
    ):
        await viewer.receives(known.track_sid)
        answer = await restart(restarter, known, RESUBSCRIBE)
        assert (answer.stage, answer.evidence) == (OBSERVED, publication_pb2.EVIDENCE_DEBUG_VIEW), answer
        assert answer.publication.track_sid == known.track_sid
        await viewer.receives(known.track_sid)
        assert await subscribers(livekit, room, known.track_sid) == {"viewer"}


@pytest.mark.parametrize("graceful", [False, True])
async def test_it_is_published_again_with_metadata_mute_and_subscribers(
    livekit: LiveKitProcess, restarter: Client, room: str, graceful: bool
) -> None:
    spec = pattern()
    spec.metadata["role"] = "presenter"
    known = await publish(restarter, room, spec, "host")
    async with (
        receiver(livekit, room, "viewer") as viewer,
        participant(livekit, room, "chosen", auto_subscribe=False) as chosen,
        participant(livekit, room, "bystander", auto_subscribe=False),
    ):
        await viewer.receives(known.track_sid)
        await subscribed(chosen, known.track_sid)
        answer = await restart(restarter, known, REPUBLISH, graceful=graceful)
        assert levels(answer) == [REPUBLISH]
        assert answer.stage == OBSERVED, answer
        sid = answer.publication.track_sid
        assert sid != known.track_sid
        assert [entry.track_sid for entry in answer.publication.lineage] == [known.track_sid, sid]
        assert answer.publication.publication_id == known.publication_id
        await viewer.receives(sid)
        async with asyncio.timeout(45):
            while await subscribers(livekit, room, sid) != {"viewer", "chosen"}:
                await asyncio.sleep(0.1)
        track = await restarter.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid=sid))
        assert track.track.metadata["role"] == "presenter"
        assert track.track.publication_id == known.publication_id
        measured = {gap.participant_identity: gap for gap in answer.gap.subscribers}
        assert "viewer" in measured, answer
        if measured["viewer"].HasField("gap_ms"):
            assert measured["viewer"].gap_ms >= 0


@pytest.mark.parametrize("spec", [DATA, PUSHED_DATA], ids=["data", "pushed"])
async def test_of_data_tracks_of_one_name_the_old_one_goes_first(
    restarter: Client, room: str, spec: publication_pb2.PublicationSpec
) -> None:
    known = await publish(restarter, room, spec, "host")
    answer = await restart(restarter, known, REPUBLISH, graceful=True)
    assert (levels(answer), answer.stage) == ([REPUBLISH], OBSERVED), answer
    assert [entry.HasField("end_time") for entry in answer.publication.lineage] == [True, False]
    assert answer.steps[0].duration.ToSeconds() < 5, "nobody waits for what has gone"


async def test_how_long_media_did_not_flow_is_told(livekit: LiveKitProcess, restarter: Client, room: str) -> None:
    known = await publish(restarter, room, pattern(), "host")
    async with receiver(livekit, room, "viewer") as viewer, asyncio.timeout(60):
        while True:
            await viewer.receives(known.track_sid)
            answer = await restart(restarter, known, REPUBLISH)
            known = answer.publication
            told = {gap.participant_identity: gap for gap in answer.gap.subscribers}["viewer"]
            # A machine that is too busy to see the one or the other leaves it out.
            if answer.gap.HasField("publisher_ms") and told.HasField("gap_ms"):
                break
    assert answer.gap.publisher_ms > 0
    assert told.gap_ms > 0
    assert told.resolution_ms > 0


async def test_what_is_muted_stays_muted(livekit: LiveKitProcess, restarter: Client, room: str) -> None:
    known = await publish(restarter, room, pattern(), "host")
    mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=known.track_sid)])
    await restarter.MuteTracks(mute, timeout=45)
    known = await until(restarter, known, lambda found: found.muted)
    for graceful, level in ((True, REPUBLISH), (False, REPUBLISH), (False, REJOIN)):
        answer = await restart(restarter, known, level, graceful=graceful)
        known = answer.publication
        assert known.muted
        assert not answer.HasField("gap"), "of what is muted nothing was to flow"
        sid = known.track_sid
        track = await restarter.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid=sid))
        assert track.track.muted


async def test_a_private_track_stays_private(livekit: LiveKitProcess, restarter: Client, room: str) -> None:
    known = await publish(restarter, room, pattern(), "host")
    async with receiver(livekit, room, "alice") as alice, receiver(livekit, room, "bob") as bob:
        await restrict(restarter, room, rule("alice"), publication_id=known.publication_id)
        await bob.receives_no_more(known.track_sid)
        for level in (KEYFRAME, RESUBSCRIBE, REPUBLISH, REJOIN):
            answer = await restart(restarter, known, level)
            sid = answer.publication.track_sid
            assert answer.stage == OBSERVED, answer
            await alice.receives(sid)
            if sid != known.track_sid:
                assert bob.frames[sid] == 0


async def test_who_joins_again_comes_back_with_all_it_published(
    livekit: LiveKitProcess, restarter: Client, room: str
) -> None:
    video = await publish(restarter, room, pattern(), "host")
    sound = await publish(restarter, room, TONE, "host")
    data = await publish(restarter, room, DATA, "host")
    async with receiver(livekit, room, "viewer") as viewer:
        await viewer.receives(video.track_sid)
        answer = await restart(restarter, video, REJOIN)
        assert answer.stage == OBSERVED, answer
        await viewer.receives(answer.publication.track_sid)
        for before in (video, sound, data):
            after = await until(restarter, before, lambda found: found.state == LIVE and len(found.lineage) == 2)
            assert after.participant_identity == "host"
            assert "restarted" in after.moves[-3].detail
            await viewer.receives(after.track_sid)
        listed = await restarter.ListTracks(tracks_pb2.ListTracksRequest(room=room))
        assert len(listed.tracks) == 3, "none is doubled"


async def test_the_subscribers_of_any_track_can_be_subscribed_again(
    livekit: LiveKitProcess, restarter: Client, room: str
) -> None:
    async with participant(livekit, room, "stranger") as stranger, receiver(livekit, room, "viewer") as viewer:
        foreign = await microphone(stranger)
        await until_listed(restarter, room, foreign.sid)
        async with asyncio.timeout(45):
            while await subscribers(livekit, room, foreign.sid) != {"viewer"}:
                await asyncio.sleep(0.1)
        request = pb.RestartTrackRequest(room=room, track_sid=foreign.sid, level=RESUBSCRIBE)
        answer = await restarter.RestartTrack(request, timeout=40)
        assert (answer.stage, answer.evidence) == (OBSERVED, publication_pb2.EVIDENCE_DEBUG_VIEW), answer
        assert not answer.HasField("publication")
        assert await subscribers(livekit, room, foreign.sid) == {"viewer"}
        assert viewer.room.isconnected()


async def test_without_the_debug_view_only_those_are_subscribed_again_that_were_here(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_LIVEKIT_DEBUG_URL": "", "TRACK_RESTART_COOLDOWN_SECONDS": "0"})
    async with track.client("admin", room_admin=True, room=room) as client:
        known = await publish(client, room, pattern(), "host")
        refused = await refusal(restart(client, known, RESUBSCRIBE))
        assert refused.reason == "NOT_SUPPORTED"
        async with silent_receiver(livekit, room, "chosen") as chosen:
            update = tracks_pb2.SubscriptionUpdate(
                participant_identity="chosen", track_sid=known.track_sid, subscribe=True
            )
            await client.UpdateSubscriptions(
                tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update]), timeout=20
            )
            await chosen.receives(known.track_sid)
            answer = await restart(client, known, RESUBSCRIBE)
            assert answer.stage == publication_pb2.STAGE_ACKNOWLEDGED, answer
            assert not answer.evidence, "nobody saw it"
            await chosen.receives(known.track_sid)


async def test_a_server_that_dies_while_it_restarts_leaves_nothing_half_done(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with existing_room(livekit, room_name), receiver(livekit, room_name, "viewer") as viewer:
        async with track.client("admin", room_admin=True, room=room_name) as client:
            known = await publish(client, room_name, pattern(), "host")
            await viewer.receives(known.track_sid)
            restarting = asyncio.ensure_future(restart(client, known, RESUBSCRIBE))
            await asyncio.sleep(0.05)
            await track.kill()
            with contextlib.suppress(grpc.aio.AioRpcError):
                await restarting
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client:
            known = await until(client, known, lambda found: found.state == LIVE)
            await viewer.receives(known.track_sid)
