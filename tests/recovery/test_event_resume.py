"""A stream of events goes on where it was, whatever ended in between: the watch, the server, LiveKit, the room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room, participants
from tests.participants import Joined, participant
from tests.refusals import first, refusal
from tests.streams import DEADLINE_S, EventStream, events
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2

NO_MEDIA = {"TRACK_MEDIA_WORKERS": "0"}
AWAY = event_pb2.SNAPSHOT_REASON_WATCHER_AWAY


@contextlib.asynccontextmanager
async def admin(track: TrackProcess, room: str) -> AsyncIterator[Client]:
    """A caller of the server as it is now: after a restart it is somewhere else."""
    async with track.client("admin", room_admin=True, room=room) as client:
        yield client


async def turn(joined: Joined, number: int) -> None:
    """Has the participant change."""
    await joined.local_participant.set_attributes({"turn": str(number)})


async def turned(stream: EventStream, number: int) -> None:
    """Reads on to that change."""
    await stream.until("participant_updated", lambda found: found.attributes["turn"] == str(number))


async def following(stream: EventStream, expected: list[event_pb2.WatchEventsResponse]) -> None:
    """The next messages are those, each once and in order."""
    for message in expected:
        assert await stream.next() == message


def visitor(livekit: LiveKitProcess, room: str) -> contextlib.AbstractAsyncContextManager[Joined]:
    return participant(livekit, room, "alice", auto_subscribe=False, can_update_own_metadata=True)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
async def test_events_of_before_a_restart_of_the_server_come_first_and_then_the_room_anew(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str, killed: bool
) -> None:
    track = await start_track(livekit, NO_MEDIA)
    async with visitor(livekit, room_name) as alice:
        async with admin(track, room_name) as client, events(client, room_name) as stream:
            await stream.snapshot()
            for number in range(3):
                await turn(alice, number)
                await turned(stream, number)
            # What another stream tells is stored first: from then on a crash loses nothing of before.
            async with events(client, room_name) as other:
                await other.snapshot()
            seen = list(stream.seen)
        await (track.kill() if killed else track.stop())
        await turn(alice, 3)
        await track.start()
        async with admin(track, room_name) as client:
            for place in (0, len(seen) - 2, len(seen) - 1):
                async with events(client, room_name, seen[place].cursor) as resumed:
                    await following(resumed, seen[place + 1 :])
                    again = await resumed.snapshot()
                    assert again.reason == AWAY
                    assert [found.attributes["turn"] for found in again.participants] == ["3"]
                    await turn(alice, 4 + place)
                    await turned(resumed, 4 + place)


async def test_what_was_told_and_lost_in_a_crash_is_said_to_be_missing(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    track = await start_track(livekit, NO_MEDIA)
    async with visitor(livekit, room_name) as alice:
        async with admin(track, room_name) as client, events(client, room_name) as stream:
            await stream.snapshot()
            for number in range(20):
                await turn(alice, number)
            await turned(stream, 19)
            # In the moment in which the last ones were told.
            await track.kill()
            seen = list(stream.seen)
        await track.start()
        async with admin(track, room_name) as client:
            for message in (seen[0], seen[-1]):
                async with events(client, room_name, message.cursor) as resumed:
                    told = [await resumed.next()]
                    while told[-1].WhichOneof("payload") == "event":
                        told.append(await resumed.next())
                    place = seen.index(message) + 1
                    assert told[:-1] == seen[place : place + len(told) - 1]
                    assert told[-1].snapshot.reason == AWAY
                    assert told[-1].snapshot.participants[0].attributes["turn"] == "19"


async def test_a_watch_that_was_let_go_and_begun_again_is_a_gap_after_what_was_seen(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    track = await start_track(livekit, {**NO_MEDIA, "TRACK_ROOM_LINGER_SECONDS": "0"})
    async with visitor(livekit, room_name) as alice, admin(track, room_name) as client:
        streams: list[EventStream] = []
        for number in range(3):
            async with events(client, room_name, streams[-1].seen[-1].cursor if streams else "") as stream:
                reason = (await stream.snapshot()).reason
                assert reason == (AWAY if streams else event_pb2.SNAPSHOT_REASON_INITIAL)
                await turn(alice, number)
                await turned(stream, number)
            streams.append(stream)
            async with asyncio.timeout(DEADLINE_S):
                while await participants(livekit, room_name, hidden=True):
                    await asyncio.sleep(0.05)
        whole = [message for stream in streams for message in stream.seen]
        async with events(client, room_name, whole[0].cursor) as resumed:
            await following(resumed, whole[1:])
            assert (await resumed.snapshot()).reason == AWAY


async def test_a_stream_of_two_outages_of_livekit_can_be_resumed_in_each(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, NO_MEDIA)
    async with admin(track, room_name) as client, contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(existing_room(livekit, room_name))
        stream = await stack.enter_async_context(events(client, room_name))
        await stream.snapshot()
        for number in range(2):
            await livekit.kill()
            lost = await stream.until("freshness_changed")
            assert lost.source != event_pb2.RoomSnapshot().freshness.source
            await livekit.start()
            await stack.enter_async_context(existing_room(livekit, room_name))
            assert (await stream.snapshot()).reason == AWAY
            async with visitor(livekit, room_name) as alice:
                await stream.until("participant_joined")
                await turn(alice, number)
                await turned(stream, number)
            await stream.until("participant_left")
        for place in range(len(stream.seen)):
            async with events(client, room_name, stream.seen[place].cursor) as resumed:
                await following(resumed, stream.seen[place + 1 :])


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "not-watched"])
async def test_the_end_of_a_room_is_told_to_who_comes_later(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str, watched: bool
) -> None:
    track = await start_track(livekit, NO_MEDIA)
    async with existing_room(livekit, room_name), visitor(livekit, room_name) as alice:
        async with admin(track, room_name) as client, events(client, room_name) as stream:
            await stream.snapshot()
            await turn(alice, 0)
            await turned(stream, 0)
            if watched:
                await delete_room(livekit, room_name)
                await stream.end()
            else:
                async with events(client, room_name) as other:
                    await other.snapshot()
        await track.stop()
        await delete_room(livekit, room_name)
        await track.start()
        async with admin(track, room_name) as client:
            ends = []
            for _ in range(2):
                async with events(client, room_name, stream.seen[0].cursor) as resumed:
                    await resumed.end()
                ends.append(resumed.seen)
            assert ends[0] == ends[1]
            assert ends[0][: len(stream.seen) - 1] == stream.seen[1:]
            assert ends[0][-1].event.room_closed.reason
            if not watched:
                assert ends[0][-2].snapshot.reason == AWAY
                assert not ends[0][-2].snapshot.participants
            async with events(client, room_name, ends[0][-1].cursor) as nothing:
                await nothing.end()
            assert nothing.seen == []
            refused = await refusal(first(client.WatchEvents(event_pb2.WatchEventsRequest(room=room_name))))
            assert refused.code == grpc.StatusCode.NOT_FOUND
            # Made again, it is another life of the same room.
            async with existing_room(livekit, room_name):
                async with events(client, room_name, ends[0][-1].cursor) as another:
                    assert (await another.snapshot()).reason == AWAY
                async with events(client, room_name, stream.seen[0].cursor) as resumed:
                    await following(resumed, ends[0])
                    with pytest.raises(StopAsyncIteration):
                        await resumed.next()


async def test_a_cursor_is_of_its_room_and_of_what_was_told_alone(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    other = f"{room_name}-other"
    track = await start_track(livekit, {**NO_MEDIA, "TRACK_MAX_EVENTS_PER_ROOM": "3"})
    async with (
        existing_room(livekit, other),
        visitor(livekit, room_name) as alice,
        admin(track, room_name) as client,
        admin(track, other) as others,
    ):
        async with events(client, room_name) as stream:
            await stream.snapshot()
            for number in range(4):
                await turn(alice, number)
                await turned(stream, number)
            cursors = [message.cursor for message in stream.seen]
            epoch, _, sequence = cursors[-1].rpartition("-")
            for unknown in (f"{epoch}-{int(sequence) + 1}", f"{epoch}-{10**18 - 1}", f"{epoch[::-1]}-1"):
                async with events(client, room_name, unknown) as forged:
                    assert (await forged.snapshot()).reason == event_pb2.SNAPSHOT_REASON_CURSOR_UNKNOWN
            async with events(others, other, cursors[-1]) as foreign:
                snapshot = await foreign.snapshot()
                assert (snapshot.reason, snapshot.room) == (event_pb2.SNAPSHOT_REASON_CURSOR_UNKNOWN, other)
                assert not snapshot.participants
            async with events(client, room_name, cursors[0]) as late:
                assert (await late.snapshot()).reason == event_pb2.SNAPSHOT_REASON_CURSOR_EXPIRED
        for refused in (cursors[0] + "0" * 20, "-1", "x"):
            request = event_pb2.WatchEventsRequest(room=room_name, cursor=refused)
            assert (await refusal(first(client.WatchEvents(request)))).code == grpc.StatusCode.INVALID_ARGUMENT
        await track.stop()
        await track.start()
    async with visitor(livekit, room_name), admin(track, room_name) as client:
        async with events(client, room_name, cursors[0]) as late:
            assert (await late.snapshot()).reason == event_pb2.SNAPSHOT_REASON_CURSOR_EXPIRED
        async with events(client, room_name, f"{epoch}-{10**18 - 1}") as forged:
            assert (await forged.snapshot()).reason == event_pb2.SNAPSHOT_REASON_CURSOR_UNKNOWN
