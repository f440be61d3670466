"""Calls about focus, and participants that speak."""

import array
import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from livekit import rtc

from tests.publications import DEADLINE_S
from tests.track_process import Client
from track.v1 import subscription_pb2 as pb

SCREEN: Final = pb.FOCUS_RANK_SCREEN_SHARE
PINNED: Final = pb.FOCUS_RANK_PINNED
ON_STAGE: Final = pb.FOCUS_RANK_ON_STAGE
SPEAKER: Final = pb.FOCUS_RANK_SPEAKER

_RATE: Final = 48000
_FRAME: Final = 480


def whole(identity: str) -> pb.FocusTarget:
    """All media tracks of a participant."""
    return pb.FocusTarget(participant_identity=identity)


def single(track_sid: str) -> pb.FocusTarget:
    """One track."""
    return pb.FocusTarget(track_sid=track_sid)


async def set_focus(client: Client, room: str, identity: str = "", *, validate_only: bool = False, **focus: Any) -> Any:
    """The focus as it is kept."""
    request = pb.SetFocusRequest(
        room=room, participant_identity=identity, focus=pb.Focus(**focus), validate_only=validate_only
    )
    return (await client.SetFocus(request, timeout=45)).focus


async def get_focus(client: Client, room: str, identity: str = "") -> pb.GetFocusResponse:
    """The focus, and what is in it."""
    request = pb.GetFocusRequest(room=room, participant_identity=identity)
    answer: pb.GetFocusResponse = await client.GetFocus(request, timeout=45)
    return answer


async def clear_focus(client: Client, room: str, identity: str = "", *, validate_only: bool = False) -> Any:
    """What is answered."""
    request = pb.ClearFocusRequest(room=room, participant_identity=identity, validate_only=validate_only)
    return await client.ClearFocus(request, timeout=45)


def focused(tracks: Any) -> list[tuple[str, int, int]]:
    """Identity, rank and priority of each track."""
    return [(track.participant_identity, track.rank, track.priority) for track in tracks]


async def in_focus(
    client: Client, room: str, matches: Callable[[list[tuple[str, int, int]]], bool], identity: str = ""
) -> pb.GetFocusResponse:
    """Waits until what is in focus ``matches``."""
    found: list[tuple[str, int, int]] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answer = await get_focus(client, room, identity)
                if matches(found := focused(answer.tracks)):
                    return answer
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"in focus there is {found}") from None


class Voice:
    """A microphone that hums while ``speaks``: a tone, now louder and now softer."""

    def __init__(self) -> None:
        # With a long queue what is said is heard a second later.
        self.source = rtc.AudioSource(_RATE, 1, queue_size_ms=100)
        self.speaks = False

    async def run(self) -> None:
        """Feeds the microphone."""
        for number in itertools.count():
            loud = (0.1 if number // 60 % 2 else 0.5) * 32767 if self.speaks else 0
            tone = (int(loud * math.sin(math.tau * 440 * (number * _FRAME + n) / _RATE)) for n in range(_FRAME))
            data = array.array("h", tone).tobytes()
            await self.source.capture_frame(rtc.AudioFrame(data, _RATE, 1, _FRAME))


@contextlib.asynccontextmanager
async def voice(joined: rtc.Room) -> AsyncIterator[Voice]:
    """Publishes a microphone that is silent until it is to speak."""
    made = Voice()
    track = rtc.LocalAudioTrack.create_audio_track("mic", made.source)
    # LiveKit hears microphones alone.
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    await joined.local_participant.publish_track(track, options)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.source.aclose()
