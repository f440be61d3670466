"""The live room follows a real LiveKit server."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from livekit import api, rtc

from tests.conftest import StartLiveKit
from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from track.v1 import event_pb2, track_pb2, tracks_pb2
from track_server.errors import LiveKitUnavailable, RoomNotFound
from track_server.livekit.api import LiveKitApi
from track_server.livekit.signal import SignalConnection, SignalRefused
from track_server.livekit.tokens import TokenMint
from track_server.rooms.log import Message
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.rooms.stream import follow

# Longer than LiveKit waits for a client whose goodbye was lost.
DEADLINE_S = 45.0


@contextlib.asynccontextmanager
async def rooms_of(server: LiveKitProcess, **options: Any) -> AsyncIterator[Rooms]:
    tokens = TokenMint(server.api_key, server.api_secret)
    settings = {"linger_s": 0.0, "max_events": 1000, "transport_timeout_s": 10.0} | options
    async with LiveKitApi(server.http_url, tokens) as livekit, Rooms(server.url, livekit, tokens, **settings) as rooms:
        yield rooms


class EventReader:
    """Reads an event stream in the background."""

    def __init__(self, stream: AsyncGenerator[Message]) -> None:
        self.messages: list[event_pb2.WatchEventsResponse] = []
        self._stream = stream
        self._came = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._stream:
            self.messages.append(event_pb2.WatchEventsResponse.FromString(message.encoded()))
            self._came.set()

    async def until(self, condition: Callable[[event_pb2.WatchEventsResponse], bool]) -> event_pb2.WatchEventsResponse:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for message in self.messages:
                    if condition(message):
                        return message
                self._came.clear()
                await self._came.wait()

    async def change(self, name: str) -> event_pb2.RoomEvent:
        return (await self.until(lambda message: message.event.WhichOneof("change") == name)).event

    async def aclose(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture(params=["livekit", "livekit_old"])
def server(request: pytest.FixtureRequest) -> LiveKitProcess:
    found: LiveKitProcess = request.getfixturevalue(request.param)
    return found


async def test_a_watcher_that_comes_too_late_does_not_make_the_room_again(
    server: LiveKitProcess, room_name: str
) -> None:
    # The room was there a moment ago, so it is not asked for again before joining.
    tokens = TokenMint(server.api_key, server.api_secret)
    with pytest.raises(SignalRefused):
        async with SignalConnection(server.url, tokens.watcher(room_name, "watcher"), transport_timeout_s=10):
            pass
    async with LiveKitApi(server.http_url, tokens) as livekit:
        assert await livekit.find_rooms([room_name]) == {}


async def test_every_change_of_a_room_is_an_event_in_order(server: LiveKitProcess, room_name: str) -> None:
    grants = {"can_update_own_metadata": True}
    async with (
        rooms_of(server) as rooms,
        participant(server, room_name, "alice", **grants) as alice,
    ):
        reader = EventReader(follow(rooms, room_name))
        first = await reader.until(lambda message: message.HasField("snapshot"))
        assert [found.identity for found in first.snapshot.participants] == ["alice"]
        assert first.snapshot.freshness.source == track_pb2.FRESHNESS_SOURCE_WATCHED
        publication = await microphone(alice)
        published = (await reader.change("track_published")).track_published
        assert published.sid == publication.sid
        assert published.source == track_pb2.TRACK_SOURCE_MICROPHONE
        assert published.type == track_pb2.TRACK_TYPE_AUDIO
        assert published.participant_identity == "alice"
        assert isinstance(publication.track, rtc.LocalAudioTrack)
        publication.track.mute()
        assert (await reader.change("track_muted")).track_muted.muted
        publication.track.unmute()
        assert not (await reader.change("track_unmuted")).track_unmuted.muted
        await alice.local_participant.set_attributes({"role": "presenter"})
        updated = await reader.until(lambda m: m.event.participant_updated.attributes.get("role") == "presenter")
        assert updated.event.participant_updated.identity == "alice"
        data = await alice.local_participant.publish_data_track(name="telemetry")
        appeared = await reader.until(lambda m: m.event.track_published.sid == data.info.sid)
        assert appeared.event.track_published.type == track_pb2.TRACK_TYPE_DATA
        await data.unpublish()
        assert (await reader.change("track_unpublished")).track_unpublished.sid == data.info.sid
        async with participant(server, room_name, "bob"):
            assert (await reader.change("participant_joined")).participant_joined.identity == "bob"
        assert (await reader.change("participant_left")).participant_left.identity == "bob"
        read = (rooms.seal.read(room_name, message.cursor) for message in reader.messages)
        sequences = [cursor for cursor in read if cursor is not None]
        assert len(sequences) == len(reader.messages)
        assert sequences == sorted(set(sequences)), "a cursor came twice or out of order"
        await reader.aclose()


async def test_a_stream_resumes_after_its_cursor_without_loss(livekit: LiveKitProcess, room_name: str) -> None:
    async with (
        rooms_of(livekit) as rooms,
        participant(livekit, room_name, "alice") as alice,
        rooms.watch(room_name) as live,
    ):
        reader = EventReader(follow(rooms, room_name))
        first = await reader.until(lambda message: True)
        await reader.aclose()
        sid = (await microphone(alice)).sid
        assert await live.until(lambda: sid in live.model.tracks, DEADLINE_S)
        resumed = EventReader(follow(rooms, room_name, first.cursor))
        assert (await resumed.change("track_published")).track_published.sid == sid
        assert not any(message.HasField("snapshot") for message in resumed.messages)
        await resumed.aclose()
        unknown = EventReader(follow(rooms, room_name, "0" * 12 + "-3"))
        again = await unknown.until(lambda message: True)
        assert again.snapshot.reason == event_pb2.SNAPSHOT_REASON_CURSOR_UNKNOWN
        await unknown.aclose()


async def test_the_sfu_rates_every_publisher(server: LiveKitProcess, room_name: str) -> None:
    async with (
        rooms_of(server) as rooms,
        participant(server, room_name, "alice") as alice,
        participant(server, room_name, "bob") as bob,
        rooms.watch(room_name) as live,
    ):
        await microphone(alice)
        await microphone(bob)
        assert await live.until(lambda: {"alice", "bob"} <= live.model.qualities.keys(), 30.0)


async def test_watching_takes_no_place_and_is_not_seen(livekit: LiveKitProcess, room_name: str) -> None:
    async with (
        rooms_of(livekit) as rooms,
        participant(livekit, room_name, "alice") as alice,
        rooms.watch(room_name) as live,
        participant(livekit, room_name, "bob"),
    ):
        assert await live.until(lambda: "bob" in live.model.participants, DEADLINE_S)
        assert set(live.model.participants) == {"alice", "bob"}
        assert set(alice.remote_participants) <= {"bob"}


async def test_an_unknown_room_is_not_found_and_not_created(livekit: LiveKitProcess, room_name: str) -> None:
    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    async with rooms_of(livekit) as rooms, LiveKitApi(livekit.http_url, tokens) as client:
        with pytest.raises(RoomNotFound):
            async with rooms.watch(room_name):
                pass
        assert await client.find_rooms([room_name]) == {}
        assert len(rooms) == 0


async def test_a_deleted_room_closes_the_stream(livekit: LiveKitProcess, room_name: str) -> None:
    async with rooms_of(livekit) as rooms, participant(livekit, room_name, "alice"):
        reader = EventReader(follow(rooms, room_name))
        await reader.until(lambda message: True)
        async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as client:
            await client.room.delete_room(api.DeleteRoomRequest(room=room_name))
        assert (await reader.change("room_closed")).room_closed.reason == "ROOM_DELETED"
        await asyncio.wait_for(reader.task, DEADLINE_S)
        assert rooms.find(room_name) is None


async def test_a_restart_of_livekit_is_told_as_a_gap(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit()
    async with rooms_of(server) as rooms, participant(server, room_name, "alice"):
        reader = EventReader(follow(rooms, room_name))
        await reader.until(lambda message: True)
        await server.kill()
        lost = await reader.change("freshness_changed")
        assert lost.freshness_changed.source == track_pb2.FRESHNESS_SOURCE_DISCONNECTED
        await server.start()
        async with participant(server, room_name, "carol"):
            again = await reader.until(lambda m: m.snapshot.reason == event_pb2.SNAPSHOT_REASON_WATCHER_AWAY)
            # The watcher may be back before her.
            if "carol" not in {found.identity for found in again.snapshot.participants}:
                await reader.until(lambda m: m.event.participant_joined.identity == "carol")
        await reader.aclose()


async def test_who_reads_too_slowly_is_told_so(livekit: LiveKitProcess, room_name: str) -> None:
    async with (
        rooms_of(livekit, max_events=3) as rooms,
        participant(livekit, room_name, "alice", can_update_own_metadata=True) as alice,
        rooms.watch(room_name) as live,
        contextlib.aclosing(follow(rooms, room_name)) as stream,
    ):
        await anext(stream)
        for number in range(6):
            await alice.local_participant.set_attributes({"turn": str(number)})
        assert await live.until(lambda: live.model.participants["alice"].attributes["turn"] == "5", DEADLINE_S)
        slow = (await anext(stream)).snapshot
        assert slow is not None
        assert slow.reason == event_pb2.SNAPSHOT_REASON_READER_SLOW
        assert slow.participants[0].attributes["turn"] == "5"
        await alice.local_participant.set_attributes({"turn": "6"})
        event = (await anext(stream)).event
        assert event is not None
        assert event.participant_updated.attributes["turn"] == "6"


async def test_without_a_transport_the_room_is_polled(start_livekit: StartLiveKit, room_name: str) -> None:
    # Media are advertised where nothing listens, so no peer connection can come up; signalling works.
    server = await start_livekit({"rtc": {"node_ip": "127.0.0.9", "tcp_port": 0, "use_ice_lite": True}})
    tokens = TokenMint(server.api_key, server.api_secret)
    async with rooms_of(server, transport_timeout_s=1.0) as rooms, LiveKitApi(server.http_url, tokens) as client:
        await client.create_room(room_name)
        async with rooms.watch(room_name) as live:
            polled = track_pb2.FRESHNESS_SOURCE_POLLED
            reader = EventReader(follow(rooms, room_name))
            assert await live.until(lambda: live.freshness().source == polled, DEADLINE_S)
            # What happened between the end of the connection and the first look is not known.
            gap = await reader.until(lambda message: message.snapshot.freshness.source == polled)
            assert gap.snapshot.reason in (
                event_pb2.SNAPSHOT_REASON_WATCHER_AWAY,
                event_pb2.SNAPSHOT_REASON_INITIAL,
            )
            await reader.aclose()
            await client.create_room(room_name)
            assert live.current


async def test_livekit_down_is_unavailable(start_livekit: StartLiveKit, room_name: str) -> None:
    server = await start_livekit()
    await server.kill()
    async with rooms_of(server) as rooms:
        with pytest.raises(LiveKitUnavailable):
            async with rooms.watch(room_name):
                pass


async def test_a_listed_page_is_of_the_room_as_it_is_now(livekit: LiveKitProcess, room_name: str) -> None:
    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    request = tracks_pb2.ListTracksRequest(room=room_name)
    async with (
        rooms_of(livekit) as rooms,
        LiveKitApi(livekit.http_url, tokens) as client,
        participant(livekit, room_name, "alice") as alice,
        rooms.watch(room_name) as live,
    ):
        reader = Reader(rooms, client)

        async def muted() -> list[bool]:
            page = tracks_pb2.ListTracksResponse.FromString(await reader.list_tracks(request))
            assert page.freshness.source == track_pb2.FRESHNESS_SOURCE_WATCHED
            return [track.muted for track in page.tracks]

        assert await muted() == []
        publication = await microphone(alice)
        assert await live.until(lambda: publication.sid in live.model.tracks, DEADLINE_S)
        assert await muted() == [False]
        assert isinstance(publication.track, rtc.LocalAudioTrack)
        publication.track.mute()
        assert await live.until(lambda: live.model.tracks[publication.sid].muted, DEADLINE_S)
        assert await muted() == [True]
