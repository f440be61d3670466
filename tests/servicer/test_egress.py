"""Recordings through LiveKit Egress, which a stand-in on LiveKit's own bus plays: what LiveKit is asked, and told."""

import asyncio
import json
import sqlite3
from typing import Any

import pytest

from tests.egresses import (
    ACTIVE,
    COMPLETE,
    DEADLINE_S,
    EgressCluster,
    get,
    listed,
    start,
    stop,
    to_file,
    until,
    until_state,
)
from tests.participants import camera, microphone, participant
from tests.publications import publish, unpublish
from tests.refusals import refusal
from tests.servicer.restarting import REPUBLISH, restart
from tests.streams import events
from track.v1 import audit_pb2, event_pb2
from track.v1 import egress_pb2 as pb
from track.v1 import publication_pb2 as publications
from track.v1.access_pb2 import PRINCIPAL_KIND_ADMIN

SECRETS = ("s3cr3t-key", "session-t0ken", "goog1e-credentials", "azure-k3y", "t0k3n-of-ears")


def asked_for(cluster: EgressCluster, sid: str) -> list[dict[str, Any]]:
    """What Egress was asked to record of the track."""
    return [dict(request) for request in cluster.worker.asked() if sid in json.dumps(request)]


async def test_a_track_is_recorded_and_its_result_is_told_with_the_quality_of_that_time(
    cluster_with_egress: EgressCluster, room_name: str
) -> None:
    cluster = cluster_with_egress
    path = "recordings/{room_name}/{publisher_identity}-{track_source}.ogg"
    filled = f"recordings/{room_name}/al_ice-microphone.ogg"
    async with participant(cluster.livekit, room_name, "al/ice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        async with events(client, room_name) as stream:
            await stream.next()
            egress = await start(client, room_name, to_file(path), track_sid=mic.sid)
            (part,) = egress.parts
            assert (egress.state, egress.track_sid, part.path) == (ACTIVE, mic.sid, filled)
            (asked,) = asked_for(cluster, mic.sid)
            assert asked["track"]["file"]["filepath"] == filled
            assert asked["track"]["roomName"] == room_name

            async def sampled() -> bool:
                request = pb.GetTrackEgressRequest(room=room_name, egress_id=egress.egress_id, with_timeline=True)
                answer = await client.GetTrackEgress(request)
                return any(sample.report.track_sid == mic.sid for sample in answer.timeline)

            async with asyncio.timeout(DEADLINE_S):
                while not await sampled():
                    await asyncio.sleep(0.1)
            ended = await stop(client, egress)
            assert (ended.state, ended.end_cause) == (COMPLETE, pb.EGRESS_END_CAUSE_STOPPED)
            assert part.livekit_egress_id in cluster.worker.stopped()
            ended = await until(client, ended, lambda now: bool(now.parts[0].files[0].timeline_path))
            (file,) = ended.parts[0].files
            recorded = cluster.disk / filled
            assert (file.location, file.size_bytes) == (filled, recorded.stat().st_size)
            span = ended.parts[0].end_time.ToNanoseconds() - ended.parts[0].start_time.ToNanoseconds()
            assert file.duration.ToNanoseconds() == span
            timeline = json.loads((cluster.disk / file.timeline_path).read_text())
            assert timeline["part"]["track_sid"] == mic.sid
            assert {sample["report"]["track_sid"] for sample in timeline["samples"]} == {mic.sid}
            # Stopped again, it is as it is.
            assert await stop(client, ended) == ended
            assert await listed(client, room_name) == [ended]
            assert not await listed(client, room_name, "egress.state == EgressState.EGRESS_STATE_ACTIVE")
            seen: list[event_pb2.RoomEvent] = []
            while not seen or seen[-1].egress_moved.state != COMPLETE:
                event = (await stream.next()).event
                if event.HasField("egress_moved"):
                    seen.append(event)
        assert [state for state in dict.fromkeys(event.egress_moved.state for event in seen) if state] == [
            pb.EGRESS_STATE_STARTING, ACTIVE, pb.EGRESS_STATE_ENDING, COMPLETE,
        ]  # fmt: skip
        assert (seen[0].cause.principal_identity, seen[0].cause.principal_kind) == ("recorder", PRINCIPAL_KIND_ADMIN)


async def test_what_records_is_in_the_snapshot_of_its_room(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        egress = await start(client, room_name, to_file("recordings/{track_id}.ogg"), track_sid=mic.sid)
        async with events(client, room_name) as stream:
            assert list((await stream.next()).snapshot.egress) == [egress]
        await stop(client, egress)
        async with events(client, room_name) as stream:
            assert not (await stream.next()).snapshot.egress


async def test_audio_and_video_go_into_one_file(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        async with camera(alice) as cam:
            output = to_file("recordings/{track_id}.mp4")
            egress = await start(client, room_name, output, track_sid=cam.sid, audio_track_sid=mic.sid)
            (asked,) = asked_for(cluster, cam.sid)
            composite = asked["trackComposite"]
            assert (composite["videoTrackId"], composite["audioTrackId"]) == (cam.sid, mic.sid)
            assert [file["filepath"] for file in composite["fileOutputs"]] == [f"recordings/{cam.sid}.mp4"]
            assert (egress.parts[0].track_sid, egress.parts[0].audio_track_sid) == (cam.sid, mic.sid)
            # The picture is what it is a recording of.
            await alice.local_participant.unpublish_track(cam.sid)
            ended = await until_state(client, egress, COMPLETE)
        assert ended.end_cause == pb.EGRESS_END_CAUSE_TRACK_ENDED


async def test_a_publication_is_recorded_across_its_restarts(
    cluster_with_egress: EgressCluster, room_name: str
) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice"), cluster.recorder(room_name) as client:
        tone = publications.PublicationSpec(tone=publications.ToneInput())
        published = await publish(client, room_name, tone)
        output = to_file("recordings/{publisher_identity}.ogg")
        egress = await start(client, room_name, output, publication_id=published.publication_id)
        await restart(client, published, REPUBLISH)
        egress = await until(client, egress, lambda now: len(now.parts) == 2 and now.state == ACTIVE)
        first, second = egress.parts
        assert first.track_sid == published.track_sid != second.track_sid == egress.track_sid
        assert first.livekit_status == "EGRESS_COMPLETE"
        identity = published.participant_identity
        assert [first.path, second.path] == [f"recordings/{identity}.ogg", f"recordings/{identity}-2.ogg"]
        await unpublish(client, published)
        ended = await until_state(client, egress, COMPLETE)
        assert ended.end_cause == pb.EGRESS_END_CAUSE_TRACK_ENDED
        assert [len(part.files) for part in ended.parts] == [1, 1]


@pytest.mark.parametrize(
    ("storage", "handed"),
    [
        (
            {"s3": pb.S3Storage(
                bucket="tapes", region="eu-central-1", access_key="AKIA", secret=SECRETS[0], session_token=SECRETS[1]
            )},
            {"s3": {
                "bucket": "tapes", "region": "eu-central-1", "accessKey": "AKIA", "secret": SECRETS[0],
                "sessionToken": SECRETS[1],
            }},
        ),
        (
            {"s3": pb.S3Storage(bucket="tapes", endpoint="https://minio.example:9000", force_path_style=True)},
            {"s3": {"bucket": "tapes", "endpoint": "https://minio.example:9000", "forcePathStyle": True}},
        ),
        (
            {"gcs": pb.GcsStorage(bucket="tapes", credentials=SECRETS[2])},
            {"gcp": {"bucket": "tapes", "credentials": SECRETS[2]}},
        ),
        (
            {"azure": pb.AzureStorage(container="tapes", account_name="acme", account_key=SECRETS[3])},
            {"azure": {"containerName": "tapes", "accountName": "acme", "accountKey": SECRETS[3]}},
        ),
    ],
    ids=["s3", "s3 of another service", "gcs", "azure"],
)  # fmt: skip
async def test_a_bucket_is_handed_to_egress_with_its_keys_which_are_shown_to_nobody(
    cluster_with_egress: EgressCluster, room_name: str, storage: dict[str, Any], handed: dict[str, Any]
) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        async with events(client, room_name) as stream:
            await stream.next()
            egress = await start(client, room_name, to_file("{track_id}.ogg", **storage), track_sid=mic.sid)
            (asked,) = asked_for(cluster, mic.sid)
            file = asked["track"]["file"]
            assert {key: file[key] for key in handed} == handed
            ended = await stop(client, egress)
            told = ""
            while pb.EgressState.Name(COMPLETE) not in told:
                told += str((await stream.next()).event)
        rows = audit_pb2.ListAuditEntriesRequest(room=room_name)
        audited = await client.ListAuditEntries(rows)
        assert "tapes" in str(audited)
        shown = [told, str(egress), str(ended), str(await listed(client, room_name)), str(audited)]
        assert not any(secret in text for secret in SECRETS for text in shown)
        assert not any(secret in cluster.track.log_path.read_text() for secret in SECRETS)
        # LiveKit was asked for the one track: the store needs them no more.
        with sqlite3.connect(cluster.track.directory / "track.sqlite3") as store:
            kept = store.execute("SELECT body FROM record WHERE kind = 'egress' AND room = ?", [room_name]).fetchall()
        assert len(kept) == 1
        assert not any(secret.encode() in body for secret in SECRETS for (body,) in kept)


async def test_a_websocket_gets_an_audio_track(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    url = f"wss://ears.example/in?token={SECRETS[4]}"
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        egress = await start(client, room_name, pb.EgressOutput(websocket_url=url), track_sid=mic.sid)
        (asked,) = asked_for(cluster, mic.sid)
        assert asked["track"]["websocketUrl"] == url
        assert egress.output.websocket_url == "wss://ears.example/in"
        audited = str(await client.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(room=room_name)))
        assert "wss://ears.example/in" in audited
        assert SECRETS[4] not in audited + cluster.track.log_path.read_text()
        again = await refusal(start(client, room_name, pb.EgressOutput(websocket_url=url), track_sid=mic.sid))
        assert (again.reason, again.metadata["egress_id"]) == ("EGRESS_IN_PROGRESS", egress.egress_id)
        ended = await stop(client, egress)
        assert (ended.state, len(ended.parts[0].files)) == (COMPLETE, 0)


async def test_what_is_only_validated_is_not_recorded(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        output = to_file("recordings/{track_id}.ogg")
        would = await start(client, room_name, output, track_sid=mic.sid, validate_only=True, request_id="once")
        assert (would.egress_id, would.state, would.track_sid) == ("", 0, mic.sid)
        assert not await listed(client, room_name)
        egress = await start(client, room_name, output, track_sid=mic.sid, request_id="once")
        assert await start(client, room_name, output, track_sid=mic.sid, request_id="once") == egress
        assert len(asked_for(cluster, mic.sid)) == 1
        request = pb.StopTrackEgressRequest(room=room_name, egress_id=egress.egress_id, validate_only=True)
        assert (await client.StopTrackEgress(request)).egress.state == ACTIVE
        assert (await get(client, egress)).state == ACTIVE
        await stop(client, egress)
