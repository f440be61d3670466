"""The relay in a process of its own, so that nobody else's work delays it, and what it knows at the end."""

import asyncio
import itertools
import time
import zlib
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from bench.impairment.profiles import Hop
from bench.impairment.truth import Change, Direction, Line, Stream
from bench.processes import Helper, obey
from bench.rounds import percentile
from tests.impairment.line import Bounds, Way
from tests.impairment.relay import Flow, Relay

_BEAT_S: Final = 0.01
_SECOND: Final = 100
"""Beats, about."""
_LATE_SHARE: Final = 0.9
_REMEMBERED: Final = 7200
"""Seconds."""
_ADOPTING: Final = 20
"""Beats between two looks for lines that have no name yet."""
_KEPT: Final = ("due_s", "passed", "payload_bytes", "rtp_time", "sequence")


class RelayProcess:
    """`async with`: a relay in a child. Clients' lines have names, by what goes over them."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.port = 0
        """Where LiveKit is to listen."""
        self._directory = directory
        self._seed = seed
        self._helper = Helper("bench.impairment.relaying")
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._helper.__aenter__()
        self.port = await self._ask("begin", seed=self._seed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._helper.__aexit__(kind, error, trace)

    async def name(self, name: str, *, up: Collection[int] = (), down: Collection[int] = ()) -> None:
        """The line on which these SSRCs go to LiveKit, or come from it, is of that name, with those that it has: after
        a reconnect it is another one. What holds for the name holds for it at once."""
        await self._ask("name", name=name, up=list(up), down=list(down))

    async def change(self, name: str, hop: Hop, bounds: Bounds) -> float:
        """From now on these hold there: on the way up for the uplink, else down. Returns when, seconds UTC."""
        told: float = await self._ask("change", name=name, up=hop is Hop.UPLINK, bounds=asdict(bounds))
        return told

    async def take(self, name: str) -> Line:
        """All that happened on that line, which is forgotten: nothing passes any more."""
        path = self._directory / f"{time.monotonic_ns()}.npz"
        changes: Mapping[str, list[Any]] = await self._ask("take", name=name, path=str(path))
        line = await asyncio.to_thread(_read, path, changes)
        path.unlink()
        return line

    async def own(self) -> dict[str, float]:
        """What it adds itself, since this was asked last: ``late_p50_ms``, ``late_p99_ms`` of packets that waited and
        of its own clock's beats together, ``late_max_ms``, and ``unsent`` packets since it began."""
        told: dict[str, float] = await self._ask("own")
        return told

    async def _ask(self, command: str, **arguments: Any) -> Any:
        async with self._asking:
            return await self._helper.ask(command, **arguments)


class _Relaying:
    """The child's side."""

    def __init__(self) -> None:
        self._relay: Relay | None = None
        self._named: dict[str, list[Flow]] = {}
        self._claimed: dict[str, tuple[set[int], set[int]]] = {}
        """SSRCs by name: up, and down."""
        self._changes: dict[tuple[str, bool], list[tuple[float, Bounds]]] = {}
        self._seed = 0
        self._beats: list[float] = []
        self._late: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)
        """Of each second, when it ended (the loop's clock), and how late nine of ten beats were at most."""
        self._beating: asyncio.Task[None] | None = None

    async def begin(self, seed: int) -> int:
        self._seed = seed
        self._relay = await Relay(seed=seed, logged=True).__aenter__()
        self._beating = asyncio.create_task(self._beat())
        return self._relay.port

    async def name(self, name: str, up: list[int], down: list[int]) -> None:
        claimed = self._claimed.setdefault(name, (set(), set()))
        claimed[0].update(up)
        claimed[1].update(down)
        self._adopt()

    async def change(self, name: str, up: bool, bounds: dict[str, Any]) -> float:
        self._adopt()
        told = Bounds(**bounds)
        now_s = asyncio.get_running_loop().time()
        for flow in self._named.get(name, []):
            self._apply(name, flow.up if up else flow.down, now_s, told)
        self._changes.setdefault((name, up), []).append((now_s, told))
        return now_s + _utc_offset_s()

    async def take(self, name: str, path: str) -> dict[str, Any]:
        assert self._relay is not None
        self._adopt()
        flows = self._named.pop(name, [])
        self._claimed.pop(name, None)
        self._relay.forget(flows)
        columns: dict[str, Any] = {"offset_s": _utc_offset_s()}
        for number, flow in enumerate(flows):
            for label, way in (("up", flow.up), ("down", flow.down)):
                columns.update(_columns(f"{label}/{number}", way))
        await asyncio.to_thread(np.savez, path, **columns)
        offset_s = _utc_offset_s()
        return {
            label: [(at_s + offset_s, asdict(bounds)) for at_s, bounds in self._changes.pop((name, label == "up"), [])]
            for label in ("up", "down")
        } | {"late": [(at_s + offset_s, late_s) for at_s, late_s in self._late]}

    async def own(self) -> dict[str, float]:
        assert self._relay is not None
        late = [*self._relay.lateness_s, *self._beats]
        self._relay.lateness_s.clear()
        self._beats.clear()
        if not late:
            return {"unsent": self._relay.unsent}
        return {
            "late_p50_ms": 1e3 * percentile(late, 0.5),
            "late_p99_ms": 1e3 * percentile(late, 0.99),
            "late_max_ms": 1e3 * max(late),
            "unsent": self._relay.unsent,
        }

    async def aclose(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._relay is not None:
            await self._relay.__aexit__(None, None, None)

    def commands(self) -> dict[str, Any]:
        return {
            "begin": self.begin, "name": self.name, "change": self.change, "take": self.take, "own": self.own,
        }  # fmt: skip

    def _adopt(self) -> None:
        """Lines on which something of a name has come by now are its: LiveKit may know an SSRC before its first packet.
        They get what holds for the name."""
        assert self._relay is not None
        for name, (up, down) in self._claimed.items():
            known = self._named.setdefault(name, [])
            for flow in self._relay.flows:
                if flow in known or not (_carries(flow.up, up) or _carries(flow.down, down)):
                    continue
                known.append(flow)
                for towards, way in ((True, flow.up), (False, flow.down)):
                    if changes := self._changes.get((name, towards)):
                        self._apply(name, way, *changes[-1])

    def _apply(self, name: str, way: Way, now_s: float, bounds: Bounds) -> None:
        """What is drawn from now on rests on the name and not on who came first."""
        way.seed(zlib.crc32(f"{self._seed}/{name}/{len(way.changes)}".encode()))
        way.change(bounds, now_s)

    async def _beat(self) -> None:
        """How late this process comes to its own work."""
        loop = asyncio.get_running_loop()
        second: list[float] = []
        for number in itertools.count():
            due_s = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            late_s = loop.time() - due_s
            self._beats.append(late_s)
            second.append(late_s)
            if len(second) == _SECOND:
                self._late.append((loop.time(), percentile(second, _LATE_SHARE)))
                second.clear()
            if number % _ADOPTING == 0:
                self._adopt()


def _carries(way: Way, ssrcs: Collection[int]) -> bool:
    return way.log is not None and any(ssrc in way.log for ssrc in ssrcs)


def _columns(prefix: str, way: Way) -> dict[str, Any]:
    assert way.log is not None
    if way.overflowed:
        raise OverflowError("more packets than are logged: there is no truth of them")
    found: dict[str, Any] = {}
    for ssrc, packets in way.log.items():
        for name in _KEPT:
            found[f"{prefix}/{ssrc}/{name}"] = np.asarray(getattr(packets, name))
        found[f"{prefix}/{ssrc}/payload_types"] = np.asarray(sorted(packets.payload_types))
    return found


def _read(path: Path, changes: Mapping[str, list[Any]]) -> Line:
    with np.load(path) as file:
        columns: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for key in sorted(file.files):
            if key == "offset_s":
                continue
            label, number, ssrc, name = key.split("/")
            parts = columns.setdefault((label, int(ssrc)), [])
            if not parts or parts[-1]["number"] != number:
                parts.append({"number": number})
            parts[-1][name] = file[key]
        offset_s = float(file["offset_s"])
    found: dict[str, dict[int, Stream]] = {"up": {}, "down": {}}
    for (label, ssrc), parts in columns.items():
        # One that moved to another line (it connected anew) goes on there.
        parts.sort(key=lambda part: part["due_s"][0])
        joined = {name: np.concatenate([part[name] for part in parts]) for name in (*_KEPT, "payload_types")}
        found[label][ssrc] = Stream.made(ssrc, joined, offset_s, at_source=label == "up")
    directions = {
        label: Direction(found[label], [Change(at_s, Bounds(**bounds)) for at_s, bounds in changes[label]])
        for label in ("up", "down")
    }
    return Line(**directions, late=[(at_s, late_s) for at_s, late_s in changes["late"]])


def _utc_offset_s() -> float:
    """From the loop's clock to UTC."""
    return time.time() - asyncio.get_running_loop().time()


async def _main() -> None:
    relaying = _Relaying()
    try:
        await obey(relaying.commands())
    finally:
        await relaying.aclose()


if __name__ == "__main__":
    # Its clock is exact where uvloop's moves once a turn.
    asyncio.run(_main())
