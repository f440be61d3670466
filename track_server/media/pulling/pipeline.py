"""From the frames that are received to what is sent: placed in time, left out where nobody reads, encoded in order."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from livekit import rtc

from track.media.v1.media_service_pb2 import PullDesired
from track.v1.pull_pb2 import PullContainer, PullEndReason
from track_server.media.inputs.tone import SAMPLE_RATE
from track_server.media.pulling.outlet import Outlet
from track_server.media.pulling.pictures import Picture
from track_server.media.pulling.response import Response
from track_server.media.pulling.sinks import Item, Payload, Sink, Sound, create_sink, cut
from track_server.media.pulling.timeline import PictureClock, SoundClock, Timeline

_WAITING_PICTURES: Final = 4
_WAITING_SOUNDS: Final = 100
"""Frames that may wait to be encoded; more are left out."""
_LATE_S: Final = 0.5
"""So long after `max_duration` it ends, where no frame reached it: a camera may be muted."""
_FIRST_S: Final = 3.0
"""The same where there was no frame at all: a subscribed track's first takes up to a second, on a busy machine more."""
_STATS_S: Final = 2.0
_SILENCE: Final = SAMPLE_RATE
"""Samples that are sent at once, where a track was away for so long that WAV is filled up with more."""
_LOOK_S: Final = 0.25
_ROOM_S: Final = 0.02
_BLANK: Final = 8
"""Size of the pictures that WebRTC shows when a track was taken away: they are nobody's."""

_ROTATIONS: Final[Mapping[object, int]] = {
    rtc.VideoRotation.VIDEO_ROTATION_90: 90,
    rtc.VideoRotation.VIDEO_ROTATION_180: 180,
    rtc.VideoRotation.VIDEO_ROTATION_270: 270,
}


class Pipeline:
    """Of one session. Frames are handed over on the event loop and never wait; ``run`` sends them."""

    def __init__(self, desired: PullDesired, outlet: Outlet) -> None:
        self._outlet = outlet
        self._sink: Sink = create_sink(desired)
        self._channels = desired.channels
        self._max_us = desired.max_duration_us
        self._fills = desired.container == PullContainer.PULL_CONTAINER_WAV
        self._timeline = Timeline(desired.position_us, time.monotonic() if desired.position_us else None)
        self._pictures = PictureClock()
        self._sounds = SoundClock()
        self._queue: asyncio.Queue[Item | None] = asyncio.Queue()
        self._waiting = {Picture: 0, Sound: 0, Payload: 0}
        self._reason: PullEndReason.ValueType | None = None
        self._left = False
        self._awaited_s: float | None = None
        """Since when frames may come."""

    # What comes.

    def await_frames(self) -> None:
        """Frames may come from now on."""
        if self._awaited_s is None:
            self._awaited_s = time.monotonic()

    def begin_sound(self) -> None:
        """Sound comes from another track now."""
        self._sounds.begin()

    def picture(self, event: rtc.VideoFrameEvent) -> None:
        """A picture was received."""
        frame = event.frame
        if frame.width <= _BLANK and frame.height <= _BLANK:
            return
        position_us = self._pictures.place(event.timestamp_us, self._timeline.at(time.monotonic()))
        if self._max_us and position_us >= self._max_us:
            self.finish(PullEndReason.PULL_END_REASON_MAX_DURATION)
        else:
            rotation = _ROTATIONS.get(event.rotation, 0)
            self._put(Picture(frame.data, frame.width, frame.height, rotation, position_us))

    def sound(self, frame: rtc.AudioFrame) -> None:
        """Sound was received."""
        length = frame.samples_per_channel
        position_us, missing = self._sounds.place(length, self._timeline.at(time.monotonic()))
        sound = Sound(bytes(frame.data.cast("b")), position_us, missing)
        left = round((self._max_us - position_us) * SAMPLE_RATE / 1e6) if self._max_us else length + 1
        if left > 0:
            self._put(sound if left >= length else cut(sound, left, self._channels))
        if left <= length:
            self.finish(PullEndReason.PULL_END_REASON_MAX_DURATION)

    def payload(self, data: bytes) -> None:
        """A payload was received."""
        position_us = self._timeline.at(time.monotonic())
        if self._max_us and position_us >= self._max_us:
            self.finish(PullEndReason.PULL_END_REASON_MAX_DURATION)
        else:
            self._put(Payload(data, position_us))

    # The end.

    def finish(self, reason: PullEndReason.ValueType) -> None:
        """Nothing more is taken: what waits is sent, and then it is over. The first reason counts."""
        if not self._over:
            self._reason = reason
            self._queue.put_nowait(None)

    def leave(self) -> None:
        """LiveKit has ended the connection: as ``finish``, but why, the server must tell."""
        if not self._over:
            self._left = True
            self._queue.put_nowait(None)

    @property
    def _over(self) -> bool:
        return self._left or self._reason is not None

    async def run(self) -> None:
        """Sends until the end, and says the last word."""
        timing = asyncio.create_task(self._keep_time(), name="pull-time")
        try:
            while (item := await self._queue.get()) is not None:
                self._waiting[type(item)] -= 1
                if self._fills and isinstance(item, Sound) and item.missing > _SILENCE:
                    item = await self._filled_up(item)
                take = self._sink.take
                response = await asyncio.to_thread(take, item) if self._sink.blocks(item) else take(item)
                self._deliver(response, item.position_us, frames=1)
            self._deliver(await asyncio.to_thread(self._sink.close), 0, frames=0)
        finally:
            timing.cancel()
            await asyncio.gather(timing, return_exceptions=True)
        if self._reason is not None:
            self._outlet.ended(self._reason)
        else:
            self._outlet.left()

    async def _filled_up(self, sound: Sound) -> Sound:
        """Sends the silence before it but for the last piece: a publication may be away for hours, and the caller's
        client takes some megabytes at once. It waits for the caller, unless it is over.
        """
        silence = Sound(b"", sound.position_us, _SILENCE)
        missing = sound.missing
        while missing > _SILENCE and not self._over:
            if self._outlet.open:
                self._deliver(self._sink.take(silence), sound.position_us, frames=0)
                missing -= _SILENCE
            # What the caller takes is told meanwhile.
            await asyncio.sleep(0 if self._outlet.open else _ROOM_S)
        return replace(sound, missing=min(missing, _SILENCE))

    async def _keep_time(self) -> None:
        """Says what became of the frames, and ends it where no frame tells that the time is over."""
        told_s = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = time.monotonic()
            if self._max_us and now_s >= self._end_s():
                self.finish(PullEndReason.PULL_END_REASON_MAX_DURATION)
                return
            if now_s >= told_s + _STATS_S:
                told_s = now_s
                self._outlet.tell_stats()

    def _end_s(self) -> float:
        """Of the monotonic clock. Getting to the track takes none of the time."""
        left_s = (self._max_us - self._timeline.base_us) / 1e6
        if self._timeline.began_s is not None:
            return self._timeline.began_s + left_s + _LATE_S
        return self._awaited_s + left_s + _FIRST_S if self._awaited_s is not None else math.inf

    def _put(self, item: Item) -> None:
        kind = type(item)
        most = _WAITING_PICTURES if kind is Picture else _WAITING_SOUNDS
        if self._over:
            return
        if not self._outlet.open or self._waiting[kind] >= most:
            self._outlet.dropped()
            return
        self._waiting[kind] += 1
        self._queue.put_nowait(item)

    def _deliver(self, response: Response | None, position_us: int, *, frames: int) -> None:
        if response is None:
            self._outlet.stats.frames_delivered += frames
        else:
            self._outlet.deliver(response, position_us, frames=frames)
