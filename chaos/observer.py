"""Who watches a room through all of it: comes back with its last cursor, and replays what it is told."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Final

import grpc

from chaos.replay import Replay
from tests.track_process import TrackProcess
from track.v1 import event_pb2, track_pb2
from track_server.lifetime import Closing, Tasks

# What a caller gets while a server is away or ends, or where the room is not there (yet).
_PASSING: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
_AGAIN_S: Final = 0.2
_PATIENCE_S: Final = 30.0
# Snapshots that are in the log itself; all others are made for one stream.
_LOGGED: Final = event_pb2.SNAPSHOT_REASON_WATCHER_AWAY
_EXPIRED: Final = event_pb2.SNAPSHOT_REASON_CURSOR_EXPIRED


class Observer(Closing):
    """Watches ``room`` from a snapshot on. ``found`` is told each finding, ``counted`` each thing of note."""

    def __init__(self, track: TrackProcess, room: str, found: Callable[[str], None], counted: Counter[str]) -> None:
        self._track = track
        self._room = room
        self._tell = found
        self._counted = counted
        self.replay = Replay(self._found)
        self._told: list[event_pb2.WatchEventsResponse] = []
        """All that was told since the last snapshot that was made for this stream alone."""
        self._reading: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._tasks.spawn(self._watch(), name=f"observer {room}")

    async def aclose(self) -> None:
        """See Closing."""
        await self._tasks.aclose()

    def tracks(self) -> list[track_pb2.Track]:
        """Those in the room, as it was told."""
        return list(self.replay.tracks.values())

    def cut(self) -> None:
        """Its connection breaks; it comes back."""
        if self._reading is not None:
            self._reading.cancel()

    async def look_back(self, place: float) -> None:
        """Resumes another stream at an earlier cursor, ``place`` (0 to 1) in what is known: it must tell the same.

        What is told while it looks must have come to an end.
        """
        expected = list(self._told)
        if len(expected) < 2:
            return
        begin = int(place * (len(expected) - 1))
        goal, got = expected[-1].cursor, [expected[begin]]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                # A stream ends with the room; its next life comes after it.
                while got[-1].cursor != goal:
                    async with contextlib.aclosing(self._stream(got[-1].cursor)) as stream:
                        async for message in stream:
                            got.append(message)
                            if message.cursor == goal:
                                break
        del got[0]
        if got and got[0].snapshot.reason == _EXPIRED:
            self._counted["looked back, expired"] += 1
            return
        self._counted["looked back"] += 1
        fault = _unlike(expected[begin + 1 :], got)
        if fault:
            self._found(f"after {expected[begin].cursor} another stream was told otherwise: {fault}")

    def _found(self, text: str) -> None:
        self._tell(f"{self._room}: {text}")

    async def _watch(self) -> None:
        while True:
            self._reading = self._tasks.begin(self._read(), name="observer stream")
            await asyncio.wait([self._reading])
            await asyncio.sleep(_AGAIN_S)

    async def _read(self) -> None:
        cursor = self.replay.cursor
        told = False
        try:
            async with contextlib.aclosing(self._stream(cursor)) as stream:
                async for message in stream:
                    if not told:
                        self._counted["streams resumed" if cursor else "streams begun"] += 1
                    told = True
                    self._take(message)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                self._found(f"the stream ended with {error.code()}: {error.details()}")
            return
        if not self.replay.closed:
            self._found("the stream ended with OK, and the room was not closed")

    def _take(self, message: event_pb2.WatchEventsResponse) -> None:
        self.replay.take(message)
        if message.HasField("snapshot"):
            reason = event_pb2.SnapshotReason.Name(message.snapshot.reason).removeprefix("SNAPSHOT_REASON_")
            self._counted[f"snapshots {reason}"] += 1
            if message.snapshot.reason != _LOGGED:
                self._told.clear()
        else:
            self._counted["events"] += 1
        self._told.append(message)

    async def _stream(self, cursor: str) -> AsyncGenerator[event_pb2.WatchEventsResponse]:
        async with self._track.client("observer", room_admin=True, room=self._room) as client:
            call = client.WatchEvents(event_pb2.WatchEventsRequest(room=self._room, cursor=cursor))
            try:
                async for message in call:
                    yield message
            finally:
                call.cancel()


def _unlike(expected: list[event_pb2.WatchEventsResponse], got: list[event_pb2.WatchEventsResponse]) -> str:
    """The first difference, empty where there is none.

    What was told and then lost in a crash may be left out before a snapshot.
    """
    place = 0
    for message in got:
        if place < len(expected) and message != expected[place] and message.HasField("snapshot"):
            while place < len(expected) and not expected[place].HasField("snapshot"):
                place += 1
        if place == len(expected) or message != expected[place]:
            return f"{message.cursor} instead of {expected[place].cursor if place < len(expected) else 'the end'}"
        place += 1
    return "" if place == len(expected) else f"{expected[place].cursor} did not come"
