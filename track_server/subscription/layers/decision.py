"""One subscriber's layers: all terms with the budget, and what is told of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from track.v1.subscription_pb2 import LayerDecision, LayerTermKind
from track_server.subscription.layers.allocation import NO_LAYER, Want
from track_server.subscription.layers.ceiling import Ceiling
from track_server.subscription.layers.terms import Term
from track_server.subscription.layers.video import OFF, Layer, message_quality


@dataclass(frozen=True, slots=True)
class Budget:
    """``bandwidth_bps``: what there is for a subscriber in all, sound included. ``detail``: whose it is.

    ``measured``: it is what the downlink carries, not what a policy gives.
    """

    bandwidth_bps: int
    detail: str = ""
    measured: bool = False


def budget_of(policy_bps: int | None, downlink_bps: int | None) -> Budget | None:
    """The smaller of a policy's and the reported downlink. None where neither is known."""
    if downlink_bps is not None and (policy_bps is None or downlink_bps < policy_bps):
        return Budget(downlink_bps, "the reported downlink", measured=True)
    return None if policy_bps is None else Budget(policy_bps, "the policy's")


def want(ceiling: Ceiling, priority: int) -> Want:
    """What the video wants of the budget. A muted one costs nothing."""
    muted = ceiling.video.muted
    costs = tuple(0 if muted else layer.cost_bps(ceiling.frames_per_second) for layer in ceiling.offered)
    return Want(ceiling.video.sid, priority, costs)


def layer_at(ceiling: Ceiling, level: int) -> Layer | None:
    """The layer at that level of its want, as `allocate` gives it; None for none."""
    return None if level == NO_LAYER else ceiling.offered[level]


def decision(ceiling: Ceiling, level: int, priority: int, budget: Budget | None) -> LayerDecision:
    """What is decided of a video.

    ``level``: as `allocate` gave it for its want. ``budget``: None where there is none.
    """
    layer = layer_at(ceiling, level)
    quality = OFF if layer is None else layer.quality
    by_budget = budget is not None and quality < ceiling.quality
    decided = LayerDecision(
        quality=message_quality(quality),
        frames_per_second=ceiling.frames_per_second,
        limiting_term=LayerTermKind.LAYER_TERM_KIND_BUDGET if by_budget else ceiling.limiting,
        terms=[term.message() for term in terms_with(ceiling, quality, budget)],
        priority=priority,
        fell_back=ceiling.fell_back and not by_budget,
    )
    if layer is not None:
        decided.bitrate_bps = layer.cost_bps(ceiling.frames_per_second)
        if layer.width and layer.height:
            decided.width, decided.height = layer.width, layer.height
    return decided


def terms_with(ceiling: Ceiling, quality: int, budget: Budget | None) -> Sequence[Term]:
    """The terms with that of the budget, in the order of LayerTermKind. Its quality is told where it limits."""
    if budget is None:
        return ceiling.terms
    limits = quality if quality < ceiling.quality else None
    kind = LayerTermKind.LAYER_TERM_KIND_BUDGET
    term = Term(kind, limits, bitrate_bps=budget.bandwidth_bps, detail=budget.detail)
    before = [each for each in ceiling.terms if each.kind < kind]
    return [*before, term, *ceiling.terms[len(before) :]]
