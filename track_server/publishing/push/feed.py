"""The feed of a publication with pushed frames: what of it outlives a caller's stream and a media worker's child."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Final

import structlog

from track.v1 import publication_pb2, push_pb2
from track.v1.publication_pb2 import Publication
from track_server.durations import duration_of
from track_server.errors import PushInProgress
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED, PENDING, STARTING
from track_server.publishing.push.connection import Connection
from track_server.publishing.push.sequence import Frame, Sequence
from track_server.publishing.push.stall import Due, StallClock
from track_server.publishing.push.window import window_of
from track_server.pushwire import Bitrate, Kind, Taken
from track_server.rooms.room import LiveRoom, now

log = structlog.get_logger(__name__)

_SILENT_S: Final = 5.0
"""A stream from which nothing came for so long, though it was not held back, gives way to another: its caller may have
vanished without a word, which gRPC notices within 40 s."""
_UNMUTED_S: Final = 2.0
"""How long LiveKit may take to tell the room that a track is unmuted."""


class Taker:
    """A caller's stream that pushes frames.

    ``wake`` is called when there is something to tell it, ``freed`` when less is on the way.
    """

    def __init__(self, wake: Callable[[], None], freed: Callable[[], None], at: float) -> None:
        self.wake = wake
        self.freed = freed
        self.heard = at
        """When something came from it last, or it was held back."""
        self.displaced = False
        """Another stream has taken its place."""
        self.keyframe_wanted = False
        self.bitrate: Bitrate | None = None


class Feed:
    """Frames on their way from at most one stream to the children that publish them: one, and for a moment two while a
    track is replaced. ``run()`` keeps the time.

    ``room_of``: the live room where it is watched. ``ended``: told that something else is wanted of the publication.
    """

    def __init__(
        self,
        publication: Publication,
        book: Book,
        room_of: Callable[[str], LiveRoom | None],
        ended: Callable[[Publication], None],
        max_frame_bytes: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.window_bytes = window_of(publication.spec)
        self.sequence = Sequence(publication.spec, max_frame_bytes)
        self.clock = StallClock.of(publication.spec.push, loop.time())
        if publication.lineage:
            # Of an earlier run of ours: its stream broke when we ended.
            self.clock.closed(loop.time())
        self.taker: Taker | None = None
        self._publication = publication
        self._book = book
        self._room_of = room_of
        self._ended = ended
        self._connections: list[Connection] = []
        self._fed_sid = ""
        self._frames_taken = self._bytes_taken = self._frames_dropped = 0
        self._finishing = False
        self._stalled = False
        self._look = asyncio.Event()
        self._freed = asyncio.Event()
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def publication(self) -> Publication:
        """As the Book has it."""
        return self._book.find(self._publication.room, self._publication.publication_id) or self._publication

    @property
    def ready(self) -> bool:
        """Whether a child takes frames."""
        return bool(self._connections)

    @property
    def on_the_way(self) -> int:
        """Bytes that were pushed, and not yet taken or left out."""
        return max((connection.window.on_the_way for connection in self._connections), default=0)

    def stats(self) -> push_pb2.PushStats:
        """What became of the frames."""
        stats = push_pb2.PushStats(
            frames_taken=self._frames_taken, bytes_taken=self._bytes_taken, frames_dropped=self._frames_dropped
        )
        if not self.clock.sporadic:
            ahead = max((connection.window.ahead_us for connection in self._connections), default=0)
            stats.buffered.CopyFrom(duration_of(ahead / 1e6))
        return stats

    # The caller's stream.

    def begin(self, taker: Taker) -> bool:
        """The stream pushes from now on; says whether it takes up one that broke. Raises PushInProgress."""
        at, other = asyncio.get_running_loop().time(), self.taker
        if other is not None:
            if self.clock.held or at - other.heard < _SILENT_S:
                raise PushInProgress("another stream pushes frames into the publication")
            other.displaced = True
            other.wake()
        self.taker = taker
        self.clock.opened(at)
        self._look.set()
        return self._fed_sid != "" and self._fed_sid == self.publication.track_sid

    def leave(self, taker: Taker) -> None:
        """The stream is over."""
        if self.taker is taker:
            self.taker = None
            self._fed_sid = self.publication.track_sid
            self.clock.closed(asyncio.get_running_loop().time())
            self._look.set()

    async def open(self) -> None:
        """Waits until another frame may be sent. The caller is held back meanwhile."""
        loop = asyncio.get_running_loop()
        while not self._open():
            self.clock.hold(loop.time(), held=True)
            self._freed.clear()
            await self._freed.wait()
        if self.clock.held:
            self.clock.hold(loop.time(), held=False)
            self._look.set()

    def _open(self) -> bool:
        return bool(self._connections) and all(connection.window.open for connection in self._connections)

    def send(self, frame: Frame) -> None:
        """Sends a frame; `open` comes before."""
        self.clock.frame(asyncio.get_running_loop().time())
        if self._stalled:
            self._stalled = False
            if not self.publication.muted:
                self._say(Kind.UNMUTE)
            self._spawn(self._recover(), "push recovers")
        for connection in self._connections:
            connection.send(frame)

    async def finish(self) -> None:
        """No frame comes any more: the publication ends when what is on the way has been sent."""
        self._finishing = True
        if self.ready and self.clock.fed:
            self._say(Kind.END)
        else:
            await self.end("the media ended")

    # The children.

    async def serve(self, connection: Connection) -> None:
        """Feeds a child until it is gone."""
        self._connections.append(connection)
        self.clock.awaited(asyncio.get_running_loop().time())
        self._look.set()
        self._freed.set()
        self._wake()
        try:
            publication = self.publication
            if publication.state == PENDING:
                # The session was there before; that it has taken this one too is told by this alone.
                await self._book.take(lifecycle.untroubled(lifecycle.move(publication, STARTING, now())))
            await connection.listen(self)
        finally:
            if connection is self._connections[-1]:
                # Of one that was replaced they are on the way to its successor too.
                self._frames_dropped += connection.frames_on_the_way
            self._connections.remove(connection)
            connection.close()
            self._freed.set()
            self._wake()
            self._look.set()

    def taken(self, connection: Connection, taken: Taken) -> None:
        """See Listener."""
        if connection is self._connections[-1]:
            self._frames_taken += taken.frames
            self._bytes_taken += taken.bytes_taken
            self._frames_dropped += taken.dropped
        if taken.frames:
            self.clock.taken(asyncio.get_running_loop().time())
        self._freed.set()
        if self.taker is not None:
            self.taker.freed()

    def keyframe_wanted(self) -> None:
        """See Listener."""
        if self.taker is not None:
            self.taker.keyframe_wanted = True
            self._wake()

    def bitrate_wanted(self, bitrate: Bitrate) -> None:
        """See Listener."""
        if self.taker is not None:
            self.taker.bitrate = bitrate
            self._wake()

    # Time.

    async def run(self) -> None:
        """Mutes and ends the publication when it is due. Returns once it has ended."""
        loop = asyncio.get_running_loop()
        while self.publication.state != ENDED:
            if self._finishing and not self._connections:
                # The last child has played it out.
                await self.end("the media ended")
                return
            match self.clock.due(loop.time()):
                case Due.END:
                    await self.end("nobody pushes frames")
                    return
                case Due.MUTE:
                    await self._mute()
                case _:
                    pass
            self._look.clear()
            due = self.clock.next()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due if due < math.inf else None):
                    await self._look.wait()

    def changed(self) -> None:
        """The publication is not what it was."""
        self.sequence.follow(self.publication.spec)
        self.clock.follow(self.publication.spec.push)
        self._look.set()
        self._freed.set()
        self._wake()

    async def end(self, detail: str) -> None:
        """The publication is over: SOURCE_ENDED."""
        publication = self.publication
        if publication.state == ENDED:
            return
        cause = publication_pb2.PUBLICATION_END_CAUSE_SOURCE_ENDED
        try:
            await self._book.take(lifecycle.end(publication, cause, now(), detail=detail))
        finally:
            # Also where the caller goes meanwhile: its session would stay for ever.
            self._ended(publication)

    async def aclose(self) -> None:
        """Lets go of everything. May be called twice."""
        for task in list(self._chores):
            task.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        for connection in list(self._connections):
            connection.close()

    async def _mute(self) -> None:
        """The room is told later that the track is muted than the Book, so that it is not taken for a moderator's."""
        self.clock.muted = self._stalled = True
        log.info("push_stalled", publication_id=self._publication.publication_id)
        await self._book.take(lifecycle.stalled(self.publication, value=True))
        if self._stalled:
            self._say(Kind.MUTE)

    async def _recover(self) -> None:
        """Frames come again: once the room shows it, what it shows counts again."""

        def unmuted() -> bool:
            track = live.model.tracks.get(self.publication.track_sid) if live is not None else None
            return track is None or not track.muted

        live = self._room_of(self._publication.room)
        if live is not None and not self.publication.muted:
            await live.until(unmuted, _UNMUTED_S)
        if not self._stalled and self.publication.state != ENDED:
            await self._book.take(lifecycle.stalled(self.publication, value=False))

    def _say(self, kind: Kind) -> None:
        for connection in self._connections:
            connection.say(kind)

    def _wake(self) -> None:
        if self.taker is not None:
            self.taker.wake()

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{name} {self._publication.publication_id}")
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
