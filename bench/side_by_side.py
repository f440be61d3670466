"""What the service takes of a processor, against LiveKit's SDK alone, while both do the same at the same time."""

import asyncio
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure, at_least
from bench.processes import Helper, cpu_s, tree_cpu_s
from bench.rounds import ratios, spread

_GOAL: Final = 0.7
# The connections come up, and WebRTC finds out what they carry.
_SETTLE_S: Final = 8.0
_WINDOW_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class Sides:
    """Processor time in seconds for a thousand frames, window by window."""

    ours: list[float]
    theirs: list[float]

    def figure(self, name: str, what: str) -> Figure:
        """Theirs by ours, over all windows. ``what`` was done, and what is counted as whose."""
        note = (
            f"{what}: s {spread(self.ours)} against {spread(self.theirs)}; {len(self.ours)} windows of {_WINDOW_S:g} s,"
            f" sums compared; window by window {ratios(self.theirs, self.ours)}"
        )
        value = sum(self.theirs) / sum(self.ours)
        return at_least(f"{name} throughput per core against the bare SDK", value, "ratio", _GOAL, note)


async def side_by_side(track_pid: int, caller: Helper, sdk: Helper, rounds: int) -> Sides:
    """Measures both, once they have settled: the server and all below it for what the ``caller`` counts, and ``sdk``,
    one process, for what it counts itself. Each answers `taken`.
    """

    async def taken() -> tuple[float, float, float, float]:
        return tree_cpu_s(track_pid), cpu_s(sdk.pid), await caller.ask("taken"), await sdk.ask("taken")

    await asyncio.sleep(_SETTLE_S)
    sides = Sides([], [])
    for _ in range(rounds):
        before = await taken()
        await asyncio.sleep(_WINDOW_S)
        spent = [later - earlier for earlier, later in zip(before, await taken(), strict=True)]
        sides.ours.append(1000 * spent[0] / spent[2])
        sides.theirs.append(1000 * spent[1] / spent[3])
    return sides
