"""The watcher's connection against real servers: joining, staying and observing."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable

import aiohttp
import pytest
from livekit import api
from livekit.protocol import models, rtc

from tests.conftest import StartLiveKit
from tests.livekit.watching import (
    down_tracks,
    ended,
    eventually,
    livekit_api,
    participant,
    publisher,
    subscribe_disabled,
    unsubscribe,
    until,
    watch,
)
from tests.livekit_process import LiveKitProcess
from track_server.livekit.signal import SignalConnection, TransportFailed


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
            async with asyncio.timeout(45):
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


async def test_blocked_udp_fails_the_transport_in_time_and_leaves_signalling(
    start_livekit: StartLiveKit, room_name: str
) -> None:
    # The server listens on 127.0.0.1 and says 127.0.0.9; it makes no checks of its own, being lite.
    server = await start_livekit({"rtc": {"node_ip": "127.0.0.9", "use_ice_lite": True, "tcp_port": 0}})
    async with watch(server, room_name, transport_timeout_s=2.0) as connection:
        async with asyncio.timeout(45):
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
