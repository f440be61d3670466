"""A client unmutes itself under a moderation block: how long until it is muted again, as others see it."""

import asyncio
import time
from typing import Final

from livekit import rtc

from bench.figures import Figure, at_most
from bench.rounds import percentile
from bench.stand import Stand
from tests.livekit_rooms import existing_room
from tests.participants import microphone, participant
from track.v1 import tracks_pb2

_ROOM: Final = "bench-blocks"
_GOAL_S: Final = 1.0
_DEADLINE_S: Final = 10.0
_PAUSE_S: Final = 0.05


class _Seen:
    """When another participant saw the track unmuted and muted last."""

    def __init__(self, room: rtc.Room) -> None:
        self.unmuted = self.muted = 0.0
        self._changed = asyncio.Event()
        room.on("track_unmuted", lambda *_: self._mark(muted=False))
        room.on("track_muted", lambda *_: self._mark(muted=True))

    def _mark(self, *, muted: bool) -> None:
        if muted:
            self.muted = time.monotonic()
        else:
            self.unmuted = time.monotonic()
        self._changed.set()

    async def muted_after(self, moment: float) -> float:
        """When it was seen muted, after it was seen unmuted after ``moment``."""
        async with asyncio.timeout(_DEADLINE_S):
            while not self.muted >= self.unmuted > moment:
                self._changed.clear()
                await self._changed.wait()
        return self.muted


async def measure(stand: Stand) -> list[Figure]:
    """One participant blocked, one that looks on, both with the official SDK."""
    async with (
        existing_room(stand.livekit, _ROOM),
        stand.track_service({"TRACK_MEDIA_WORKERS": "0"}) as track,
        track.client("bench", room_admin=True, room=_ROOM) as admin,
        participant(stand.livekit, _ROOM, "fighter") as fighter,
        participant(stand.livekit, _ROOM, "observer") as observer,
    ):
        mic = await microphone(fighter)
        await fighter.announced(mic.sid)
        request = tracks_pb2.MuteTracksRequest(room=_ROOM, tracks=[tracks_pb2.TrackRef(track_sid=mic.sid)], block=True)
        await admin.MuteTracks(request, timeout=_DEADLINE_S)
        seen = _Seen(observer)
        taken: list[float] = []
        for _ in range(max(20, stand.effort.events // 10)):
            await _settled(mic)
            begun = time.monotonic()
            if mic.track is not None:
                mic.track.unmute()
            taken.append(await seen.muted_after(begun) - begun)
    note = (
        f"{len(taken)} times, from the call of the SDK with which the participant unmutes itself to the moment when"
        f" another participant sees it muted again; p50 {percentile(taken, 0.5) * 1e3:.1f} ms, worst"
        f" {max(taken) * 1e3:.1f} ms"
    )
    return [at_most("Self-unmute under a block to muted again, p95", percentile(taken, 0.95), "s", _GOAL_S, note)]


async def _settled(mic: rtc.LocalTrackPublication) -> None:
    """The client knows that it is muted: unmuting what is not muted would do nothing."""
    async with asyncio.timeout(_DEADLINE_S):
        while not mic.muted:
            await asyncio.sleep(0.005)
    await asyncio.sleep(_PAUSE_S)
