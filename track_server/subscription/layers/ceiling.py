"""The layer of a video by all terms but the budget: the lowest of them, or what comes in its place. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from track.v1.subscription_pb2 import LayerFallback, LayerTermKind
from track_server.subscription.layers.terms import Term
from track_server.subscription.layers.video import HIGH, OFF, Layer, Video

# Terms that name the layer that is wanted. The others say what can be carried or decoded: nothing falls back above
# them.
_WISHES: Final = frozenset(
    {
        LayerTermKind.LAYER_TERM_KIND_POLICY,
        LayerTermKind.LAYER_TERM_KIND_MANUAL,
        LayerTermKind.LAYER_TERM_KIND_FOCUS,
        LayerTermKind.LAYER_TERM_KIND_VIEWPORT,
        LayerTermKind.LAYER_TERM_KIND_ADAPTIVE_STREAM,
    }
)
_WORDS: Final = {1: "LOW", 2: "MEDIUM", 3: "HIGH"}


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What may be received of a video before the budget.

    ``quality``: OFF to HIGH. ``offered``: the layers to be had up to it, lowest first: what the budget chooses from.
    ``limiting``: the lowest term, the first in the order of LayerTermKind. ``terms``: in that order, PUBLISHER first.
    ``frames_per_second``: the lowest of all terms; None where none limits it. ``fell_back``: whether the layer is
    another than the terms allow because the publisher does not send that one. ``fallback``: as it was given.
    """

    video: Video
    quality: int
    offered: tuple[Layer, ...]
    limiting: "LayerTermKind.ValueType"
    terms: tuple[Term, ...]
    frames_per_second: float | None
    fell_back: bool
    fallback: "LayerFallback.ValueType"


def ceiling(
    video: Video,
    terms: Iterable[Term],
    fallback: "LayerFallback.ValueType" = LayerFallback.LAYER_FALLBACK_UNSPECIFIED,
) -> Ceiling:
    """The lowest of the terms. ``terms``: all that are known but PUBLISHER and BUDGET, in any order."""
    available = video.available
    given = sorted(terms, key=_kind)
    wanted, lid = HIGH, HIGH
    named = False
    frames: float | None = None
    limiting, lowest = LayerTermKind.LAYER_TERM_KIND_PUBLISHER, available[-1].quality if available else OFF
    for term in given:
        if term.frames_per_second is not None and (frames is None or term.frames_per_second < frames):
            frames = term.frames_per_second
        quality = term.quality
        if quality is None:
            continue
        if quality < lowest:
            limiting, lowest = term.kind, quality
        if term.kind in _WISHES:
            named = True
            wanted = min(wanted, quality)
        else:
            lid = min(lid, _under(available, quality, term.kind))
    chosen = _received(available, wanted, fallback) if named else (available[-1].quality if available else OFF)
    result = min(chosen, lid)
    fell_back = named and wanted != OFF and result == chosen != wanted
    publisher = Term(
        LayerTermKind.LAYER_TERM_KIND_PUBLISHER,
        available[-1].quality if available else OFF,
        detail=_missing(video, wanted) if fell_back else "",
    )
    offered = tuple(layer for layer in available if layer.quality <= result)
    return Ceiling(video, result, offered, limiting, (publisher, *given), frames, fell_back, fallback)


def _received(available: Sequence[Layer], wanted: int, fallback: "LayerFallback.ValueType") -> int:
    """What is received where ``wanted`` is asked for: it, or what is to be had in its place."""
    below, above = OFF, OFF
    if wanted == OFF:
        return OFF
    for layer in available:
        if layer.quality == wanted:
            return wanted
        if layer.quality < wanted:
            below = layer.quality
        elif above == OFF:
            above = layer.quality
    match fallback:
        case LayerFallback.LAYER_FALLBACK_OFF:
            return OFF
        case LayerFallback.LAYER_FALLBACK_NEXT_HIGHER:
            return above or below
        case _:
            return below or above


def _under(available: Sequence[Layer], quality: int, kind: "LayerTermKind.ValueType") -> int:
    """The highest layer to be had up to ``quality``.

    Where there is none, the lowest: a limit that no layer can keep is LiveKit's to keep, which sends as many frames as
    there is room for. But what cannot be decoded is not sent.
    """
    if quality == OFF:
        return OFF
    found = OFF
    for layer in available:
        if layer.quality <= quality:
            found = layer.quality
    if found == OFF and available and kind != LayerTermKind.LAYER_TERM_KIND_CAPABILITY:
        return available[0].quality
    return found


def _missing(video: Video, quality: int) -> str:
    """Why the publisher does not send it."""
    declared = any(layer.quality == quality for layer in video.layers)
    return f"{_WORDS[quality]} is declared and not sent" if declared else f"{_WORDS[quality]} is not declared"


def _kind(term: Term) -> int:
    return term.kind
