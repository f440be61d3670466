"""The peer: encoded video published with LiveKit's official SDK alone, in one process."""

import asyncio
import time
from typing import Any

import uvloop
from livekit import rtc

from bench.access_units import BITRATE_BPS, FPS, HEIGHT, WIDTH, access_units, in_real_time
from bench.sdk_peer import SdkPeer, obeying


class Peer(SdkPeer):
    """One participant and its tracks."""

    def __init__(self) -> None:
        super().__init__()
        self._units = access_units()

    async def publish(self, url: str, token: str, tracks: int) -> None:
        """Joins, and publishes so many tracks, fed in real time."""
        await self._room.connect(url, token, rtc.RoomOptions(auto_subscribe=False, single_peer_connection=False))
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        options.video_codec = rtc.VideoCodec.VP8
        options.video_encoder = rtc.VideoEncoderBackend.ENCODER_BACKEND_PRE_ENCODED
        options.video_encoding.max_bitrate = BITRATE_BPS
        options.video_encoding.max_framerate = FPS
        for number in range(tracks):
            source = rtc.EncodedVideoSource(WIDTH, HEIGHT)
            track = rtc.LocalVideoTrack.create_video_track(f"encoded-{number}", source)
            await self._room.local_participant.publish_track(track, options)
            self._tasks.append(asyncio.create_task(self._feed(source)))

    async def _feed(self, source: rtc.EncodedVideoSource) -> None:
        asked = 0
        async for _, data, keyframe in in_real_time(self._units):
            kind = rtc.EncodedFrameType.ENCODED_FRAME_KEY if keyframe else rtc.EncodedFrameType.ENCODED_FRAME_DELTA
            now_us = time.monotonic_ns() // 1000
            self._taken += source.capture_frame(
                rtc.EncodedVideoFrame(data, WIDTH, HEIGHT, rtc.VideoCodec.VP8, kind, now_us)
            )
            # What a publisher of encoded video must look at.
            asked += source.take_feedback().keyframe_requested

    def commands(self) -> dict[str, Any]:
        """See SdkPeer."""
        return {"publish": self.publish}


if __name__ == "__main__":
    uvloop.run(obeying(Peer))
