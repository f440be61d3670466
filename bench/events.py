"""Events as a room grows: an event costs what it tells, not what else is in the room."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import psutil
from livekit import rtc

from bench.figures import Figure, at_most, told
from bench.rounds import percentile, ratios, spread
from bench.stand import Stand
from tests.participants import Joined, participant
from tests.streams import EventStream, events
from tests.track_process import TrackProcess
from track.v1 import track_pb2

_SIZES: Final = (10, 100, 1000)
_ACTORS_TRACKS: Final = 5
# What another event costs is noise of the machine below this.
_GOAL: Final = 1.3
_WARM: Final = 20


@dataclass
class _Room:
    """A room of ``size`` tracks, its stream, and the one who changes: with ``_ACTORS_TRACKS`` of them in every room."""

    size: int
    actor: Joined
    stream: EventStream
    latencies_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    """Of the server for an event, round by round."""
    _turn: int = 0

    async def measure(self, track: TrackProcess, count: int) -> None:
        """A round: so many changes, one after the other."""
        server = psutil.Process(track.pid)
        begun = _cpu_s(server)
        for _ in range(count):
            self._turn += 1
            asked = time.monotonic()
            await self.actor.local_participant.set_attributes({"turn": str(self._turn)})
            await self.stream.until("participant_updated", self._seen)
            self.latencies_ms.append((time.monotonic() - asked) * 1e3)
        self.cpu_us.append((_cpu_s(server) - begun) / count * 1e6)

    def _seen(self, found: track_pb2.Participant) -> bool:
        return found.attributes.get("turn") == str(self._turn)


async def measure(stand: Stand) -> list[Figure]:
    """Rooms of 10, 100 and 1,000 tracks, watched at once; rounds in turn, so that what disturbs one disturbs all."""
    rounds, count = stand.effort.rounds, stand.effort.events
    async with stand.track_service({"TRACK_MEDIA_WORKERS": "0"}) as track, contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(_room(stand, track, size)) for size in _SIZES]
        for room in found:
            await room.measure(track, _WARM)
            room.latencies_ms.clear()
            room.cpu_us.clear()
        for number in range(rounds):
            for room in found[number % len(found) :] + found[: number % len(found)]:
                await room.measure(track, count)
    return [*_figures(found), *(_plain(room) for room in found)]


@contextlib.asynccontextmanager
async def _room(stand: Stand, track: TrackProcess, size: int) -> AsyncIterator[_Room]:
    """A room of ``size`` data tracks, all but a few of them of one participant who stands still."""
    name = await stand.room()
    grants = {"auto_subscribe": False, "can_update_own_metadata": True}
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        admin = await enter(track.client("bench", room_admin=True, room=name))
        stream = await enter(events(admin, name))
        await stream.snapshot()
        crowd = await enter(participant(stand.livekit, name, "crowd", **grants))
        actor = await enter(participant(stand.livekit, name, "actor", **grants))
        await _publish(actor, _ACTORS_TRACKS)
        await _publish(crowd, size - _ACTORS_TRACKS)
        published = 0
        while published < size:
            await stream.until("track_published")
            published += 1
        yield _Room(size, actor, stream)


async def _publish(joined: rtc.Room, count: int) -> None:
    for begin in range(0, count, 20):
        await asyncio.gather(
            *(
                joined.local_participant.publish_data_track(name=f"data-{number}")
                for number in range(begin, min(begin + 20, count))
            )
        )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _figures(rooms: list[_Room]) -> list[Figure]:
    small = rooms[0]
    figures = []
    for room in rooms[1:]:
        cpu = ratios(room.cpu_us, small.cpu_us)
        latency = median(room.latencies_ms) / median(small.latencies_ms)
        note = f"median of rounds {cpu}; the server process' CPU, watching and telling included, data tracks"
        figures.append(at_most(f"CPU per event, {room.size} tracks against 10", cpu.median, "ratio", _GOAL, note))
        note = "median latency from a participant's own change of its attributes to WatchEvents"
        figures.append(at_most(f"Event latency, {room.size} tracks against 10", latency, "ratio", _GOAL, note))
    return figures


def _plain(room: _Room) -> Figure:
    note = (
        f"{len(room.latencies_ms)} events; CPU {spread(room.cpu_us)} us each;"
        f" p95 {percentile(room.latencies_ms, 0.95):.2f} ms"
    )
    return told(f"Event latency in a room of {room.size} tracks, median", median(room.latencies_ms), "ms", note)
