"""The watcher's connection against real servers: joining, staying, observing, and every way to end."""

import asyncio
import gc
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import pytest
from livekit import api
from livekit import rtc as sdk
from livekit.protocol import models, rtc

from tests.conftest import StartLiveKit
from tests.livekit_process import LiveKitProcess
from track_server.livekit.signal import (
    SignalClosed,
    SignalConnection,
    SignalRefused,
    SignalUnreachable,
    TransportFailed,
)

Found = TypeVar("Found")
EndSession = Callable[[api.LiveKitAPI, str], Awaitable[object]]


@pytest.fixture(params=["livekit", "livekit_old"])
def server(request: pytest.FixtureRequest) -> LiveKitProcess:
    """Each version of LiveKit that we serve."""
    process: LiveKitProcess = request.getfixturevalue(request.param)
    return process


def watcher_token(server: LiveKitProcess, room: str, identity: str = "watcher") -> str:
    grants = api.VideoGrants(
        room_join=True, room=room, hidden=True, can_subscribe=True, can_publish=False, can_publish_data=False
    )
    token = api.AccessToken(server.api_key, server.api_secret).with_identity(identity)
    return token.with_kind("agent").with_grants(grants).to_jwt()


def watch(server: LiveKitProcess, room: str, **options: Any) -> SignalConnection:
    return SignalConnection(server.url, watcher_token(server, room), **options)


@asynccontextmanager
async def participant(server: LiveKitProcess, room: str, identity: str) -> AsyncIterator[sdk.Room]:
    """A participant on LiveKit's own SDK."""
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken(server.api_key, server.api_secret).with_identity(identity).with_grants(grants)
    member = sdk.Room()
    await member.connect(server.url, token.to_jwt(), sdk.RoomOptions(auto_subscribe=False))
    try:
        yield member
    finally:
        await member.disconnect()


@asynccontextmanager
async def publisher(server: LiveKitProcess, room: str, identity: str) -> AsyncIterator[str]:
    """A participant that publishes a camera (black, which the SDK makes by itself); yields the track's SID."""
    source = sdk.VideoSource(320, 180)
    try:
        async with participant(server, room, identity) as member:
            track = sdk.LocalVideoTrack.create_video_track("camera", source)
            options = sdk.TrackPublishOptions(source=sdk.TrackSource.SOURCE_CAMERA, simulcast=False)
            yield (await member.local_participant.publish_track(track, options)).sid
    finally:
        await source.aclose()


def livekit_api(server: LiveKitProcess) -> api.LiveKitAPI:
    return api.LiveKitAPI(server.http_url, server.api_key, server.api_secret)


async def until(
    connection: SignalConnection, found: Callable[[rtc.SignalResponse], Found | None], within_s: float = 20.0
) -> Found:
    """Read updates until ``found`` makes something of one."""
    async with asyncio.timeout(within_s):
        async for response in connection:
            if (result := found(response)) is not None:
                return result
    raise AssertionError("updates ended without SignalClosed")


async def ended(connection: SignalConnection, within_s: float = 10.0) -> SignalClosed:
    """Read updates until the session ends."""
    with pytest.raises(SignalClosed) as closed:
        await until(connection, lambda _: None, within_s)
    return closed.value


async def subscribe_disabled(connection: SignalConnection, sid: str) -> None:
    """What a watcher does for quality: subscribe, and want no media."""
    settings = rtc.UpdateTrackSettings(track_sids=[sid], disabled=True)
    await connection.send(rtc.SignalRequest(track_setting=settings))
    await connection.send(rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=True)))


async def unsubscribe(connection: SignalConnection, sid: str) -> None:
    await connection.send(rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=[sid], subscribe=False)))


async def down_tracks(server: LiveKitProcess, room: str, sid: str) -> list[dict[str, Any]]:
    """LiveKit's own list of who receives a track."""
    found: list[dict[str, Any]] = []
    base = server.http_url if server.version == "1.11.0" else server.debug_url
    async with aiohttp.ClientSession() as http, http.get(f"{base}/debug/rooms") as answer:
        rooms = await answer.json(content_type=None)
    for each in rooms:
        if each["Name"] == room:
            for member in each["Participants"].values():
                tracks = member["UpTrackManager"].get("PublishedTracks") or {}
                found += tracks.get(sid, {}).get("DownTracks") or []
    return found


async def eventually(check: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not await check():
            await asyncio.sleep(0.05)


async def test_watcher_joins_as_active_agent_and_its_transport_comes_up(server: LiveKitProcess, room_name: str) -> None:
    async with participant(server, room_name, "alice"), watch(server, room_name) as connection:
        assert connection.join.room.name == room_name
        assert connection.join.participant.kind == models.ParticipantInfo.AGENT
        assert connection.join.server_info.version == server.version
        assert [each.identity for each in connection.join.other_participants] == ["alice"]
        await connection.wait_transport()
        assert connection.transport_connected

        # Only a participant that is not ACTIVE is removed after 60 s.
        async with livekit_api(server) as client:

            async def active() -> bool:
                identity = api.RoomParticipantIdentity(room=room_name, identity="watcher")
                return (await client.room.get_participant(identity)).state == models.ParticipantInfo.ACTIVE

            await eventually(active)
    assert not connection.transport_connected


async def test_watcher_is_neither_seen_nor_counted(server: LiveKitProcess, room_name: str) -> None:
    async with livekit_api(server) as client:
        await client.room.create_room(api.CreateRoomRequest(name=room_name, max_participants=1))
        async with watch(server, room_name) as connection:
            await connection.wait_transport()
            async with participant(server, room_name, "alice") as alice:

                def counted(response: rtc.SignalResponse) -> int | None:
                    return response.room_update.room.num_participants or None

                assert await until(connection, counted) == 1
                assert not alice.remote_participants


async def test_publishing_muting_and_leaving_are_seen_as_they_happen(server: LiveKitProcess, room_name: str) -> None:
    def alice(state: models.ParticipantInfo.State, muted: list[bool]) -> Callable[[rtc.SignalResponse], bool | None]:
        def found(response: rtc.SignalResponse) -> bool | None:
            for member in response.update.participants:
                assert member.identity == "alice"
                if member.state == state and [track.muted for track in member.tracks] == muted:
                    return True
            return None

        return found

    async with (
        watch(server, room_name) as connection,
        livekit_api(server) as client,
        publisher(server, room_name, "alice") as sid,
    ):
        await until(connection, alice(models.ParticipantInfo.ACTIVE, [False]))
        for muted in (True, False):
            await client.room.mute_published_track(
                api.MuteRoomTrackRequest(room=room_name, identity="alice", track_sid=sid, muted=muted)
            )
            await until(connection, alice(models.ParticipantInfo.ACTIVE, [muted]))
        # Not by its own goodbye, which no client waits to deliver.
        await client.room.remove_participant(api.RoomParticipantIdentity(room=room_name, identity="alice"))
        await until(connection, alice(models.ParticipantInfo.DISCONNECTED, []))


async def test_quality_of_every_publisher_arrives_and_no_media(server: LiveKitProcess, room_name: str) -> None:
    scores: dict[str, float] = {}

    async def both_scored(connection: SignalConnection, first: str) -> None:
        publishers: dict[str, str] = {}
        subscribed = {first}
        for member in connection.join.other_participants:
            publishers[member.sid] = member.identity
        async for response in connection:
            for member in response.update.participants:
                publishers[member.sid] = member.identity
                for track in member.tracks:
                    if track.sid not in subscribed:
                        subscribed.add(track.sid)
                        await subscribe_disabled(connection, track.sid)
            for update in response.connection_quality.updates:
                if update.participant_sid in publishers:
                    scores[publishers[update.participant_sid]] = update.score
            if len(scores) == 2:
                return

    async with publisher(server, room_name, "early") as early, watch(server, room_name) as connection:
        await subscribe_disabled(connection, early)
        await connection.wait_transport()
        async with publisher(server, room_name, "late") as late:
            async with asyncio.timeout(30):
                await both_scored(connection, early)
            for sid in (early, late):
                (down_track,) = await down_tracks(server, room_name, sid)
                assert down_track["SubscriberID"] == connection.join.participant.sid
                assert down_track["Muted"]
    assert scores.keys() == {"early", "late"}
    assert all(1.0 <= score <= 5.0 for score in scores.values())


async def test_negotiating_again_and_again_keeps_nothing(
    server: LiveKitProcess, room_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> Counter[str]:
        gc.collect()
        ours = ("aiortc.", "aioice.", "track_server.")
        kinds = (type(each) for each in gc.get_objects())
        return Counter(kind.__name__ for kind in kinds if str(kind.__module__).startswith(ours))

    async with publisher(server, room_name, "alice") as sid, watch(server, room_name) as connection:
        await connection.wait_transport()
        reading = asyncio.create_task(ended(connection, 60))

        async def receivers(count: int) -> None:
            async def reached() -> bool:
                return len(await down_tracks(server, room_name, sid)) == count

            await eventually(reached)

        answers = 0
        send = connection.send

        async def counted(request: rtc.SignalRequest) -> None:
            nonlocal answers
            await send(request)
            answers += request.HasField("answer")

        monkeypatch.setattr(connection, "send", counted)

        async def negotiated(before: int) -> None:
            # LiveKit waits a while before it negotiates, so what is undone at once it never negotiates.
            async def answered() -> bool:
                return answers > before

            await eventually(answered)

        async def quiet() -> None:
            # It need not negotiate that nothing is sent any more; but what it negotiates must be over.
            before = None
            while before != answers:
                before = answers
                await asyncio.sleep(0.3)

        async def again() -> None:
            before = answers
            await subscribe_disabled(connection, sid)
            await receivers(1)
            await negotiated(before)
            await unsubscribe(connection, sid)
            await receivers(0)
            await quiet()

        rounds = 10
        await again()
        before = held()
        for _ in range(rounds):
            await again()
        assert connection.transport_connected
        grown = held() - before
        assert max(grown.values(), default=0) < rounds, grown
        await connection.aclose()
        assert (await reading).reason == models.CLIENT_INITIATED


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
        started = time.monotonic()
        await connection.aclose()
        assert time.monotonic() - started < 10
    assert (closed.reason, closed.by_server, closed.can_reconnect) == (models.SIGNAL_CLOSE, False, True)


async def test_server_that_falls_silent_ends_the_session_by_its_ping_timeout(
    start_livekit: StartLiveKit, room_name: str
) -> None:
    server = await start_livekit()
    async with watch(server, room_name) as connection:
        await connection.wait_transport()
        server.pause()
        closed = await ended(connection, connection.join.ping_timeout + 2 * connection.join.ping_interval + 5)
        started = time.monotonic()
        await connection.aclose()
        assert time.monotonic() - started < 10
    assert (closed.reason, closed.by_server, closed.can_reconnect) == (models.SIGNAL_CLOSE, False, True)


async def test_blocked_udp_fails_the_transport_in_time_and_leaves_signalling(
    start_livekit: StartLiveKit, room_name: str
) -> None:
    # The server listens on 127.0.0.1 and says 127.0.0.9; it makes no checks of its own, being lite.
    server = await start_livekit({"rtc": {"node_ip": "127.0.0.9", "use_ice_lite": True, "tcp_port": 0}})
    async with watch(server, room_name, transport_timeout_s=2.0) as connection:
        async with asyncio.timeout(4):
            with pytest.raises(TransportFailed, match="ICE not connected within 2 s"):
                await connection.wait_transport()
        assert not connection.transport_connected
        async with livekit_api(server) as client:
            await client.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room_name, metadata="still here"))
        metadata = await until(connection, lambda response: response.room_update.room.metadata or None)
    assert metadata == "still here"


async def test_ice_lite_server_is_connected_to(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit({"rtc": {"use_ice_lite": True}})
    async with watch(server, room_name) as connection:
        await connection.wait_transport()
        assert connection.transport_connected


async def test_renewed_token_is_kept_for_the_next_session(server: LiveKitProcess, room_name: str) -> None:
    async with watch(server, room_name) as connection, livekit_api(server) as client:
        old = connection.token
        await client.room.update_participant(
            api.UpdateParticipantRequest(room=room_name, identity="watcher", attributes={"colour": "blue"})
        )

        async def renewed() -> bool:
            return connection.token != old

        reading = asyncio.create_task(ended(connection, 60))
        await eventually(renewed)
        await connection.aclose()
        await reading
    async with SignalConnection(server.url, connection.token) as again:
        assert again.join.participant.identity == "watcher"


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


async def test_many_connections_share_one_http_session(server: LiveKitProcess, room_name: str) -> None:
    async with aiohttp.ClientSession() as http:
        rooms = [f"{room_name}-{number}" for number in range(5)]
        connections = [watch(server, room, http=http) for room in rooms]
        try:
            await asyncio.gather(*(each.__aenter__() for each in connections))
            await asyncio.gather(*(each.wait_transport() for each in connections))
        finally:
            await asyncio.gather(*(each.aclose() for each in connections))
        assert not http.closed
