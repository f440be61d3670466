"""Recordings to their end: by the track, the room, LiveKit, Egress and its death, and through ends of the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from livekit import api, rtc

from tests.conftest import StartPermissions, StartTrack
from tests.egress_process import EgressProcess
from tests.egresses import (
    ABORTED,
    ACTIVE,
    COMPLETE,
    ENDING,
    FAILED,
    PATIENT,
    EgressCluster,
    egress_cluster,
    get,
    listed,
    start,
    stop,
    to_file,
    until_state,
)
from tests.livekit_rooms import delete_room, livekit_api
from tests.participants import Joined, microphone, participant
from tests.publications import until_listed
from tests.refusals import refusal
from tests.track_process import TrackProcess
from track.v1 import egress_pb2 as pb

FILE = to_file("recordings/{track_id}.ogg")
ALONE = {**PATIENT, "TRACK_MEDIA_WORKERS": "0"}
RULE = """
[[rule]]
name = "everything"
when = "true"
effect = "{}"
"""


@pytest_asyncio.fixture
async def own_cluster(tmp_path: Path) -> AsyncIterator[EgressCluster]:
    """A cluster of this test alone."""
    async with egress_cluster(tmp_path, TRACK_MEDIA_WORKERS="0") as running:
        yield running


async def until_asked(cluster: EgressCluster, sid: str) -> str:
    """Waits until Egress was asked to record the track; LiveKit's id of that."""
    told = await cluster.worker.until(lambda told: sid in str(told.get("request")))
    livekit_egress_id: str = told["egress_id"]
    return livekit_egress_id


async def test_it_ends_with_its_track(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        egress = await start(client, room_name, FILE, track_sid=mic.sid)
        await alice.local_participant.unpublish_track(mic.sid)
        ended = await until_state(client, egress, COMPLETE, FAILED)
        assert (ended.state, ended.end_cause) == (COMPLETE, pb.EGRESS_END_CAUSE_TRACK_ENDED)
        assert ended.parts[0].livekit_egress_id in cluster.worker.stopped()
        assert ended.parts[0].files[0].size_bytes > 0


async def test_a_track_that_ends_before_it_is_recorded(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        await until_listed(client, room_name, mic.sid)
        await cluster.worker.mode(auto=False, delay_ms=1000)
        starting = asyncio.create_task(start(client, room_name, FILE, track_sid=mic.sid))
        livekit_id = await until_asked(cluster, mic.sid)
        await alice.local_participant.unpublish_track(mic.sid)
        await cluster.worker.until(lambda told: told["event"] == "stopped" and told["egress_id"] == livekit_id)
        await cluster.worker.update(livekit_id, status="EGRESS_ABORTED", error="Stop called before it began")
        egress = await starting
        ended = await until_state(client, egress, ABORTED, COMPLETE, FAILED)
        assert (ended.state, ended.end_cause) == (ABORTED, pb.EGRESS_END_CAUSE_TRACK_ENDED)


async def test_a_start_whose_caller_hung_up_is_kept_with_what_hindered_it(
    cluster_with_egress: EgressCluster, room_name: str
) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        await until_listed(client, room_name, mic.sid)
        await cluster.worker.mode("fail", delay_ms=3000)
        starting = asyncio.create_task(start(client, room_name, FILE, track_sid=mic.sid))
        await until_asked(cluster, mic.sid)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        (egress,) = await listed(client, room_name)
        ended = await until_state(client, egress, FAILED)
        assert (ended.end_cause, ended.problem.code) == (pb.EGRESS_END_CAUSE_FAILED, 13)


async def test_it_ends_with_its_room(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        egress = await start(client, room_name, FILE, track_sid=(await microphone(alice)).sid)
        await delete_room(cluster.livekit, room_name)
        ended = await until_state(client, egress, COMPLETE, FAILED)
        # A room that is deleted takes its participants out first, and their tracks with them.
        assert ended.state == COMPLETE
        assert ended.end_cause in (pb.EGRESS_END_CAUSE_ROOM_CLOSED, pb.EGRESS_END_CAUSE_TRACK_ENDED)


async def test_what_is_stopped_through_livekit_ended_by_it(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        egress = await start(client, room_name, FILE, track_sid=(await microphone(alice)).sid)
        async with livekit_api(cluster.livekit) as livekit:
            await livekit.egress.stop_egress(api.StopEgressRequest(egress_id=egress.parts[0].livekit_egress_id))
        ended = await until_state(client, egress, COMPLETE, FAILED)
        assert (ended.state, ended.end_cause) == (COMPLETE, pb.EGRESS_END_CAUSE_ENDED_BY_LIVEKIT)


async def test_what_egress_says_of_a_failure_is_told(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        egress = await start(client, room_name, FILE, track_sid=(await microphone(alice)).sid)
        error = "upload to https://user:hunter2@tapes.example/a?signature=abc failed: 403"
        await cluster.worker.update(egress.parts[0].livekit_egress_id, status="EGRESS_FAILED", error=error)
        ended = await until_state(client, egress, COMPLETE, FAILED)
        assert (ended.state, ended.end_cause) == (FAILED, pb.EGRESS_END_CAUSE_FAILED)
        assert "failed: 403" in ended.problem.message
        assert "hunter2" not in str(ended)
        assert "signature" not in str(ended)


async def test_a_stop_that_egress_takes_its_time_for_is_answered_by_the_deadline(
    cluster_with_egress: EgressCluster, room_name: str
) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        egress = await start(client, room_name, FILE, track_sid=(await microphone(alice)).sid)
        await cluster.worker.mode(auto=False)
        request = pb.StopTrackEgressRequest(room=room_name, egress_id=egress.egress_id)
        assert (await client.StopTrackEgress(request, timeout=6)).egress.state == ENDING
        await cluster.worker.update(egress.parts[0].livekit_egress_id, status="EGRESS_COMPLETE")
        assert (await until_state(client, egress, COMPLETE)).end_cause == pb.EGRESS_END_CAUSE_STOPPED


@pytest.mark.deadline(180)
async def test_the_recordings_of_an_egress_that_dies_have_failed(
    cluster_with_egress: EgressCluster, start_track: StartTrack, room_name: str
) -> None:
    cluster = cluster_with_egress
    settings = {**ALONE, "TRACK_EGRESS_SILENCE_SECONDS": "2", "TRACK_LOG_LEVEL": "debug"}
    track = await start_track(cluster.livekit, settings)
    # That of the other tests must live on.
    await cluster.worker.mode("decline")
    async with (
        EgressProcess(cluster.redis.address) as worker,
        participant(cluster.livekit, room_name, "alice") as alice,
        cluster.recorder(room_name, track) as client,
    ):
        egress = await start(client, room_name, FILE, track_sid=(await microphone(alice)).sid)
        # It is quiet, but there: it is asked, and lives on.
        await worker.until(lambda told: told["event"] == "pinged")
        assert (await get(client, egress)).state == ACTIVE
        async with in_the_room(cluster, room_name, egress.parts[0].livekit_egress_id):
            await worker.die()
            assert [info.status for info in await cluster.listed(room_name)] == [api.EgressStatus.EGRESS_ACTIVE]
            # As long as it sits in the room, it counts as alive.
            known = signs_of_life(track)
            async with asyncio.timeout(45):
                while signs_of_life(track) < known + 2:
                    await asyncio.sleep(0.05)
            assert (await get(client, egress)).state == ACTIVE
        ended = await until_state(client, egress, FAILED)
        assert ended.end_cause == pb.EGRESS_END_CAUSE_FAILED
        assert "no Egress answers" in ended.problem.message


@contextlib.asynccontextmanager
async def in_the_room(cluster: EgressCluster, room: str, identity: str) -> AsyncIterator[rtc.Room]:
    """The participant by which Egress records (`BuildEgressToken` of LiveKit's protocol)."""
    token = api.AccessToken(cluster.livekit.api_key, cluster.livekit.api_secret).with_identity(identity)
    token.with_grants(api.VideoGrants(room_join=True, room=room, can_publish=False, hidden=True, recorder=True))
    joined = Joined(cluster.livekit)
    await joined.connect(cluster.livekit.url, token.with_kind("egress").to_jwt(), rtc.RoomOptions(auto_subscribe=False))
    try:
        yield joined
    finally:
        await joined.disconnect()


def signs_of_life(track: TrackProcess) -> int:
    """How often a recording was asked about, and found alive."""
    return sum(line["alive"] for line in track.logged("egress_asked"))


async def test_a_server_that_is_killed_goes_on_with_what_records(own_cluster: EgressCluster, room_name: str) -> None:
    cluster = own_cluster
    async with participant(cluster.livekit, room_name, "alice") as alice:
        goes_on, over = await microphone(alice), await microphone(alice, "over")
        async with cluster.recorder(room_name) as client:
            first = await start(client, room_name, FILE, track_sid=goes_on.sid)
            second = await start(client, room_name, FILE, track_sid=over.sid)
        await cluster.track.kill()
        await alice.local_participant.unpublish_track(over.sid)
        async with livekit_api(cluster.livekit) as livekit:
            await livekit.egress.stop_egress(api.StopEgressRequest(egress_id=second.parts[0].livekit_egress_id))
        await cluster.track.start()
        async with cluster.recorder(room_name) as client:
            second = await until_state(client, second, COMPLETE, FAILED)
            assert (second.state, second.end_cause) == (COMPLETE, pb.EGRESS_END_CAUSE_TRACK_ENDED)
            assert len(second.parts[0].files) == 1
            assert (await get(client, first)).state == ACTIVE
            assert (await stop(client, first)).state == COMPLETE
        assert len(cluster.worker.asked()) == 2


async def test_a_start_that_the_server_did_not_live_to_see_is_found_again_and_not_doubled(
    own_cluster: EgressCluster, room_name: str
) -> None:
    cluster = own_cluster
    async with participant(cluster.livekit, room_name, "alice") as alice:
        mic = await microphone(alice)
        await cluster.worker.mode(delay_ms=3000)
        async with cluster.recorder(room_name) as client:
            starting = asyncio.create_task(
                refusal(start(client, room_name, FILE, track_sid=mic.sid, request_id="once"))
            )
            livekit_id = await until_asked(cluster, mic.sid)
            await cluster.track.kill()
            with contextlib.suppress(AssertionError):
                await starting
        await cluster.track.start()
        async with cluster.recorder(room_name) as client:
            egress = await start(client, room_name, FILE, track_sid=mic.sid, request_id="once")
            egress = await until_state(client, egress, ACTIVE)
            assert [part.livekit_egress_id for part in egress.parts] == [livekit_id]
            assert await listed(client, room_name) == [egress]
            await stop(client, egress)
        assert len(cluster.worker.asked()) == 1


async def test_a_start_that_never_reached_livekit_is_made_up_for(own_cluster: EgressCluster, room_name: str) -> None:
    cluster = own_cluster
    async with participant(cluster.livekit, room_name, "alice") as alice:
        mic = await microphone(alice)
        # It is asked, and declines so long that the server dies meanwhile.
        await cluster.worker.mode("decline")
        async with cluster.recorder(room_name) as client:
            starting = asyncio.create_task(refusal(start(client, room_name, FILE, track_sid=mic.sid)))
            async with asyncio.timeout(45):
                # It has a part once it is stored.
                while not (known := await listed(client, room_name)) or not known[0].parts:
                    await asyncio.sleep(0.02)
            await cluster.track.kill()
            with contextlib.suppress(AssertionError):
                await starting
        await cluster.worker.mode()
        await cluster.track.start()
        async with cluster.recorder(room_name) as client:
            egress = await until_state(client, known[0], ACTIVE)
            assert len(egress.parts) == 1
            await stop(client, egress)
        assert len(cluster.worker.asked()) == 1


@pytest.mark.parametrize("cause", ["room", "track"])
async def test_what_is_gone_when_the_server_comes_back_is_ended(
    own_cluster: EgressCluster, room_name: str, cause: str
) -> None:
    cluster = own_cluster
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(participant(cluster.livekit, room_name, "alice"))
        mic = await microphone(alice)
        async with cluster.recorder(room_name) as client:
            egress = await start(client, room_name, FILE, track_sid=mic.sid)
        await cluster.track.kill()
        if cause == "room":
            await delete_room(cluster.livekit, room_name)
        else:
            await alice.local_participant.unpublish_track(mic.sid)
        await cluster.track.start()
        async with cluster.recorder(room_name) as client:
            ended = await until_state(client, egress, COMPLETE)
        expected = pb.EGRESS_END_CAUSE_ROOM_CLOSED if cause == "room" else pb.EGRESS_END_CAUSE_TRACK_ENDED
        assert ended.end_cause == expected
        assert set(cluster.worker.stopped()) == {egress.parts[0].livekit_egress_id}


async def test_it_ends_with_the_permission_of_who_asked_for_it(
    cluster_with_egress: EgressCluster, start_track: StartTrack, start_permissions: StartPermissions, room_name: str
) -> None:
    cluster = cluster_with_egress
    permissions = await start_permissions(RULE.format("allow"))
    track = await start_track(cluster.livekit, {**ALONE, **permissions.track_settings})
    async with (
        participant(cluster.livekit, room_name, "alice") as alice,
        cluster.recorder(room_name, track) as client,
    ):
        mic = await microphone(alice)
        egress = await start(client, room_name, FILE, track_sid=mic.sid)
        rule = pb.EgressRule(name="none", filter="false", output=FILE)
        await client.SetEgressRule(pb.SetEgressRuleRequest(room=room_name, rule=rule))
        await permissions.rewrite(RULE.format("deny"))
        async with asyncio.timeout(45):
            while egress.parts[0].livekit_egress_id not in cluster.worker.stopped():
                await asyncio.sleep(0.05)
        await permissions.rewrite(RULE.format("allow"))
        async with asyncio.timeout(45):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    if not (await client.ListEgressRules(pb.ListEgressRulesRequest(room=room_name))).rules:
                        break
                await asyncio.sleep(0.05)
        ended = await until_state(client, egress, COMPLETE, FAILED)
        assert (ended.state, ended.end_cause) == (COMPLETE, pb.EGRESS_END_CAUSE_STOPPED)
