"""WatchEvents with kinds, a filter and heartbeats: what is shown, and that cursors go on from what was passed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room
from tests.participants import Joined, microphone, participant
from tests.refusals import first, refusal
from tests.streams import DEADLINE_S, EventStream, watching
from tests.track_process import Client
from track.v1 import event_pb2, track_pb2

PUBLISHED = event_pb2.EVENT_KIND_TRACK_PUBLISHED
LEFT = event_pb2.EVENT_KIND_PARTICIPANT_LEFT
UPDATED = event_pb2.EVENT_KIND_PARTICIPANT_UPDATED
SECOND = Duration(seconds=1)
EVEN = 'event.participant_updated.attributes["count"].endsWith("0")'
"""Of every tenth."""


@contextlib.asynccontextmanager
async def alice(livekit: LiveKitProcess, room: str) -> AsyncIterator[Joined]:
    """Joins, and may say what it likes of itself."""
    async with participant(livekit, room, "alice", can_update_own_metadata=True) as joined:
        yield joined


async def count(joined: Joined, stream: EventStream, upto: int) -> None:
    """Counts in its attributes; each number is an event, which ``stream`` sees before the next."""
    # LiveKit tells of who publishes nothing a few seconds late, as it is then.
    await stream.until("participant_joined")
    for number in range(1, upto + 1):
        await joined.local_participant.set_attributes({"count": str(number)})
        await shown(stream, number)


def counted(stream: EventStream) -> list[str]:
    """The numbers that it saw."""
    events = [message.event for message in stream.seen]
    return [
        event.participant_updated.attributes["count"]
        for event in events
        if event.HasField("participant_updated") and "count" in event.participant_updated.attributes
    ]


async def shown(stream: EventStream, number: int) -> None:
    """Reads on to that number."""
    await stream.until("participant_updated", lambda found: found.attributes["count"] == str(number))


async def test_only_the_kinds_that_were_asked_for_are_shown_and_the_snapshot_is_whole(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "bob") as bob:
        old = await microphone(bob)
        await bob.announced(old.sid)
        async with watching(admin, room=room, kinds=[PUBLISHED, LEFT]) as stream:
            snapshot = await stream.snapshot()
            assert [found.identity for found in snapshot.participants] == ["bob"]
            assert [found.sid for found in snapshot.tracks] == [old.sid]
            async with alice(livekit, room) as joined:
                mic = await microphone(joined)
                assert (await stream.until("track_published")).sid == mic.sid
            assert (await stream.until("participant_left")).identity == "alice"
    changes = [message.event.WhichOneof("change") for message in stream.seen[1:]]
    assert changes == ["track_published", "participant_left"]


async def test_a_filter_sees_the_event_and_its_room(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    audio = f'event.track_published.type == TrackType.TRACK_TYPE_AUDIO && room == "{room}"'
    other = 'has(event.participant_joined) && room != "' + room + '"'
    left = "has(event.participant_left)"
    async with watching(admin, room=room, filter=f"{audio} || {other} || {left}") as stream:
        await stream.snapshot()
        async with alice(livekit, room) as joined:
            await joined.local_participant.publish_data_track(name="telemetry")
            mic = await microphone(joined)
            assert (await stream.until("track_published")).sid == mic.sid
        await stream.until("participant_left")
    assert [message.event.WhichOneof("change") for message in stream.seen[1:]] == [
        "track_published",
        "participant_left",
    ]


async def test_a_filtered_stream_resumes_after_any_cursor_without_gap_or_double(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    selection = {"room": room, "kinds": [UPDATED, LEFT], "filter": f"{EVEN} || has(event.participant_left)"}
    async with watching(admin, room=room) as every, watching(admin, **selection) as stream:
        await asyncio.gather(every.snapshot(), stream.snapshot())
        async with alice(livekit, room) as joined:
            await count(joined, every, 25)
            await shown(stream, 20)
        await asyncio.gather(every.until("participant_left"), stream.until("participant_left"))
        assert counted(stream) == ["10", "20"]
        # After those that were shown, and after all those that were not.
        numbers = counted(every)
        assert numbers == [str(number) for number in range(1, 26)]
        cursors = [message.cursor for message in every.seen]
        rests = [
            [found for found in stream.seen[1:] if cursors.index(found.cursor) > place]
            for place in range(len(cursors) - 1)
        ]
        for cursor, rest in list(zip(cursors, rests, strict=False))[::3]:
            async with watching(admin, **selection, cursor=cursor) as resumed:
                assert [await resumed.next() for _ in rest] == rest


async def test_heartbeats_move_the_cursor_past_what_is_not_shown(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    selection = {"room": room, "filter": EVEN}
    async with (
        watching(admin, room=room) as every,
        watching(admin, **selection, heartbeat_interval=SECOND) as stream,
        alice(livekit, room) as joined,
    ):
        await asyncio.gather(every.snapshot(), stream.snapshot())
        await count(joined, every, 9)
        passed = every.seen[-1].cursor
        async with asyncio.timeout(DEADLINE_S):
            while (beat := await stream.next()).cursor != passed:
                assert beat.WhichOneof("payload") == "heartbeat"
        assert beat.heartbeat.freshness.source == track_pb2.FRESHNESS_SOURCE_WATCHED
        assert beat.heartbeat.freshness.HasField("as_of_time")
        assert beat.room == ""
        await joined.local_participant.set_attributes({"count": "10"})
        await shown(stream, 10)
        # The one that goes on from the heartbeat is shown the same, and nothing of what the heartbeat had passed.
        async with watching(admin, **selection, cursor=beat.cursor) as resumed:
            assert await resumed.next() == stream.seen[-1]
        async with watching(admin, room=room, cursor=beat.cursor) as resumed:
            message = await resumed.next()
            assert message.event.participant_updated.attributes["count"] == "10"
        assert counted(stream) == ["10"]


async def test_a_resumed_stream_that_has_nothing_to_tell_beats_with_its_own_cursor(admin: Client, room: str) -> None:
    async with watching(admin, room=room) as stream:
        await stream.snapshot()
        cursor = stream.seen[0].cursor
    async with watching(admin, room=room, cursor=cursor, heartbeat_interval=SECOND) as resumed:
        message = await resumed.next()
    assert (message.WhichOneof("payload"), message.cursor) == ("heartbeat", cursor)


@pytest.mark.parametrize("heartbeat", [None, SECOND])
async def test_a_closed_room_ends_the_stream_with_ok_though_its_end_is_not_shown(
    admin: Client, livekit: LiveKitProcess, room: str, heartbeat: Duration | None
) -> None:
    async with watching(admin, room=room, kinds=[PUBLISHED], heartbeat_interval=heartbeat) as stream:
        await stream.snapshot()
        await delete_room(livekit, room)
        await stream.end()
    payloads = {message.WhichOneof("payload") for message in stream.seen}
    assert payloads <= {"snapshot", "heartbeat"}


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("event.nothing == 1", ("1", "6")),
        ('event.track_published.sid == "x" &&\n  track.sid == "x"', ("2", "8")),
        ("room", ("1", "1")),
        ('room.matches("(x{1,31}){1,31}")', None),
    ],
)
async def test_a_filter_that_cannot_be_used_is_refused_at_once_with_its_place(
    admin: Client, room_name: str, expression: str, place: tuple[str, str] | None
) -> None:
    # Before the room is looked at, which does not exist.
    request = event_pb2.WatchEventsRequest(room=room_name, filter=expression)
    refused = await refusal(first(admin.WatchEvents(request)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_EXPRESSION")
    assert refused.fields == ("filter",)
    if place is not None:
        assert (refused.metadata["line"], refused.metadata["column"]) == place


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kinds": [0]}, "kinds[0]"),
        ({"kinds": [PUBLISHED, PUBLISHED]}, "kinds"),
        ({"kinds": [999]}, "kinds[0]"),
        ({"heartbeat_interval": Duration(nanos=1)}, "heartbeat_interval"),
        ({"heartbeat_interval": Duration(seconds=301)}, "heartbeat_interval"),
        ({"filter": "x" * 4097}, "filter"),
    ],
)
async def test_what_is_out_of_range_is_refused(
    admin: Client, room_name: str, fields: dict[str, object], field: str
) -> None:
    async with watching(admin, room=room_name, **fields) as stream:
        refused = await refusal(stream.next())
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))
