"""Limits of calls, streams, requests and connections, end to end."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.refusals import Refusal, first, read, refusal
from tests.servicer.limited import EXHAUSTED, admin_of
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2, tracks_pb2

# Calls and streams.


async def test_one_greedy_principal_is_refused_and_does_not_hinder_another(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    track = await start_track(
        livekit,
        {
            "TRACK_MAX_REQUESTS_PER_SECOND": "30",
            "TRACK_MAX_REQUESTS_PER_SECOND_PER_PRINCIPAL": "10",
            "TRACK_MEDIA_WORKERS": "0",
        },
    )
    request = tracks_pb2.ListTracksRequest(room=room)
    async with (
        track.client("greedy", room_join=True, room=room) as greedy,
        track.client("modest", room_join=True, room=room) as modest,
    ):
        ended = await asyncio.gather(*(greedy.ListTracks(request) for _ in range(200)), return_exceptions=True)
        refused = [read(each) for each in ended if isinstance(each, grpc.aio.AioRpcError)]
        assert 100 < len(refused) < 200
        for each in refused:
            assert each.quota == ("max_requests_per_second_per_principal", 10, "principal greedy")
            assert each.retry_s is not None
            assert 0 < each.retry_s <= 0.2
        for _ in range(10):
            await modest.ListTracks(request)
        await _after(refused[-1], lambda: greedy.ListTracks(request))


async def _after(refused: Refusal, again: Callable[[], Any]) -> None:
    """Waits as RetryInfo says; then it must work."""
    assert refused.retry_s is not None
    await asyncio.sleep(refused.retry_s)
    await again()


@pytest.mark.parametrize(
    ("limit", "subject"),
    [("max_streams", "server"), ("max_streams_per_principal", "principal op"), ("max_streams_per_room", "room {room}")],
)
async def test_streams_beyond_are_refused_until_one_ends(
    start_track: StartTrack, livekit: LiveKitProcess, room: str, limit: str, subject: str
) -> None:
    request = event_pb2.WatchEventsRequest(room=room)
    async with admin_of(start_track, livekit, room, **{limit: 1}) as admin:
        async with events(admin, room) as stream:
            await stream.snapshot()
            refused = await refusal(first(admin.WatchEvents(request)))
            assert (refused.code, refused.quota) == (EXHAUSTED, (limit, 1, subject.format(room=room)))
            assert refused.retry_s
        async with asyncio.timeout(45):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await first(admin.WatchEvents(request))
                    break
                await asyncio.sleep(0.02)


async def test_a_request_that_is_too_large_is_refused_with_the_limit(admin: Client, room: str) -> None:
    refused = await refusal(admin.ListTracks(tracks_pb2.ListTracksRequest(room=room, filter="x" * 2_000_000)))
    assert (refused.code, refused.quota) == (EXHAUSTED, ("max_request_bytes", 1024 * 1024, "request"))
    assert refused.retry_s is None
    # Far beyond, gRPC itself refuses, without details.
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room, filter="x" * 5_000_000))
    assert error.value.code() is EXHAUSTED


async def test_a_connection_has_so_many_calls_at_once(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    settings = {"TRACK_MAX_STREAMS_PER_CONNECTION": "1", "TRACK_MEDIA_WORKERS": "0"}
    track = await start_track(livekit, settings)
    metadata = (("authorization", f"Bearer {track.token('op', room_admin=True, room=room)}"),)
    request = event_pb2.WatchEventsRequest(room=room)
    own = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        grpc.aio.insecure_channel(track.address, options=own) as channel,
        grpc.aio.insecure_channel(track.address, options=own) as other,
    ):
        open_stream: Any = Client(channel).WatchEvents(request, metadata=metadata)
        await open_stream.read()
        waiting: Any = Client(channel).WatchEvents(request, metadata=metadata)
        reading = asyncio.ensure_future(waiting.read())
        # By the time that another connection was served, this one still waits.
        await first(Client(other).WatchEvents(request, metadata=metadata))
        assert not reading.done()
        open_stream.cancel()
        await reading
        waiting.cancel()


async def test_connections_grow_so_old_and_clients_go_on(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    async with admin_of(start_track, livekit, room, max_connection_age_seconds=1) as admin:

        async def age() -> Refusal:
            async with events(admin, room) as stream:
                return await refusal(stream.end())

        aging = asyncio.ensure_future(age())
        calls = 0
        # Unary calls never notice that their connection is another one.
        while not aging.done() or calls < 30:
            await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            calls += 1
            await asyncio.sleep(0.05)
        ended = await aging
        assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "CONNECTION_AGE")
        assert ended.metadata["limit"] == "max_connection_age_seconds"
        async with events(admin, room) as stream:
            await _after(ended, stream.snapshot)


async def test_no_call_of_a_usual_size_comes_near_a_default(track: TrackProcess, livekit: LiveKitProcess) -> None:
    """A thousand calls at once of one caller, which is what a service may well do after a pause."""
    async with existing_room(livekit, "many"), track.client("op", room_admin=True, room="many") as admin:
        request = tracks_pb2.ListTracksRequest(room="many")
        await asyncio.gather(*(admin.ListTracks(request) for _ in range(1000)))
