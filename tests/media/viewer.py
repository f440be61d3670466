"""An independent participant that looks at what is published, with the official SDK."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from livekit import api, rtc

from tests.livekit_process import LiveKitProcess

DEADLINE_S = 45.0


class Viewer:
    """A participant of one room. Everything waits up to 20 s."""

    def __init__(self, room: rtc.Room) -> None:
        self.room = room
        self._changed = asyncio.Event()
        self.data_tracks: dict[str, rtc.RemoteDataTrack] = {}
        for event in ("track_published", "track_unpublished", "track_muted", "track_unmuted", "participant_connected",
                      "participant_disconnected", "track_subscribed"):  # fmt: skip
            room.on(event, lambda *_: self._changed.set())
        room.on("data_track_published", self._data_track_published)
        room.on("data_track_unpublished", self._data_track_unpublished)

    def _data_track_published(self, track: rtc.RemoteDataTrack) -> None:
        self.data_tracks[track.info.sid] = track
        self._changed.set()

    def _data_track_unpublished(self, sid: str) -> None:
        self.data_tracks.pop(sid, None)
        self._changed.set()

    async def until(self, find: Callable[[], Any]) -> Any:
        """Wait until `find` finds something; it looks after every event of the room."""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := find()):
                self._changed.clear()
                await self._changed.wait()
            return found

    def publication(self, sid: str) -> rtc.RemoteTrackPublication | None:
        """The publication of that SID, if it is there."""
        for participant in self.room.remote_participants.values():
            if sid in participant.track_publications:
                return participant.track_publications[sid]
        return None

    async def publication_of(self, sid: str) -> rtc.RemoteTrackPublication:
        """Wait for it."""
        found: rtc.RemoteTrackPublication = await self.until(lambda: self.publication(sid))
        return found

    async def gone(self, sid: str) -> None:
        """Wait until there is no such publication."""
        await self.until(lambda: self.publication(sid) is None)

    async def subscribe(self, sid: str) -> Any:
        """Subscribe to a media track and return it."""
        publication = await self.publication_of(sid)
        publication.set_subscribed(True)
        return await self.until(lambda: publication.track)

    @contextlib.asynccontextmanager
    async def frames(self, sid: str) -> AsyncIterator[asyncio.Queue[tuple[float, rtc.VideoFrame]]]:
        """Decoded frames of a video track with the time they came (`time.time` seconds), blank 8x8 ones left out."""
        track = await self.subscribe(sid)
        queue: asyncio.Queue[tuple[float, rtc.VideoFrame]] = asyncio.Queue()

        stream = rtc.VideoStream(track, format=rtc.VideoBufferType.I420)

        async def read() -> None:
            async for event in stream:
                if event.frame.width > 8:
                    queue.put_nowait((time.time(), event.frame))

        # `async for` ends neither on unpublish nor on aclose: the reader is cancelled.
        reader = asyncio.create_task(read())
        try:
            yield queue
        finally:
            reader.cancel()
            await asyncio.wait([reader])
            await stream.aclose()

    async def sound(self, sid: str, seconds: float) -> npt.NDArray[np.float64]:
        """That much of an audio track, 48 kHz mono, -1 to 1, from when it is not silent any more."""
        return (await self._heard(sid, seconds, 1))[:, 0]

    async def channels(self, sid: str, seconds: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The same, left and right."""
        wave = await self._heard(sid, seconds, 2)
        return wave[:, 0], wave[:, 1]

    async def _heard(self, sid: str, seconds: float, channels: int) -> npt.NDArray[np.float64]:
        track = await self.subscribe(sid)
        chunks: list[npt.NDArray[np.float64]] = []
        stream = rtc.AudioStream(track, sample_rate=48_000, num_channels=channels)

        async def read() -> None:
            async for event in stream:
                chunk = np.frombuffer(event.frame.data, dtype=np.int16).reshape(-1, channels) / 32768
                if chunks or np.abs(chunk).max() > 0.01:
                    chunks.append(chunk)
                if sum(map(len, chunks)) >= seconds * 48_000:
                    return

        async with asyncio.timeout(DEADLINE_S + seconds):
            await read()
        await stream.aclose()
        return np.concatenate(chunks)


def luma(frame: rtc.VideoFrame) -> npt.NDArray[np.uint8]:
    """The luma plane of an I420 frame."""
    size = frame.width * frame.height
    return np.frombuffer(frame.data, dtype=np.uint8)[:size].reshape(frame.height, frame.width)


@contextlib.asynccontextmanager
async def viewer(livekit: LiveKitProcess, room: str, identity: str = "viewer") -> AsyncIterator[Viewer]:
    """A participant in the room, subscribed to nothing."""
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity(identity)
    token.with_grants(api.VideoGrants(room_join=True, room=room))
    joined = rtc.Room()
    seen = Viewer(joined)
    await joined.connect(livekit.url, token.to_jwt(), rtc.RoomOptions(auto_subscribe=False))
    try:
        yield seen
    finally:
        await joined.disconnect()
