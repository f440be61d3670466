"""Plays a decoded file in real time: decodes ahead in a thread, and hands out each chunk when it is due."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from track_server import errors
from track_server.media.inputs.decoder import Chunk, Decoder
from track_server.media.inputs.timeline import Timeline, sleep_until

_T = TypeVar("_T")

_AHEAD_CHUNKS: Final = 8
"""Chunks decoded ahead: a quarter of a second of video, 11 MB of it at 720p."""
_TOO_LATE_S: Final = 0.5
"""A chunk that is later than this is left out: decoding is too slow, or the process was stopped."""


class Player:
    """One stream of a file. `open` first, then `play`, then `aclose`."""

    def __init__(
        self,
        open_decoder: Callable[[], Decoder],
        timeline: Timeline,
        loop: bool,
        lead_s: float,
        offset_s: float = 0.0,
    ) -> None:
        """`open_decoder` blocks and is called in a thread. `lead_s`: chunks are handed out so many seconds early.

        `offset_s`: where in the file it begins the first time; its time line begins there.
        """
        self._open_decoder = open_decoder
        self._timeline = timeline
        self.loop = loop
        """Whether it begins again at its end; may be changed while it plays."""
        self._lead_s = lead_s
        self._offset_s = offset_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self._decoder: Decoder | None = None
        self.first: Chunk | None = None
        """The first chunk that is played, once the file is open."""

    async def open(self) -> None:
        """Open the file and decode what comes first. Raises MediaNotFound, MediaInvalid, InvalidField."""
        self._decoder = await self._in_thread(self._open_decoder)
        if self._offset_s:
            await self._in_thread(self._decoder.seek, self._offset_s)
        self.first = await self._in_thread(self._decoder.next)
        if self.first is None and self._offset_s:
            raise errors.InvalidField("the media ends before start_offset", field="file.start_offset")
        if self.first is None:
            raise errors.MediaInvalid("the media has nothing to play", field="file.uri")

    async def aclose(self) -> None:
        """Close the file. May be called twice."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            self._thread.submit(decoder.close)
        # A read that hangs ends by its own time-out; nobody waits for it.
        self._thread.shutdown(wait=False)

    async def play(self, emit: Callable[[Chunk], Awaitable[None]]) -> None:
        """Hand out chunks in real time until the file ends, or for ever if it loops. Raises MediaInvalid."""
        # As if it had begun to play so much earlier.
        end = epoch = self._timeline.start() - self._offset_s
        queue: asyncio.Queue[Chunk | errors.TrackError | None] = asyncio.Queue(_AHEAD_CHUNKS)
        reader = asyncio.create_task(self._read_ahead(queue, time.monotonic() - epoch), name="player-reader")
        try:
            while (chunk := await queue.get()) is not None:
                if isinstance(chunk, errors.TrackError):
                    raise chunk
                due = epoch + chunk.position_s - self._lead_s
                if time.monotonic() - due > _TOO_LATE_S:
                    continue
                await sleep_until(due)
                await emit(chunk)
                end = due + self._lead_s + chunk.duration_s
            await sleep_until(end)
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    async def _read_ahead(self, queue: asyncio.Queue[Chunk | errors.TrackError | None], elapsed_s: float) -> None:
        """Fill the queue, from `elapsed_s` seconds after the time line's beginning on."""
        try:
            await self._read(queue, elapsed_s)
        except errors.TrackError as error:
            await queue.put(error)
        else:
            await queue.put(None)

    async def _read(self, queue: asyncio.Queue[Chunk | errors.TrackError | None], elapsed_s: float) -> None:
        assert self._decoder is not None
        assert self.first is not None
        decoder, first, base_s = self._decoder, self.first, 0.0
        period_s = decoder.duration_s
        if self.loop and period_s and elapsed_s >= period_s:
            base_s = elapsed_s // period_s * period_s
        following: Chunk | None = first
        if base_s or elapsed_s > first.position_s + first.duration_s:
            await self._in_thread(decoder.seek, elapsed_s - base_s)
            following = await self._in_thread(decoder.next)
        while True:
            end_s = 0.0
            while following is not None:
                end_s = max(end_s, following.position_s + following.duration_s)
                await queue.put(Chunk(base_s + following.position_s, following.duration_s, following.data))
                following = await self._in_thread(decoder.next)
            if not self.loop:
                return
            base_s += max(period_s or end_s, first.duration_s)
            await self._in_thread(decoder.seek, 0.0)
            following = await self._in_thread(decoder.next)

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
