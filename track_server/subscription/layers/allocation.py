"""Which layers fit into a budget. Pure.

The order: of two allocations the better one is the one that serves the first step that they do not both serve. Steps
come by priority, 100 first; within a priority every video's lowest layer before any second layer, and every second one
before any third; within those the cheaper step first, then by SID. Of all allocations within the budget the best is
taken.

That is found by taking the steps in their order, each if it still fits: later steps can always be left out, so that an
earlier one is never given up for them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

NO_LAYER: Final = -1
"""The index of no layer at all."""


@dataclass(frozen=True, slots=True)
class Want:
    """A video that wants layers.

    ``priority``: 1 to 100, 100 first. ``costs``: bits per second of each layer that it may have, lowest layer first;
    empty where it may have none.
    """

    sid: str
    priority: int
    costs: tuple[int, ...]


def allocate(wants: Iterable[Want], budget_bps: float | None) -> dict[str, int]:
    """The index in ``costs`` of the layer that each video gets, or NO_LAYER. O(n log n).

    ``budget_bps``: what there is for all of them, sound taken off; below 0 it is as 0. None: no budget. A layer that
    is declared to cost less than one below it counts as much as that one. The sum stays within the budget.
    """
    wants = list(wants)
    everything = {want.sid: len(want.costs) - 1 for want in wants}
    if budget_bps is None or spent_bps(wants, everything) <= budget_bps:
        return everything
    levels: dict[str, int] = {}
    steps: list[tuple[int, int, int, str]] = []
    for want in wants:
        levels[want.sid] = NO_LAYER
        paid = 0
        for index, cost in enumerate(want.costs):
            more = max(0, cost - paid)
            steps.append((-want.priority, index, more, want.sid))
            paid += more
    steps.sort()
    left = max(0.0, budget_bps)
    for _, index, more, sid in steps:
        # A step up is only there for those that have the one below it.
        if more <= left and levels[sid] == index - 1:
            levels[sid] = index
            left -= more
    return levels


def spent_bps(wants: Iterable[Want], levels: Mapping[str, int]) -> int:
    """What those levels cost together, as `allocate` counts."""
    return sum(max(want.costs[: levels[want.sid] + 1], default=0) for want in wants)
