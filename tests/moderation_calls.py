"""Calls of the moderation's tests, shortly said."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf import timestamp_pb2
from livekit import rtc

from tests.publications import DEADLINE_S
from tests.streams import EventStream
from tests.track_process import Client
from track.v1 import event_pb2, moderation_pb2, tracks_pb2
from track.v1.moderation_pb2 import ModerationBlock

State = moderation_pb2.ModerationBlockState
SET = moderation_pb2.MODERATION_BLOCK_STATE_SET
ENFORCED = moderation_pb2.MODERATION_BLOCK_STATE_ENFORCED
LIFTED = moderation_pb2.MODERATION_BLOCK_STATE_LIFTED
EXPIRED = moderation_pb2.MODERATION_BLOCK_STATE_EXPIRED


def ref(sid: str, identity: str = "") -> tracks_pb2.TrackRef:
    """A track."""
    return tracks_pb2.TrackRef(track_sid=sid, participant_identity=identity)


def soon(seconds: float) -> timestamp_pb2.Timestamp:
    """So many seconds from now."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(round((time.time() + seconds) * 1e6))
    return stamp


async def mute(client: Client, room: str, *sids: str, **more: Any) -> list[tracks_pb2.MuteResult]:
    """MuteTracks."""
    request = tracks_pb2.MuteTracksRequest(room=room, tracks=[ref(sid) for sid in sids], **more)
    return list((await client.MuteTracks(request, timeout=DEADLINE_S)).results)


async def block(client: Client, room: str, *sids: str, **more: Any) -> list[ModerationBlock]:
    """MuteTracks with `block`, which must succeed."""
    results = await mute(client, room, *sids, block=True, **more)
    assert all(result.muted and not result.HasField("problem") for result in results), results
    return [result.block for result in results]


async def unmute(client: Client, room: str, *sids: str) -> list[tracks_pb2.MuteResult]:
    """UnmuteTracks."""
    request = tracks_pb2.UnmuteTracksRequest(room=room, tracks=[ref(sid) for sid in sids])
    return list((await client.UnmuteTracks(request, timeout=DEADLINE_S)).results)


async def blocks(client: Client, room: str, identity: str = "") -> list[ModerationBlock]:
    """ListModerationBlocks."""
    request = moderation_pb2.ListModerationBlocksRequest(room=room, participant_identity=identity, page_size=1000)
    return list((await client.ListModerationBlocks(request, timeout=DEADLINE_S)).blocks)


async def lift(
    client: Client, room: str, *block_ids: str, **more: Any
) -> list[moderation_pb2.LiftModerationBlockResult]:
    """LiftModerationBlocks."""
    request = moderation_pb2.LiftModerationBlocksRequest(room=room, block_ids=block_ids, **more)
    return list((await client.LiftModerationBlocks(request, timeout=DEADLINE_S)).results)


async def come_true(condition: Callable[[], Any], seconds: float = DEADLINE_S) -> Any:
    """Waits for it; ``condition`` may be a coroutine function. Returns what it gave."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found := await found if isinstance(found, Awaitable) else found:
                return found
            await asyncio.sleep(0.02)


async def listed(client: Client, room: str, *sids: str) -> None:
    """Waits until the room shows the tracks: LiveKit announces one with its first packet."""

    async def shown() -> bool:
        answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room, page_size=1000), timeout=DEADLINE_S)
        return set(sids) <= {found.sid for found in answer.tracks}

    await come_true(shown)


async def muted(client: Client, room: str, sid: str) -> bool | None:
    """Whether the room shows the track muted; None where it is not there."""
    answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room, page_size=1000), timeout=DEADLINE_S)
    return next((found.muted for found in answer.tracks if found.sid == sid), None)


def unmute_self(publication: rtc.LocalTrackPublication) -> None:
    """The client unmutes itself."""
    assert publication.track is not None
    publication.track.unmute()


def mute_self(publication: rtc.LocalTrackPublication) -> None:
    """The client mutes itself."""
    assert publication.track is not None
    publication.track.mute()


@contextlib.asynccontextmanager
async def watching(client: Client, room: str) -> AsyncIterator[EventStream]:
    """WatchEvents behind its snapshot."""
    stream = client.WatchEvents(event_pb2.WatchEventsRequest(room=room))
    try:
        events = EventStream(stream)
        await events.snapshot()
        yield events
    finally:
        stream.cancel()


async def whole(
    events: EventStream, change: str, matches: Callable[[Any], bool] = lambda _: True
) -> event_pb2.RoomEvent:
    """Reads on to such an event, and returns all of it."""
    await events.until(change, matches)
    return events.seen[-1].event


def moved(state: "State.ValueType") -> Callable[[moderation_pb2.ModerationBlockChanged], bool]:
    """Whether a block moved so."""
    return lambda change: change.state == state
