"""LiveKit down, slow, or strange to us: told quickly, with what to do, and nothing stays behind."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from livekit import api

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import microphone, participant
from tests.publications import TONE
from tests.refusals import refusal
from tests.servicer.contract import called
from tests.servicer.principals import bearing
from tests.servicer.test_bad_input import LIVE_ROOM_RPCS, complete
from tests.servicer.test_tracks import list_tracks
from tests.streams import events
from tests.track_process import TrackProcess
from track.v1 import publication_pb2, server_info_pb2, tracks_pb2

NO_WORKER = {"TRACK_MEDIA_WORKERS": "0"}
PROMPT_S = 25.0
"""LiveKit itself is given 5 s to answer."""


@pytest_asyncio.fixture
async def own_livekit(start_livekit: StartLiveKit) -> LiveKitProcess:
    """A LiveKit that may be harmed."""
    return await start_livekit()


@pytest_asyncio.fixture
async def own_track(own_livekit: LiveKitProcess, start_track: StartTrack) -> AsyncIterator[TrackProcess]:
    """TrackService in front of it."""
    yield await start_track(own_livekit, NO_WORKER)


@pytest.mark.parametrize("how", ["down", "slow"])
async def test_every_rpc_that_needs_livekit_says_unavailable_and_when_to_try_again(
    own_livekit: LiveKitProcess, own_track: TrackProcess, room_name: str, how: str
) -> None:
    async with (
        own_track.client("admin", room_admin=True, room=room_name) as admin,
        existing_room(own_livekit, room_name),
    ):
        if how == "down":
            await own_livekit.kill()
        else:
            own_livekit.pause()
        try:
            began = time.monotonic()
            refusals = await asyncio.gather(
                *(refusal(called(admin, rpc, complete(rpc, room_name))) for rpc in LIVE_ROOM_RPCS)
            )
            took = time.monotonic() - began
            for rpc, refused in zip(LIVE_ROOM_RPCS, refusals, strict=True):
                assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "LIVEKIT_UNAVAILABLE"), rpc
                assert refused.retry_s is not None, rpc
                assert refused.retry_s > 0
            assert took < PROMPT_S
            # What needs no LiveKit works on.
            request = publication_pb2.ListPublicationsRequest(room=room_name)
            assert not (await admin.ListPublications(request)).publications
            await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())
        finally:
            if how == "slow":
                own_livekit.resume()
            else:
                await own_livekit.start()


async def test_a_mute_that_livekit_does_not_answer_is_told_in_time(
    own_livekit: LiveKitProcess, own_track: TrackProcess, room_name: str
) -> None:
    async with (
        existing_room(own_livekit, room_name),
        own_track.client("admin", room_admin=True, room=room_name) as admin,
        participant(own_livekit, room_name, "alice") as alice,
    ):
        mic = await microphone(alice)
        request = tracks_pb2.MuteTracksRequest(room=room_name, tracks=[tracks_pb2.TrackRef(track_sid=mic.sid)])
        async with events(admin, room_name) as stream, asyncio.timeout(45):
            while mic.sid not in [found.sid for found in (await list_tracks(admin, room_name)).tracks]:
                await stream.next()
        own_livekit.pause()
        try:
            began = time.monotonic()
            refused = await refusal(admin.MuteTracks(request, timeout=2 * PROMPT_S))
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "LIVEKIT_UNAVAILABLE")
            assert refused.retry_s is not None
            assert time.monotonic() - began < PROMPT_S
        finally:
            own_livekit.resume()


async def test_a_key_that_livekit_refuses_is_named_and_never_unauthenticated(
    own_livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    wrong = "w" * 40
    track = await start_track(own_livekit, {**NO_WORKER, "LIVEKIT_API_SECRET": wrong})
    # Also where it never was reached: readiness is looked at before the server says that it serves.
    (line,) = track.logged("livekit_unreachable")
    assert "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in line["reason"]
    # Callers' tokens are held against the service's secret, whatever LiveKit's is.
    token = api.AccessToken(own_livekit.api_key, wrong).with_identity("admin")
    token = token.with_grants(api.VideoGrants(room_admin=True, room=room_name))
    async with existing_room(own_livekit, room_name), bearing(track, token.to_jwt()) as admin:
        for rpc in LIVE_ROOM_RPCS:
            refused = await refusal(called(admin, rpc, complete(rpc, room_name)))
            assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LIVEKIT_CREDENTIALS"), rpc
            assert refused.retry_s is None
            assert "w" * 8 not in refused.message
        info = await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())
        assert not info.livekit.reachable


async def test_what_was_refused_while_livekit_was_down_is_not_published_later(
    own_livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    track = await start_track(own_livekit)
    async with track.client("admin", room_admin=True, room=room_name) as admin:
        await own_livekit.kill()
        request = publication_pb2.PublishTrackRequest(room=room_name, create_room=True, spec=TONE, request_id="r")
        refused = await refusal(admin.PublishTrack(request, timeout=45))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        await own_livekit.start()
        assert not (await admin.ListPublications(publication_pb2.ListPublicationsRequest(room=room_name))).publications
        # The same request may be sent again, and is carried out then.
        async with asyncio.timeout(60):
            answer = None
            while answer is None:
                try:
                    answer = await admin.PublishTrack(request, timeout=45)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.2)
        assert answer.publication.room == room_name
        listed = await admin.ListPublications(publication_pb2.ListPublicationsRequest(room=room_name))
        assert len(listed.publications) == 1
