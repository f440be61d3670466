"""Participants that subscribe to whatever they can, as browsers do, and count what they receive."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import participant

DEADLINE_S = 45.0
_LOOK_S = 0.15
_QUIET_LOOKS = 5


class Receiver:
    """One participant. Frames of video, audio and data tracks are counted by the track's SID."""

    def __init__(self, room: rtc.Room) -> None:
        self.room = room
        self.frames: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        room.on("track_subscribed", lambda track, *_: self._read(self._media(track)))
        room.on("data_track_published", lambda track: self._read(self._data(track)))

    @property
    def total(self) -> int:
        """Frames of all tracks."""
        return self.frames.total()

    async def receives(self, sid: str, more: int = 5) -> None:
        """Waits for that many more frames of the track."""
        wanted = self.frames[sid] + more
        await eventually(lambda: self.frames[sid] >= wanted, lambda: f"{self.room.name}: {self.frames} of {sid}")

    async def receives_no_more(self, sid: str) -> None:
        """Waits until three quarters of a second pass without a frame of the track.

        In several looks: after a pause of this process, what came meanwhile is counted between two of them.
        """
        async with asyncio.timeout(DEADLINE_S):
            quiet, before = 0, self.frames[sid]
            while quiet < _QUIET_LOOKS:
                await asyncio.sleep(_LOOK_S)
                quiet = quiet + 1 if self.frames[sid] == before else 0
                before = self.frames[sid]

    def _read(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            # A track that came while the participant is leaving.
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _media(self, track: rtc.Track) -> None:
        stream = rtc.VideoStream(track) if track.kind == rtc.TrackKind.KIND_VIDEO else rtc.AudioStream(track)
        try:
            async for event in stream:
                # After the end of a video track come blank pictures of 8x8.
                if isinstance(event, rtc.AudioFrameEvent) or event.frame.width > 8:
                    self.frames[track.sid] += 1
        finally:
            await stream.aclose()

    async def _data(self, track: rtc.RemoteDataTrack) -> None:
        # LiveKit refuses without a word; it is tried again as a client would.
        while True:
            with contextlib.suppress(rtc.SubscribeDataTrackError):
                async for _ in track.subscribe():
                    self.frames[track.info.sid] += 1
            await asyncio.sleep(0.2)

    async def aclose(self) -> None:
        """Stops counting."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def receiver(
    livekit: LiveKitProcess, room: str, identity: str, attributes: dict[str, str] | None = None
) -> AsyncIterator[Receiver]:
    """Joins the room; leaves at the end."""
    async with participant(livekit, room, identity, can_update_own_metadata=True) as joined:
        found = Receiver(joined)
        if attributes:
            await joined.local_participant.set_attributes(attributes)
        try:
            yield found
        finally:
            await found.aclose()


async def eventually(condition: Callable[[], object], told: Callable[[], str]) -> None:
    """Waits until ``condition`` holds, at most 20 s."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(told()) from None
