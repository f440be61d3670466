"""What idle rooms cost: watched by TrackService's watchers, and held by hidden participants of the official SDK."""

import asyncio
from dataclasses import dataclass
from typing import Final

import psutil

from bench.figures import Figure, at_most
from bench.processes import Helper, cpu_s
from bench.rounds import Spread, ratios, spread
from bench.stand import Stand
from track.v1.track_pb2 import FRESHNESS_SOURCE_WATCHED

_CPU_GOAL: Final = 1 / 15
_MEMORY_GOAL: Final = 1 / 10
# Transports come up, and joins are forgotten.
_SETTLE_S: Final = 6.0
_WINDOW_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class _Process:
    """One side: its process, and the memory that it took before it held anything but one room, which it left."""

    helper: Helper
    before: int

    def memory(self) -> float:
        """Bytes more than before."""
        return _memory(self.helper.pid) - self.before


async def measure(stand: Stand) -> list[Figure]:
    """Both sides hold their rooms at the same time, and are measured over the same windows."""
    count, livekit = stand.effort.idle_rooms, stand.livekit
    everywhere = stand.server_cpus | stand.client_cpus
    rooms = await stand.rooms(2 * count + 2)
    server = {"url": livekit.url, "key": livekit.api_key, "secret": livekit.api_secret}
    async with Helper("bench.holding", cpus=everywhere) as watching, Helper("bench.sdk", cpus=everywhere) as sdk:

        async def watch(names: list[str]) -> None:
            sources = await watching.ask("hold", **server, http_url=livekit.http_url, rooms=names)
            if set(sources) != {FRESHNESS_SOURCE_WATCHED}:
                raise AssertionError("not every room is watched")

        async def join(names: list[str]) -> None:
            tokens = [stand.token("hidden", room=name, room_join=True, hidden=True) for name in names]
            await sdk.ask("hold", url=livekit.url, tokens=tokens)

        await watch(rooms[:1])
        await join(rooms[1:2])
        await watching.ask("leave")
        await sdk.ask("leave")
        ours = _Process(watching, _memory(watching.pid))
        theirs = _Process(sdk, _memory(sdk.pid))
        await watch(rooms[2 : 2 + count])
        await join(rooms[2 + count :])
        await asyncio.sleep(_SETTLE_S)
        cpu_ours: list[float] = []
        cpu_theirs: list[float] = []
        for _ in range(stand.effort.rounds):
            before = cpu_s(watching.pid), cpu_s(sdk.pid)
            await asyncio.sleep(_WINDOW_S)
            cpu_ours.append((cpu_s(watching.pid) - before[0]) / _WINDOW_S)
            cpu_theirs.append((cpu_s(sdk.pid) - before[1]) / _WINDOW_S)
        memory_ours, memory_theirs = ours.memory(), theirs.memory()
    cpu = sum(cpu_ours) / sum(cpu_theirs)
    how = (
        f"{count} rooms each, at the same time, in two processes on both cores, {stand.effort.rounds} windows of"
        f" {_WINDOW_S:g} s"
    )
    return [
        at_most(
            f"{count} watched idle rooms against hidden rtc.Room: processor",
            cpu,
            "ratio",
            _CPU_GOAL,
            f"{how}, sums compared: {_percent(cpu_ours)} against {_percent(cpu_theirs)} % of a core;"
            f" window by window {ratios(cpu_ours, cpu_theirs)}",
        ),
        at_most(
            f"{count} watched idle rooms against hidden rtc.Room: memory",
            memory_ours / memory_theirs,
            "ratio",
            _MEMORY_GOAL,
            f"private memory (USS) beyond that of the same process after it had held one room and left it:"
            f" {memory_ours / 1e6:.1f} against {memory_theirs / 1e6:.1f} MB for {count} rooms",
        ),
    ]


def _memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_full_info().uss)


def _percent(shares: list[float]) -> Spread:
    return spread([share * 100 for share in shares])
