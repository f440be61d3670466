"""How far picture and sound of a clip are apart at a subscriber."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
from livekit import rtc

from tests.media.viewer import Viewer, luma

MAX_SKEW_S = 0.045
"""ITU-R BT.1359: what is less is not noticed, whichever comes first."""
_FIND_S = 0.5


async def skews(seen: Viewer, *, video_sid: str, audio_sid: str) -> AsyncIterator[float]:
    """Seconds by which the tone of a looped `write_clip` begins after its picture has become bright, once a round.

    Both are taken when the SDK hands them out: their decoding and jitter buffers are in it, so is this process.
    """
    loop = asyncio.get_running_loop()
    stream = rtc.AudioStream(await seen.subscribe(audio_sid), sample_rate=48_000, num_channels=1, frame_size_ms=10)
    loud: list[float] = []

    async def listen() -> None:
        silent = False
        async for event in stream:
            level = np.abs(np.frombuffer(event.frame.data, dtype=np.int16).astype(float))
            if silent and level.max() > 2000:
                # The first loud sample, in the frame of 10 ms that has just come.
                loud.append(loop.time() - (len(level) - int(np.argmax(level > 2000))) / 48_000 + 0.01)
                silent = False
            elif level.mean() < 100:
                silent = True

    listening = asyncio.create_task(listen())
    try:
        async with seen.frames(video_sid) as frames:
            dark = False
            while True:
                _, frame = await frames.get()
                came, brightness = loop.time(), float(luma(frame).mean())
                if dark and brightness > 150:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_FIND_S):
                            while not any(abs(moment - came) < _FIND_S for moment in loud):
                                await asyncio.sleep(0.01)
                        yield min((moment - came for moment in loud), key=abs)
                dark = brightness < 90 if brightness < 90 or brightness > 150 else dark
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await stream.aclose()
