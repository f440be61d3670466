"""The viewer: an independent participant on LiveKit's official SDK, in a process of its own: that is native code.

It subscribes to no media track itself: TrackService does that for it. Data tracks it subscribes to, because LiveKit's
server cannot. Standard input: one line of JSON, `{"url", "token"}`, then nothing; the viewer leaves when it is closed.
Standard output: a line `{"joined": IDENTITY}`, then twice a second `{"tracks": [RECEPTION, ...]}`.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final

import numpy as np
from livekit import rtc

from track_server.demo.reception import AUDIO_RATE, Meter

REPORT_S: Final = 0.5
_DATA_FRAMES: Final = 256
"""Frames of a data track that may wait to be read, so that none is lost here where the machine is busy."""
_BLANK_PX: Final = 8
"""After an unpublish a decoder brings blank pictures of that size."""


class Viewer:
    """Receives what it is subscribed to in one room."""

    def __init__(self) -> None:
        self._room = rtc.Room()
        self._meters: dict[str, Meter] = {}
        self._tracks: dict[str, rtc.Track] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._room.on("track_subscribed", self._subscribed)
        self._room.on("track_unsubscribed", self._unsubscribed)
        self._room.on("data_track_published", self._data_published)
        self._room.on("data_track_unpublished", self._forget)

    async def run(self, url: str, token: str, leave: asyncio.Event) -> None:
        """Join, and report until ``leave`` is set."""
        await self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
        _tell({"joined": self._room.local_participant.identity})
        try:
            while not leave.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(leave.wait(), REPORT_S)
                await self._read_transport()
                now = time.time()
                _tell({"tracks": [meter.measure(now).encode() for meter in self._meters.values()]})
        finally:
            for sid in list(self._readers):
                self._forget(sid)
            await self._room.disconnect()

    def _subscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        sid = publication.sid
        self._tracks[sid] = track
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            self._read(sid, self._watch(track, self._meter(sid, "video")))
        else:
            self._read(sid, self._listen(track, self._meter(sid, "audio")))

    def _unsubscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        self._forget(publication.sid)

    def _data_published(self, track: rtc.RemoteDataTrack) -> None:
        self._read(track.info.sid, self._collect(track, self._meter(track.info.sid, "data")))

    def _meter(self, sid: str, kind: Any) -> Meter:
        return self._meters.setdefault(sid, Meter(sid, kind))

    def _read(self, sid: str, reading: Coroutine[Any, Any, None]) -> None:
        self._stop(sid)
        self._readers[sid] = asyncio.create_task(reading, name=f"reader of {sid}")

    def _forget(self, sid: str) -> None:
        # The meter stays: what came is told to the end.
        self._tracks.pop(sid, None)
        self._stop(sid)

    def _stop(self, sid: str) -> None:
        # `async for` over a stream ends neither on unpublish nor on aclose: the reader is cancelled.
        reader = self._readers.pop(sid, None)
        if reader is not None:
            reader.cancel()

    async def _watch(self, track: rtc.Track, meter: Meter) -> None:
        async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.I420):
            frame = event.frame
            if frame.width > _BLANK_PX:
                luma = np.frombuffer(frame.data, dtype=np.uint8, count=frame.width * frame.height)
                meter.picture(time.time(), luma.reshape(frame.height, frame.width))

    async def _listen(self, track: rtc.Track, meter: Meter) -> None:
        async for event in rtc.AudioStream(track, sample_rate=AUDIO_RATE, num_channels=1):
            meter.sound(time.time(), np.frombuffer(event.frame.data, dtype=np.int16))

    async def _collect(self, track: rtc.RemoteDataTrack, meter: Meter) -> None:
        async for frame in track.subscribe(buffer_size=_DATA_FRAMES):
            meter.data(time.time(), frame.payload)

    async def _read_transport(self) -> None:
        for sid, track in list(self._tracks.items()):
            for stats in await track.get_stats():
                if stats.WhichOneof("stats") == "inbound_rtp":
                    inbound = stats.inbound_rtp
                    self._meters[sid].transport(
                        time.time(),
                        inbound.inbound.bytes_received,
                        inbound.received.packets_received,
                        inbound.received.packets_lost,
                    )


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def _main() -> None:
    loop = asyncio.get_running_loop()
    leave = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    setup = json.loads(await reader.readline())
    closing = asyncio.create_task(_until_closed(reader, leave), name="until standard input is closed")
    try:
        await Viewer().run(setup["url"], setup["token"], leave)
    finally:
        closing.cancel()
        transport.close()


async def _until_closed(reader: asyncio.StreamReader, leave: asyncio.Event) -> None:
    await reader.read()
    leave.set()


if __name__ == "__main__":
    asyncio.run(_main())
