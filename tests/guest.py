"""A participant in a process of its own, which can be stopped. Arguments: LiveKit's URL, an access token.

It publishes a sound, says `live`, and stays until it is ended.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import psutil
from livekit import api, rtc

from tests.livekit_process import LiveKitProcess, dying_with_parent


class Guest:
    """The process."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def stop(self) -> None:
        """It does nothing any more, and its connections stay."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It does."""
        self._process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def guest(livekit: LiveKitProcess, room: str, identity: str) -> AsyncIterator[Guest]:
    """In the room, with its microphone, for the span of the block."""
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=room))
    command = dying_with_parent(sys.executable, "-m", "tests.guest", livekit.url, token.to_jwt())
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 45) == b"live\n"
        yield Guest(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _publish(url: str, token: str) -> None:
    room = rtc.Room()
    await room.connect(url, token, rtc.RoomOptions(auto_subscribe=False))
    source = rtc.AudioSource(48_000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("mic", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    await room.local_participant.publish_track(track, options)
    print("live", flush=True)
    # Some noise, so that DTX leaves nothing out. The source's queue sets the pace.
    samples = bytes(number * 7919 % 251 for number in range(960))
    while True:
        await source.capture_frame(rtc.AudioFrame(samples, 48_000, 1, 480))


if __name__ == "__main__":
    asyncio.run(_publish(*sys.argv[1:]))
