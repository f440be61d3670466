"""WatchEvents of several rooms in one stream, for services."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import participant
from tests.permission_peer import PermissionPeer, allowed, denied
from tests.refusals import refusal
from tests.servicer.test_revocation import refused_end
from tests.streams import DEADLINE_S, EventStream, watching
from tests.track_process import Client, TrackProcess
from track.permission.v1 import permission_service_pb2
from track.v1 import access_pb2, event_pb2

JOINED = event_pb2.EVENT_KIND_PARTICIPANT_JOINED
Position = event_pb2.RoomPosition


def positions(*rooms: str) -> list[Position]:
    return [Position(room=room) for room in rooms]


@contextlib.asynccontextmanager
async def three(livekit: LiveKitProcess, name: str) -> AsyncIterator[list[str]]:
    """Three rooms."""
    rooms = [f"{name}-{letter}" for letter in "abc"]
    async with contextlib.AsyncExitStack() as stack:
        for room in rooms:
            await stack.enter_async_context(existing_room(livekit, room))
        yield rooms


@pytest_asyncio.fixture
async def rooms(livekit: LiveKitProcess, room_name: str) -> AsyncIterator[list[str]]:
    async with three(livekit, room_name) as made:
        yield made


@pytest_asyncio.fixture
async def service(track: TrackProcess) -> AsyncIterator[Client]:
    async with track.client("dashboard", room_list=True) as client:
        yield client


async def snapshots(stream: EventStream, count: int) -> dict[str, event_pb2.WatchEventsResponse]:
    """The first message of each room, which must be a snapshot of it."""
    found: dict[str, event_pb2.WatchEventsResponse] = {}
    for _ in range(count):
        message = await stream.next()
        assert message.WhichOneof("payload") == "snapshot", message
        assert message.snapshot.room == message.room
        found[message.room] = message
    return found


async def joined(stream: EventStream, room: str, identity: str) -> event_pb2.WatchEventsResponse:
    """Reads on to that joining of that room."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            message = await stream.next()
            if message.room == room and message.event.participant_joined.identity == identity:
                return message


async def test_each_message_says_of_which_room_it_is_and_one_that_closes_does_not_end_the_others(
    service: Client, livekit: LiveKitProcess, rooms: list[str]
) -> None:
    async with watching(service, rooms=positions(*rooms)) as stream:
        assert set(await snapshots(stream, 3)) == set(rooms)
        async with participant(livekit, rooms[0], "alice"), participant(livekit, rooms[2], "carol"):
            async with asyncio.timeout(DEADLINE_S):
                seen: set[tuple[str, str]] = set()
                while not {(rooms[0], "alice"), (rooms[2], "carol")} <= seen:
                    message = await stream.next()
                    seen.add((message.room, message.event.participant_joined.identity))
        await delete_room(livekit, rooms[0])
        async with asyncio.timeout(DEADLINE_S):
            while not (message := await stream.next()).event.HasField("room_closed"):
                pass
        assert message.room == rooms[0]
        async with participant(livekit, rooms[1], "bob"):
            assert (await joined(stream, rooms[1], "bob")).cursor
        for room in rooms[1:]:
            await delete_room(livekit, room)
        await stream.end()
    closed = [found.room for found in stream.seen if found.event.HasField("room_closed")]
    assert sorted(closed) == rooms
    for room in rooms:
        cursors = [found.cursor for found in stream.seen if found.room == room]
        assert len(set(cursors)) == len(cursors)


async def test_each_room_goes_on_after_its_own_cursor(
    service: Client, livekit: LiveKitProcess, rooms: list[str]
) -> None:
    async with watching(service, rooms=positions(*rooms), kinds=[JOINED]) as stream:
        begun = await snapshots(stream, 3)
        async with participant(livekit, rooms[0], "alice"):
            alice = await joined(stream, rooms[0], "alice")
        async with participant(livekit, rooms[1], "bob"):
            bob = await joined(stream, rooms[1], "bob")
    again = [
        Position(room=rooms[0], cursor=alice.cursor),
        Position(room=rooms[1], cursor=begun[rooms[1]].cursor),
        Position(room=rooms[2]),
    ]
    async with watching(service, rooms=again, kinds=[JOINED]) as stream, participant(livekit, rooms[0], "ann"):
        messages: dict[str, event_pb2.WatchEventsResponse] = {}
        while set(messages) != set(rooms):
            message = await stream.next()
            messages.setdefault(message.room, message)
    assert messages[rooms[0]].event.participant_joined.identity == "ann"
    assert messages[rooms[1]] == bob
    assert messages[rooms[2]].snapshot.reason == event_pb2.SNAPSHOT_REASON_INITIAL


async def test_every_room_beats_for_itself(service: Client, rooms: list[str]) -> None:
    async with watching(service, rooms=positions(*rooms), heartbeat_interval=Duration(seconds=1)) as stream:
        begun = await snapshots(stream, 3)
        beats: dict[str, event_pb2.WatchEventsResponse] = {}
        while set(beats) != set(rooms):
            message = await stream.next()
            assert message.WhichOneof("payload") == "heartbeat"
            beats[message.room] = message
    assert {room: beat.cursor for room, beat in beats.items()} == {room: begun[room].cursor for room in rooms}


async def test_a_single_room_may_be_watched_the_same_way(service: Client, rooms: list[str]) -> None:
    async with watching(service, rooms=positions(rooms[0])) as stream:
        assert set(await snapshots(stream, 1)) == {rooms[0]}


async def test_several_rooms_are_for_services_alone(track: TrackProcess, rooms: list[str]) -> None:
    for grants in ({"room_admin": True}, {"room_join": True}):
        async with (
            track.client("alice", room=rooms[0], **grants) as client,
            watching(client, rooms=positions(rooms[0])) as stream,
        ):
            refused = await refusal(stream.next())
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_room_that_is_not_there_is_named_before_anything_is_sent(service: Client, rooms: list[str]) -> None:
    async with watching(service, rooms=positions(rooms[0], "nowhere", rooms[1])) as stream:
        refused = await refusal(stream.next())
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "ROOM_NOT_FOUND")
    assert refused.fields == ("rooms[1].room",)


async def test_a_cursor_that_is_none_is_named_with_its_place(service: Client, rooms: list[str]) -> None:
    asked = [Position(room=rooms[0]), Position(room=rooms[1], cursor="x")]
    async with watching(service, rooms=asked) as stream:
        refused = await refusal(stream.next())
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR")
    assert refused.fields == ("rooms[1].cursor",)


@pytest.mark.parametrize(
    "fields",
    [
        {"room": "a", "rooms": positions("b")},
        {},
        {"rooms": positions("a", "b", "a")},
        {"rooms": positions("a"), "cursor": "0123456789ab-1"},
        {"rooms": positions("")},
        {"rooms": positions(*(str(number) for number in range(101)))},
    ],
)
async def test_what_does_not_fit_together_is_refused(service: Client, fields: dict[str, object]) -> None:
    async with watching(service, **fields) as stream:
        refused = await refusal(stream.next())
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_streams_of_several_rooms_count_for_each_of_them(
    start_track: StartTrack, livekit: LiveKitProcess, rooms: list[str]
) -> None:
    track = await start_track(livekit, {"TRACK_MAX_STREAMS_PER_ROOM": "1", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        track.client("dashboard", room_list=True) as service,
        watching(service, rooms=positions(*rooms[:2])) as stream,
    ):
        await snapshots(stream, 2)
        async with watching(service, room=rooms[1]) as second:
            refused = await refusal(second.next())
        assert refused.quota == ("max_streams_per_room", 1, f"room {rooms[1]}")
        async with watching(service, rooms=positions(rooms[2], rooms[0])) as second:
            refused = await refusal(second.next())
        assert refused.quota == ("max_streams_per_room", 1, f"room {rooms[0]}")
        async with watching(service, room=rooms[2]) as third:
            await third.snapshot()


async def test_the_permission_service_is_asked_about_each_room_and_one_that_it_takes_away_ends_the_stream(
    start_track: StartTrack, livekit: LiveKitProcess, rooms: list[str], peer: PermissionPeer
) -> None:
    forbidden = {rooms[2]}
    peer.decide = lambda question: denied("not that one") if question.room in forbidden else allowed()
    settings = {"TRACK_AUTH_MODE": "service", "TRACK_PERMISSION_ADDRESS": peer.address, "TRACK_MEDIA_WORKERS": "0"}
    track = await start_track(livekit, settings)
    async with track.client("dashboard", room_list=True) as service:
        async with watching(service, rooms=positions(*rooms)) as stream:
            refused = await refusal(stream.next())
        assert (refused.code, refused.message) == (grpc.StatusCode.PERMISSION_DENIED, "not that one")
        async with watching(service, rooms=positions(*rooms[:2])) as stream:
            await snapshots(stream, 2)
            asked = {question.room for question in peer.questions}
            assert asked >= set(rooms)
            reads = {question.permission for question in peer.questions if question.room in rooms}
            assert reads == {access_pb2.PERMISSION_READ_TRACKS}
            forbidden.add(rooms[1])
            peer.change(permission_service_pb2.PermissionChange(room=rooms[1]))
            refused = await refused_end(stream)
            assert (refused.code, refused.message) == (grpc.StatusCode.PERMISSION_DENIED, "not that one")
