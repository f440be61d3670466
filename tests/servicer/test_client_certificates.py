"""Client certificates: required, verified, and mapped to principals that are held to their grants."""

import asyncio
import contextlib
from datetime import timedelta

import grpc

from tests.certificates import authority, issue
from tests.chained_server import until
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.publications import TONE
from tests.refusals import read, refusal
from tests.servicer.tls import Files, asked, listed, secure, unreachable
from tests.streams import events
from track.v1 import publication_pb2, tracks_pb2

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
URI = "spiffe://example.org/recorder"


async def test_a_client_certificate_is_required_and_verified(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files
) -> None:
    files.map("[known]\nroom_list = true")
    track = await start_track(livekit, files.mtls)
    token = track.token("a", room_list=True)
    forged = issue("known", authority("clients"))
    expired = issue("known", files.clients_ca, good_for=timedelta(minutes=-1))
    for refused in (None, forged, expired):
        async with secure(track, files.ca, refused, token) as client:
            await unreachable(asked(client))
    async with secure(track, files.ca, issue("known", files.clients_ca)) as client:
        await asked(client)
    # Of another CA that is trusted from now on; the first one's is not.
    (files.directory / "clients-ca.pem").write_bytes((another := authority("another")).pem)
    async with asyncio.timeout(45):
        while True:
            async with secure(track, files.ca, issue("known", another)) as client:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await asked(client)
                    break
            await asyncio.sleep(0.05)
    async with secure(track, files.ca, issue("known", files.clients_ca)) as client:
        await unreachable(asked(client))
    # Strangers write nothing into the log.
    assert all(line.startswith("{") for line in track.log_path.read_text().splitlines())


async def test_a_certificate_is_a_principal_that_is_held_to_its_grants(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, room: str
) -> None:
    files.map(
        f'["{URI}"]\nidentity = "recorder"\nroom = "{room}"\nroom_admin = true\n'
        f'[dashboard]\nroom_list = true\n[alice]\nroom = "{room}"\nroom_join = true\ncan_publish = false\n'
    )
    track = await start_track(livekit, files.mtls)
    unmute = tracks_pb2.UnmuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid="TR_unknown")])
    elsewhere = tracks_pb2.UnmuteTracksRequest(room="elsewhere", tracks=[tracks_pb2.TrackRef(track_sid="TR_unknown")])
    publish = publication_pb2.PublishTrackRequest(room=room, spec=TONE)
    async with secure(track, files.ca, issue("anything", files.clients_ca, uris=[URI])) as recorder:
        await listed(recorder, room)
        assert (await refusal(recorder.UnmuteTracks(unmute, timeout=30))).code is grpc.StatusCode.NOT_FOUND
        assert (await refusal(recorder.UnmuteTracks(elsewhere, timeout=30))).code is DENIED
        assert (await refusal(listed(recorder, "elsewhere"))).code is DENIED
    async with secure(track, files.ca, issue("", files.clients_ca, names=["dashboard"])) as dashboard:
        await listed(dashboard, room)
        assert (await refusal(listed(dashboard, "elsewhere"))).code is grpc.StatusCode.NOT_FOUND
        assert (await refusal(dashboard.UnmuteTracks(unmute, timeout=30))).code is DENIED
    async with secure(track, files.ca, issue("alice", files.clients_ca)) as alice:
        await listed(alice, room)
        assert (await refusal(alice.PublishTrack(publish, timeout=30))).code is DENIED


async def test_a_token_goes_before_the_certificate_and_without_either_nobody_is_known(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, room: str
) -> None:
    files.map("[dashboard]\nroom_list = true")
    track = await start_track(livekit, files.mtls)
    known, stranger = issue("dashboard", files.clients_ca), issue("stranger", files.clients_ca)
    token = track.token("alice", room_join=True, room=room)
    async with secure(track, files.ca, known, token) as client:
        await listed(client, room)
        assert (await refusal(listed(client, "elsewhere"))).code is DENIED
    async with secure(track, files.ca, known, "not.a.token") as client:
        assert (await refusal(listed(client, room))).code is UNAUTHENTICATED
    async with secure(track, files.ca, stranger, token) as client:
        await listed(client, room)
    async with secure(track, files.ca, stranger) as client:
        refused = await refusal(listed(client, room))
        assert (refused.code, refused.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_who_the_clients_are_is_changed_on_connections_that_stand(
    start_track: StartTrack, livekit: LiveKitProcess, files: Files, room: str
) -> None:
    files.map("[dashboard]\nroom_list = true")
    track = await start_track(livekit, files.mtls)
    async with (
        secure(track, files.ca, issue("dashboard", files.clients_ca)) as client,
        events(client, room) as stream,
    ):
        await stream.snapshot()
        await listed(client, room)
        files.map("[dashboard]\nroom_lits = true")
        await until(lambda: track.logged("file_refused"))
        await listed(client, room)
        files.map("[other]\nroom_list = true")
        refused = None
        async with asyncio.timeout(45):
            while refused is None:
                try:
                    await listed(client, room)
                    await asyncio.sleep(0.05)
                except grpc.aio.AioRpcError as error:
                    refused = read(error)
        assert refused.code is UNAUTHENTICATED
        assert (await refusal(stream.end())).code is UNAUTHENTICATED
