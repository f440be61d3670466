"""Every way in which a watcher's session ends against real servers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from livekit import api
from livekit.protocol import models, rtc

from tests.conftest import StartLiveKit
from tests.livekit.watching import ended, livekit_api, participant, watch
from tests.livekit_process import LiveKitProcess
from track_server.livekit.signal import SignalClosed

EndSession = Callable[[api.LiveKitAPI, str], Awaitable[object]]


async def _delete(client: api.LiveKitAPI, room: str) -> object:
    return await client.room.delete_room(api.DeleteRoomRequest(room=room))


async def _remove(client: api.LiveKitAPI, room: str) -> object:
    return await client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity="watcher"))


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        pytest.param(_delete, models.ROOM_DELETED, id="deleted"),
        pytest.param(_remove, models.PARTICIPANT_REMOVED, id="removed"),
    ],
)
async def test_goodbye_of_the_server_is_told_with_its_reason(
    server: LiveKitProcess, room_name: str, end: EndSession, reason: models.DisconnectReason
) -> None:
    async with watch(server, room_name) as connection, livekit_api(server) as client:
        await connection.wait_transport()
        await end(client, room_name)
        closed = await ended(connection)
    assert (closed.reason, closed.by_server, closed.can_reconnect) == (reason, True, False)


async def test_room_that_its_last_participant_left_closes_on_the_watcher(
    server: LiveKitProcess, room_name: str
) -> None:
    async with livekit_api(server) as client:
        await client.room.create_room(api.CreateRoomRequest(name=room_name, departure_timeout=1))
        async with watch(server, room_name) as connection:
            async with participant(server, room_name, "alice"):
                pass
            closed = await ended(connection, 30)
    assert (closed.reason, closed.by_server, closed.can_reconnect) == (models.ROOM_CLOSED, True, False)


async def test_second_session_of_the_same_identity_ends_the_first(server: LiveKitProcess, room_name: str) -> None:
    async def first_end() -> SignalClosed:
        async with watch(server, room_name) as first, watch(server, room_name) as second:
            closed = await ended(first)
            await second.wait_transport()
        return closed

    closed = await first_end()
    for _ in range(4):
        if closed.reason != models.SIGNAL_CLOSE:
            break
        # LiveKit closed the socket before its goodbye was delivered, for which it does not wait.
        assert (closed.by_server, closed.can_reconnect) == (False, True)
        closed = await first_end()
    assert (closed.reason, closed.by_server, closed.can_reconnect) == (models.DUPLICATE_IDENTITY, True, False)


async def test_server_that_shuts_down_ends_the_session(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit()
    async with watch(server, room_name) as connection:
        await connection.wait_transport()
        await server.stop()
        closed = await ended(connection)
    # LiveKit does not wait until its goodbye is delivered.
    assert closed.reason in (models.SERVER_SHUTDOWN, models.SIGNAL_CLOSE)
    assert closed.by_server == (closed.reason == models.SERVER_SHUTDOWN)
    assert closed.can_reconnect


async def test_server_that_is_killed_ends_the_session_at_once(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit()
    async with watch(server, room_name) as connection:
        await connection.wait_transport()
        await server.kill()
        closed = await ended(connection)
        with pytest.raises(SignalClosed):
            await connection.send(rtc.SignalRequest(ping=1))
        async with asyncio.timeout(45):
            await connection.aclose()
    assert (closed.reason, closed.by_server, closed.can_reconnect) == (models.SIGNAL_CLOSE, False, True)


async def test_server_that_falls_silent_ends_the_session_by_its_ping_timeout(
    start_livekit: StartLiveKit, room_name: str
) -> None:
    server = await start_livekit()
    async with watch(server, room_name) as connection:
        await connection.wait_transport()
        server.pause()
        closed = await ended(connection, connection.join.ping_timeout + 2 * connection.join.ping_interval + 20)
        async with asyncio.timeout(45):
            await connection.aclose()
    assert (closed.reason, closed.by_server, closed.can_reconnect) == (models.SIGNAL_CLOSE, False, True)
