"""Recordings that are refused: of what cannot be recorded, to where nothing may go, twice, and where no Egress is."""

import asyncio
import contextlib
from typing import Any

import grpc
import pytest
from livekit import api

from tests.conftest import StartTrack
from tests.egresses import (
    ACTIVE,
    DEADLINE_S,
    FAILED,
    PATIENT,
    EgressCluster,
    get,
    listed,
    start,
    stop,
    to_file,
)
from tests.encrypted import KEY, viewer
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api
from tests.participants import camera, microphone, participant
from tests.publications import until_listed
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import TrackProcess
from track.v1 import egress_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
FILE = to_file("recordings/{track_id}.ogg")


@pytest.mark.parametrize(
    ("output", "reason", "field"),
    [
        (to_file("a.ogg"), "DESTINATION_NOT_ALLOWED", "output.file.filepath"),
        (to_file("/etc/passwd"), "DESTINATION_NOT_ALLOWED", "output.file.filepath"),
        (to_file("recordings/../../etc/passwd"), "INVALID_FIELD", "output.file.filepath"),
        (to_file("recordings/{who}.ogg"), "INVALID_FIELD", "output.file.filepath"),
        (to_file("a", s3=pb.S3Storage(bucket="others")), "DESTINATION_NOT_ALLOWED", "output.file.s3.bucket"),
        (
            to_file("a", s3=pb.S3Storage(bucket="tapes", endpoint="http://169.254.169.254")),
            "DESTINATION_NOT_ALLOWED", "output.file.s3.bucket",
        ),
        (pb.EgressOutput(websocket_url="wss://evil.example"), "DESTINATION_NOT_ALLOWED", "output.websocket_url"),
        (pb.EgressOutput(websocket_url="ws://ears.example"), "DESTINATION_NOT_ALLOWED", "output.websocket_url"),
    ],
)  # fmt: skip
async def test_a_place_that_the_operator_does_not_name(
    cluster_with_egress: EgressCluster, room_name: str, output: pb.EgressOutput, reason: str, field: str
) -> None:
    cluster = cluster_with_egress
    async with cluster.recorder(room_name) as client:
        refused = await refusal(start(client, room_name, output, track_sid="TR_a"))
        assert (refused.code, refused.reason, refused.fields) == (INVALID, reason, (field,))


async def test_what_cannot_be_recorded(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with (
        participant(cluster.livekit, room_name, "alice") as alice,
        viewer(cluster.livekit, room_name, "eve", KEY) as eve,
        cluster.recorder(room_name) as client,
    ):
        mic = await microphone(alice)
        secret = await microphone(eve.room)
        data = await alice.local_participant.publish_data_track(name="d")
        await until_listed(client, room_name, mic.sid, secret.sid, data.info.sid)

        async def refused(**target: Any) -> tuple[grpc.StatusCode, str, tuple[str, ...]]:
            found = await refusal(start(client, room_name, target.pop("output", FILE), **target))
            return found.code, found.reason, found.fields

        async with camera(alice) as cam:
            assert [
                await refused(track_sid=data.info.sid),
                await refused(track_sid=secret.sid),
                await refused(track_sid="TR_unknown"),
                await refused(publication_id="PUB_unknown"),
                await refused(track_sid=cam.sid, audio_track_sid=secret.sid),
                await refused(track_sid=mic.sid, audio_track_sid=mic.sid),
                await refused(track_sid=cam.sid, output=pb.EgressOutput(websocket_url="wss://ears.example")),
            ] == [
                (PRECONDITION, "NOT_FOR_DATA_TRACKS", ("track_sid",)),
                (PRECONDITION, "ENCRYPTION_KEY_NEEDED", ("track_sid",)),
                (grpc.StatusCode.NOT_FOUND, "TRACK_NOT_FOUND", ("track_sid",)),
                (grpc.StatusCode.NOT_FOUND, "PUBLICATION_NOT_FOUND", ("publication_id",)),
                (PRECONDITION, "ENCRYPTION_KEY_NEEDED", ("audio_track_sid",)),
                (INVALID, "INVALID_OPTIONS", ("audio_track_sid",)),
                (PRECONDITION, "NOT_SUPPORTED", ("output.websocket_url",)),
            ]
        assert not await listed(client, room_name)
        for call in (
            client.GetTrackEgress(pb.GetTrackEgressRequest(room=room_name, egress_id="TEG_a")),
            client.StopTrackEgress(pb.StopTrackEgressRequest(room=room_name, egress_id="TEG_a")),
        ):
            assert (await refusal(call)).reason == "EGRESS_NOT_FOUND"
    async with cluster.recorder("a-room-that-is-not") as client:
        unknown = await refusal(start(client, "a-room-that-is-not", FILE, track_sid="TR_a"))
        assert unknown.reason == "ROOM_NOT_FOUND"


async def test_nothing_is_recorded_twice_to_one_place(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        asked = len(cluster.worker.asked())
        both = await asyncio.gather(
            *(start(client, room_name, FILE, track_sid=mic.sid) for _ in range(2)), return_exceptions=True
        )
        (first,) = [found for found in both if isinstance(found, pb.TrackEgress)]
        assert len(cluster.worker.asked()) == asked + 1
        again = await refusal(start(client, room_name, FILE, track_sid=mic.sid))
        assert (again.code, again.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EGRESS_IN_PROGRESS")
        assert again.metadata["egress_id"] == first.egress_id
        async with camera(alice) as cam:
            # Another track that would write over it.
            over = await refusal(start(client, room_name, to_file(first.parts[0].path), track_sid=cam.sid))
            assert over.metadata["egress_id"] == first.egress_id
        elsewhere = await start(client, room_name, to_file("recordings/{track_id}-2.ogg"), track_sid=mic.sid)
        await stop(client, first)
        # The place is free again.
        third = await start(client, room_name, FILE, track_sid=mic.sid)
        for egress in (elsewhere, third):
            await stop(client, egress)


async def test_what_somebody_else_records_through_livekit_is_not_recorded_over(
    cluster_with_egress: EgressCluster, room_name: str
) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        path = f"recordings/{mic.sid}.ogg"
        async with livekit_api(cluster.livekit) as livekit:
            request = api.TrackEgressRequest(room_name=room_name, track_id=mic.sid)
            request.file.filepath = path
            theirs = await livekit.egress.start_track_egress(request)
            refused = await refusal(start(client, room_name, FILE, track_sid=mic.sid))
            assert (refused.reason, refused.metadata["egress_id"]) == ("EGRESS_IN_PROGRESS", theirs.egress_id)
            await livekit.egress.stop_egress(api.StopEgressRequest(egress_id=theirs.egress_id))


async def test_more_than_the_limit(cluster_with_egress: EgressCluster, start_track: StartTrack, room_name: str) -> None:
    cluster = cluster_with_egress
    limits = {"TRACK_MAX_EGRESS_PER_ROOM": "1", "TRACK_MAX_EGRESS_RULES_PER_ROOM": "1", "TRACK_MEDIA_WORKERS": "0"}
    track = await start_track(cluster.livekit, {**PATIENT, **limits})
    async with (
        participant(cluster.livekit, room_name, "alice") as alice,
        cluster.recorder(room_name, track) as client,
    ):
        mic = await microphone(alice)
        egress = await start(client, room_name, FILE, track_sid=mic.sid)
        refused = await refusal(start(client, room_name, to_file("recordings/b.ogg"), track_sid=mic.sid))
        assert refused.quota == ("max_egress_per_room", 1, f"room {room_name}")
        await stop(client, egress)
        rule = pb.EgressRule(name="a", filter="false", output=FILE)
        await client.SetEgressRule(pb.SetEgressRuleRequest(room=room_name, rule=rule))
        await client.SetEgressRule(pb.SetEgressRuleRequest(room=room_name, rule=rule))
        rule.name = "b"
        refused = await refusal(client.SetEgressRule(pb.SetEgressRuleRequest(room=room_name, rule=rule)))
        assert refused.quota == ("max_egress_rules_per_room", 1, f"room {room_name}")
        await client.DeleteEgressRule(pb.DeleteEgressRuleRequest(room=room_name, name="a"))

        async def set_one(name: str) -> bool:
            one = pb.EgressRule(name=name, filter="false", output=FILE)
            try:
                await client.SetEgressRule(pb.SetEgressRuleRequest(room=room_name, rule=one))
            except grpc.aio.AioRpcError:
                return False
            return True

        # At the same time none goes beyond it either.
        assert sum(await asyncio.gather(*(set_one(f"r{number}") for number in range(8)))) == 1


async def test_a_livekit_without_redis_has_no_egress(
    track: TrackProcess, livekit: LiveKitProcess, room_name: str
) -> None:
    async with (
        participant(livekit, room_name, "alice") as alice,
        track.client("recorder", room_record=True, room=room_name, room_admin=True) as client,
    ):
        mic = await microphone(alice)
        for validate_only in (True, False):
            call = start(client, room_name, FILE, track_sid=mic.sid, validate_only=validate_only)
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (PRECONDITION, "EGRESS_UNAVAILABLE")
            assert "Redis" in refused.message
        assert not await listed(client, room_name)


@pytest.mark.parametrize("mode", ["decline", "unavailable"])
async def test_an_egress_that_takes_nothing_is_none(
    cluster_with_egress: EgressCluster, start_track: StartTrack, room_name: str, mode: Any
) -> None:
    cluster = cluster_with_egress
    track = await start_track(cluster.livekit, {"TRACK_EGRESS_START_SECONDS": "1", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        participant(cluster.livekit, room_name, "alice") as alice,
        cluster.recorder(room_name, track) as client,
    ):
        mic = await microphone(alice)
        await cluster.worker.mode(mode)
        for _ in range(2):
            refused = await refusal(start(client, room_name, FILE, track_sid=mic.sid))
            assert (refused.code, refused.reason) == (PRECONDITION, "EGRESS_UNAVAILABLE")
        assert not await listed(client, room_name)
        # It is asked anew: that none was there is not believed for long.
        await cluster.worker.mode()
        begun: pb.TrackEgress | None = None
        async with asyncio.timeout(DEADLINE_S):
            while begun is None:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    begun = await start(client, room_name, FILE, track_sid=mic.sid)
        await stop(client, begun)


async def test_what_egress_refuses_for_good(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        await cluster.worker.mode("fail")
        async with events(client, room_name) as stream:
            await stream.snapshot()
            refused = await refusal(start(client, room_name, FILE, track_sid=mic.sid))
            assert (refused.code, refused.metadata["livekit_code"]) == (grpc.StatusCode.INTERNAL, "invalid_argument")
            assert not await listed(client, room_name)
            # Who saw it come sees it go.
            begun = await stream.until("egress_moved")
            gone = await stream.until("egress_moved", lambda moved: moved.state == FAILED)
            assert gone.egress_id == begun.egress_id


async def test_what_begins_after_it_was_given_up_is_stopped(
    cluster_with_egress: EgressCluster, start_track: StartTrack, room_name: str
) -> None:
    cluster = cluster_with_egress
    track = await start_track(cluster.livekit, {"TRACK_EGRESS_START_SECONDS": "1", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        participant(cluster.livekit, room_name, "alice") as alice,
        cluster.recorder(room_name, track) as client,
    ):
        mic = await microphone(alice)
        await cluster.worker.mode(late_ms=4000)
        refused = await refusal(start(client, room_name, FILE, track_sid=mic.sid))
        assert refused.reason == "EGRESS_UNAVAILABLE"
        asked = next(told for told in cluster.worker.heard if mic.sid in str(told.get("request")))
        await cluster.worker.until(lambda told: told["event"] == "stopped" and told["egress_id"] == asked["egress_id"])
        assert not await listed(client, room_name)


async def test_an_egress_that_is_slow_to_answer_is_waited_for(
    cluster_with_egress: EgressCluster, start_track: StartTrack, room_name: str
) -> None:
    cluster = cluster_with_egress
    track = await start_track(cluster.livekit, {"TRACK_EGRESS_START_SECONDS": "4", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        participant(cluster.livekit, room_name, "alice") as alice,
        cluster.recorder(room_name, track) as client,
    ):
        mic = await microphone(alice)
        await cluster.worker.mode(delay_ms=5000)
        egress = await start(client, room_name, FILE, track_sid=mic.sid)
        assert (await get(client, egress)).state == ACTIVE
        assert len([told for told in cluster.worker.asked() if mic.sid in str(told)]) == 1
        await stop(client, egress)
