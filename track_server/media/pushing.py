"""Feeders of frames that a caller pushes: each frame when it is due, by its timestamp."""

import asyncio
import contextlib
import time
from typing import Final

from livekit import rtc

from track.media.v1.media_service_pb2 import PushSource
from track.v1.media_frame_pb2 import PcmFormat, PixelFormat
from track.v1.publication_pb2 import PublicationSpec, VideoCodec
from track_server import errors
from track_server.media.far_end import FarEnd
from track_server.media.feeder import Feeder
from track_server.media.inputs.mixing import mixed
from track_server.media.inputs.pushed import Pushed, PushedFrames
from track_server.media.inputs.schedule import Schedule
from track_server.media.inputs.timeline import Timelines, sleep_until
from track_server.media.inputs.tone import SAMPLE_RATE
from track_server.media.pictures import Pictures
from track_server.media.sound import Sound
from track_server.pushwire import Bitrate, Kind

_TIMELINE: Final = "push://"
"""Under which all that is pushed into one session is held together."""
_HASTE_S: Final = 0.2
"""How long the first picture is repeated once the track is published: LiveKit announces it with its first packet."""
_HASTE_INTERVAL_S: Final = 0.01
_CONNECTED_S: Final = 2.0
"""So long at most is the first keyframe repeated until WebRTC asks for a bitrate, as it does once it is connected."""
_KEYFRAME_INTERVAL_S: Final = 0.04
_FEEDBACK_S: Final = 0.1
_ASK_AGAIN_S: Final = 0.5
"""WebRTC asks for a keyframe until one comes; the caller is asked this often."""
_LAST_PICTURE_S: Final = 0.1
"""How long the last frame has to leave before its track is taken away."""
_SOUND_LEAD_S: Final = 0.04
_PIECE_S: Final = 0.02
"""Sound is handed over so early, and in pieces of this length, as that of files."""

_CODECS: Final = {
    VideoCodec.VIDEO_CODEC_VP8: rtc.VideoCodec.VP8,
    VideoCodec.VIDEO_CODEC_H264: rtc.VideoCodec.H264,
}


class _PushedFeeder:
    """What all of them have in common. See Feeder."""

    def __init__(self, source: PushSource, timelines: Timelines) -> None:
        self._held = contextlib.ExitStack()
        self._schedule = Schedule(self._held.enter_context(timelines.hold(_TIMELINE)))
        self._push_source = source
        self._frames = PushedFrames()
        self._tracks: list[rtc.LocalAudioTrack | rtc.LocalVideoTrack] = []
        self._first: Pushed | None = None

    async def open(self) -> None:
        """Returns with the first frame: before it there is nothing to publish."""
        await self._frames.connect(self._push_source)
        while True:
            item = await self._frames.next()
            if item is Kind.END:
                # Nothing ever came: the server ends it, and has this taken away.
                self._frames.close()
                await asyncio.Event().wait()
            elif isinstance(item, Kind):
                self._mute(item)
            elif item.key:
                self._first = item
                return
            else:
                self._frames.dropped(item)
                self._frames.want_keyframe()

    async def aclose(self) -> None:
        self._frames.close()
        self._held.close()

    async def _play(self) -> None:
        frames = self._frames
        item: Pushed | Kind | None = self._first
        while item is not Kind.END:
            if isinstance(item, Kind):
                self._mute(item)
            elif item is not None:
                due = self._schedule.due(item.timestamp_us, time.monotonic(), newer=self._replaceable())
                if due is None:
                    self._left_out(item)
                    frames.dropped(item)
                else:
                    await self._show(item, due)
            item = await frames.next()

    def _mute(self, kind: Kind) -> None:
        for track in self._tracks:
            if kind is Kind.MUTE:
                track.mute()
            else:
                track.unmute()

    def _replaceable(self) -> bool:
        """Whether a frame that is too late may be left out."""
        return self._frames.newer

    def _left_out(self, frame: Pushed) -> None:
        """One was."""

    async def _show(self, frame: Pushed, due: float) -> None:
        """Hand it to the SDK when it is due, and give it back."""
        raise NotImplementedError


class PushedPictures(_PushedFeeder):
    """Raw pictures."""

    def __init__(self, spec: PublicationSpec, source: PushSource, timelines: Timelines) -> None:
        super().__init__(source, timelines)
        nv12 = spec.push.raw_video.pixel_format == PixelFormat.PIXEL_FORMAT_NV12
        kind = rtc.VideoBufferType.NV12 if nv12 else rtc.VideoBufferType.I420
        self._pictures = Pictures(spec.video.width, spec.video.height, kind)

    def create_track(self, name: str) -> rtc.LocalVideoTrack:
        track = self._pictures.create_track(name)
        self._tracks.append(track)
        return track

    async def produce(self, live: asyncio.Event) -> None:
        # The first picture stands until the track is in the room, or the beginning would be shown to nobody.
        calm_at = float("inf")
        while time.monotonic() < calm_at:
            assert self._first is not None
            self._pictures.show(self._first.data)
            await asyncio.sleep(_HASTE_INTERVAL_S)
            if live.is_set():
                calm_at = min(calm_at, time.monotonic() + _HASTE_S)
        await self._play()
        await asyncio.sleep(_LAST_PICTURE_S)

    def brightness(self) -> float | None:
        return self._pictures.brightness()

    async def aclose(self) -> None:
        await super().aclose()
        await self._pictures.aclose()

    async def _show(self, frame: Pushed, due: float) -> None:
        await sleep_until(due)
        self._pictures.show(frame.data)
        self._frames.taken(frame)


class PushedAccessUnits(_PushedFeeder):
    """Encoded video, passed through."""

    def __init__(self, spec: PublicationSpec, source: PushSource, timelines: Timelines) -> None:
        super().__init__(source, timelines)
        self._size = spec.video.width, spec.video.height
        self._codec = _CODECS[spec.video.codec]
        self._source = rtc.EncodedVideoSource(*self._size)
        self._broken = False
        """Frames were left out: without a keyframe nothing more can be decoded."""
        self._last_us = 0
        self._connected = asyncio.Event()
        self._asked_at = 0.0

    def create_track(self, name: str) -> rtc.LocalVideoTrack:
        track = rtc.LocalVideoTrack.create_video_track(name, self._source)
        self._tracks.append(track)
        return track

    async def produce(self, live: asyncio.Event) -> None:
        await live.wait()
        following = asyncio.create_task(self._follow(), name="pushed-feedback")
        try:
            # What is sent before WebRTC is connected is lost, and the caller may be long in sending another keyframe.
            began, calm_at = time.monotonic(), float("inf")
            while time.monotonic() < min(calm_at, began + _CONNECTED_S):
                assert self._first is not None
                self._capture(self._first)
                if self._connected.is_set():
                    calm_at = min(calm_at, time.monotonic() + _HASTE_S)
                await asyncio.sleep(_KEYFRAME_INTERVAL_S)
            await self._play()
            await asyncio.sleep(_LAST_PICTURE_S)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def aclose(self) -> None:
        await super().aclose()
        await self._source.aclose()

    def _replaceable(self) -> bool:
        return self._frames.key_waits

    def _left_out(self, frame: Pushed) -> None:
        self._broken = True

    async def _show(self, frame: Pushed, due: float) -> None:
        if self._broken and not frame.key:
            self._frames.dropped(frame)
            return
        self._broken = False
        await sleep_until(due)
        if self._capture(frame):
            self._frames.taken(frame)
        else:
            self._frames.dropped(frame)
            self._broken = True
            self._frames.want_keyframe()

    def _capture(self, frame: Pushed) -> bool:
        self._last_us = max(self._last_us + 1, time.monotonic_ns() // 1000)
        kind = rtc.EncodedFrameType.ENCODED_FRAME_KEY if frame.key else rtc.EncodedFrameType.ENCODED_FRAME_DELTA
        if frame.key:
            self._asked_at = 0.0
        return self._source.capture_frame(
            rtc.EncodedVideoFrame(bytes(frame.data), *self._size, self._codec, kind, self._last_us)
        )

    async def _follow(self) -> None:
        """Pass on what WebRTC asks of an encoder."""
        while True:
            feedback = self._source.take_feedback()
            now = time.monotonic()
            if feedback.keyframe_requested and now - self._asked_at >= _ASK_AGAIN_S:
                self._asked_at = now
                self._frames.want_keyframe()
            if (rate := feedback.rate_control) is not None:
                self._connected.set()
                self._frames.want_bitrate(Bitrate(rate.target_bitrate_bps, rate.framerate_fps))
            await asyncio.sleep(_FEEDBACK_S if self._connected.is_set() else _KEYFRAME_INTERVAL_S)


class PushedSound(_PushedFeeder):
    """PCM sound, as 48 kHz in the channels of the track."""

    def __init__(self, spec: PublicationSpec, source: PushSource, timelines: Timelines, far_end: FarEnd) -> None:
        super().__init__(source, timelines)
        self._format: PcmFormat = spec.push.pcm
        self._sound = Sound(spec.audio, far_end)
        rate = self._format.sample_rate_hz
        self._resampler = (
            rtc.AudioResampler(rate, SAMPLE_RATE, num_channels=self._sound.channels) if rate != SAMPLE_RATE else None
        )
        self._piece_bytes = int(SAMPLE_RATE * _PIECE_S) * 2 * self._sound.channels

    def change(self, spec: PublicationSpec) -> None:
        """Takes over how it is processed: see mediachange.in_place."""
        self._sound.process(spec.audio)

    def create_track(self, name: str) -> rtc.LocalAudioTrack:
        track = self._sound.create_track(name)
        self._tracks.append(track)
        return track

    async def produce(self, live: asyncio.Event) -> None:
        await live.wait()
        await self._play()
        if self._resampler is not None:
            for frame in self._resampler.flush():
                await self._hand_over(bytes(frame.data.cast("b")))
        await asyncio.sleep(_SOUND_LEAD_S + _LAST_PICTURE_S)

    async def aclose(self) -> None:
        await super().aclose()
        await self._sound.aclose()

    async def _show(self, frame: Pushed, due: float) -> None:
        await sleep_until(due - _SOUND_LEAD_S)
        samples = mixed(bytes(frame.data), self._format.channels, self._sound.channels)
        if self._resampler is None:
            await self._hand_over(samples)
        else:
            for resampled in self._resampler.push(bytearray(samples)):
                await self._hand_over(bytes(resampled.data.cast("b")))
        self._frames.taken(frame)

    async def _hand_over(self, samples: bytes) -> None:
        for begin in range(0, len(samples), self._piece_bytes):
            await self._sound.play(samples[begin : begin + self._piece_bytes])


def create_pushed(spec: PublicationSpec, source: PushSource, timelines: Timelines, far_end: FarEnd) -> Feeder:
    """The feeder of a spec with pushed sound or pictures. Raises PublishFailed where the server does not push."""
    if not source.socket_path:
        raise errors.PublishFailed("the server does not say where the frames come from")
    match spec.push.WhichOneof("format"):
        case "raw_video":
            return PushedPictures(spec, source, timelines)
        case "encoded_video":
            return PushedAccessUnits(spec, source, timelines)
        case _:
            return PushedSound(spec, source, timelines, far_end)
