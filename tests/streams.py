"""Server streams, read one message at a time with a deadline."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.track_process import Client
from track.v1 import event_pb2, track_pb2

# Longer than LiveKit waits for a client whose goodbye was lost.
DEADLINE_S = 45.0


class EventStream:
    """WatchEvents of one room. Everything waits up to DEADLINE_S."""

    def __init__(self, stream: Any) -> None:
        self._messages = aiter(stream)
        self.seen: list[event_pb2.WatchEventsResponse] = []
        """All that was read."""

    async def next(self) -> event_pb2.WatchEventsResponse:
        """The next message; StopAsyncIteration where the stream ends with OK."""
        async with asyncio.timeout(DEADLINE_S):
            message: event_pb2.WatchEventsResponse = await anext(self._messages)
        self.seen.append(message)
        return message

    async def snapshot(self) -> event_pb2.RoomSnapshot:
        """The next message, which must be a snapshot."""
        message = await self.next()
        assert message.WhichOneof("payload") == "snapshot", message
        return message.snapshot

    async def until(self, change: str, matches: Callable[[Any], bool] = lambda _: True) -> Any:
        """Reads on to an event of that kind that ``matches``, and returns what it carries."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    message = await self.next()
                    if message.event.WhichOneof("change") == change:
                        found = getattr(message.event, change)
                        if matches(found):
                            return found
        except TimeoutError:
            seen = [message.event.WhichOneof("change") or "snapshot" for message in self.seen]
            raise AssertionError(f"no {change} came; but {seen}") from None

    async def until_shown(self, matches: Callable[[track_pb2.Track], bool]) -> track_pb2.Track:
        """Reads on to a track that ``matches``, published or in a snapshot."""
        while True:
            message = await self.next()
            shown = [message.event.track_published, *message.snapshot.tracks]
            if found := next((track for track in shown if matches(track)), None):
                return found

    async def end(self) -> None:
        """Reads until the stream ends with OK."""
        with contextlib.suppress(StopAsyncIteration):
            while True:
                await self.next()


@contextlib.asynccontextmanager
async def events(client: Client, room: str, cursor: str = "") -> AsyncIterator[EventStream]:
    """Watches the room for the span of the block."""
    async with watching(client, room=room, cursor=cursor) as stream:
        yield stream


@contextlib.asynccontextmanager
async def watching(client: Client, **fields: Any) -> AsyncIterator[EventStream]:
    """Watches for the span of the block, as those fields of the request say."""
    stream = client.WatchEvents(event_pb2.WatchEventsRequest(**fields))
    try:
        yield EventStream(stream)
    finally:
        stream.cancel()
