"""A watcher's connection that is never made, or is given up."""

import asyncio
import traceback

import pytest
from livekit import api
from livekit.protocol import models, rtc

from tests.conftest import StartLiveKit
from tests.livekit.watching import ended, watch
from tests.livekit_process import LiveKitProcess
from track_server.livekit.signal import SignalConnection, SignalRefused, SignalUnreachable, TransportFailed


async def test_wrong_key_is_refused_with_401_and_without_the_token_in_the_text(
    server: LiveKitProcess, room_name: str
) -> None:
    grants = api.VideoGrants(room_join=True, room=room_name)
    token = api.AccessToken(server.api_key, "x" * 40).with_identity("watcher").with_grants(grants).to_jwt()
    with pytest.raises(SignalRefused) as refused:
        async with SignalConnection(server.url, token):
            pass
    assert refused.value.status == 401
    assert "invalid token" in refused.value.detail
    assert token not in "".join(traceback.format_exception(refused.value))
    assert refused.value.__cause__ is None


async def test_room_that_may_not_be_made_is_refused_with_404(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit({"room": {"auto_create": False}})
    with pytest.raises(SignalRefused) as refused:
        async with watch(server, room_name):
            pass
    assert refused.value.status == 404


async def test_server_that_is_not_there_is_unreachable(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit()
    connection = watch(server, room_name)
    await server.kill()
    with pytest.raises(SignalUnreachable):
        async with connection:
            pass


async def test_server_that_does_not_answer_is_unreachable(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit()
    server.pause()
    with pytest.raises(SignalUnreachable, match="no JoinResponse within 10 s"):
        async with watch(server, room_name):
            pass


async def test_giving_up_while_joining_leaves_nothing_behind(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit()
    connection = watch(server, room_name)
    server.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await connection.__aenter__()
    await connection.aclose()


async def test_sending_before_entry_is_an_error(server: LiveKitProcess, room_name: str) -> None:
    connection = watch(server, room_name)
    for call in (connection.send(rtc.SignalRequest(ping=1)), connection.wait_transport()):
        with pytest.raises(RuntimeError, match="not entered"):
            await call


async def test_closing_twice_or_before_the_transport_is_up_is_fine(server: LiveKitProcess, room_name: str) -> None:
    connection = watch(server, room_name)
    async with connection:
        await asyncio.gather(connection.aclose(), connection.aclose())
    await connection.aclose()
    assert (await ended(connection)).reason == models.CLIENT_INITIATED
    with pytest.raises(TransportFailed):
        await connection.wait_transport()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:7880", ""])
def test_url_that_is_not_livekits_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="LiveKit URL"):
        SignalConnection(url, "token")
