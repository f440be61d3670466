"""The example of docs/simulcast.md: its tables are what the functions give for its numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from track.v1.subscription_pb2 import LayerTermKind, SubscriptionSettings
from track.v1.track_pb2 import Track, VideoQuality
from track_server.subscription.layers.allocation import allocate
from track_server.subscription.layers.ceiling import Ceiling, ceiling
from track_server.subscription.layers.cost import sound_bps
from track_server.subscription.layers.decision import Budget, decision, want
from track_server.subscription.layers.hysteresis import Allocator
from track_server.subscription.layers.terms import Term, settings_term, viewport_term
from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, Layer, Video

DOCUMENT: Final = Path(__file__).resolve().parents[3] / "docs" / "simulcast.md"

CAMERA: Final = (
    Layer(LOW, 320, 180, 160_000),
    Layer(MEDIUM, 640, 360, 450_000),
    Layer(HIGH, 1280, 720, 1_700_000),
)
FOCUS: Final = LayerTermKind.LAYER_TERM_KIND_FOCUS
MANUAL: Final = LayerTermKind.LAYER_TERM_KIND_MANUAL
OTHERS: Final = SubscriptionSettings(quality=VideoQuality.VIDEO_QUALITY_LOW)
MICROPHONES: Final = 3 * [Track(mime_type="audio/red", red=True)]
WORDS: Final = {LOW: "LOW", MEDIUM: "MEDIUM", HIGH: "HIGH"}


@dataclass(frozen=True)
class Tile:
    """A video of the example."""

    name: str
    video: Video
    priority: int
    terms: Sequence[Term | None]

    @property
    def ceiling(self) -> Ceiling:
        return ceiling(self.video, [term for term in self.terms if term is not None])


def tiles() -> list[Tile]:
    ann, ben, dan = (Video(name, CAMERA) for name in ("Ann", "Ben", "Dan"))
    cleo = Video("Cleo", (CAMERA[0], CAMERA[2]))
    eve = Video("Eve", (Layer(HIGH, 640, 360),))
    return [
        Tile(
            "Ann",
            ann,
            95,
            [Term(FOCUS, detail="PINNED"), viewport_term(ann, visible=True, width=1280, height=720)],
        ),
        Tile("Ben", ben, 50, [settings_term(FOCUS, ben, OTHERS, "OTHERS")]),
        Tile(
            "Cleo",
            cleo,
            85,
            [
                settings_term(MANUAL, cleo, SubscriptionSettings(quality=VideoQuality.VIDEO_QUALITY_MEDIUM)),
                Term(FOCUS, detail="ON_STAGE"),
            ],
        ),
        Tile(
            "Dan",
            dan,
            50,
            [
                settings_term(FOCUS, dan, OTHERS, "OTHERS"),
                viewport_term(dan, visible=False, width=None, height=None),
            ],
        ),
        Tile("Eve", eve, 50, [settings_term(FOCUS, eve, OTHERS, "OTHERS")]),
    ]


def number(value: int) -> str:
    return f"{value:,}"


def word(value: "VideoQuality.ValueType") -> str:
    return VideoQuality.Name(value).removeprefix("VIDEO_QUALITY_")


def table(*rows: Iterable[str]) -> str:
    head, *rest = (" | ".join(row) for row in rows)
    return "\n".join(f"| {line} |" for line in [head, " | ".join(["---"] * (head.count(" | ") + 1)), *rest]) + "\n"


def ceilings() -> str:
    """What is known of each video, and what comes of it before the budget."""
    rows = [("video", "layers, bits per second", "priority", "terms", "before the budget", "limited by")]
    for tile in tiles():
        found = tile.ceiling
        layers = ", ".join(f"{WORDS[layer.quality]} {number(layer.cost_bps())}" for layer in tile.video.layers)
        terms = ", ".join(
            f"{LayerTermKind.Name(term.kind).removeprefix('LAYER_TERM_KIND_')}"
            + (f" {word(term.message().quality)}" if term.quality is not None else f" ({term.detail})")
            for term in found.terms
        )
        before = decision(found, len(found.offered) - 1, tile.priority, None)
        fell = " (fell back)" if found.fell_back else ""
        limit = LayerTermKind.Name(found.limiting).removeprefix("LAYER_TERM_KIND_")
        rows.append((tile.name, layers, str(tile.priority), terms, word(before.quality) + fell, limit))
    return table(*rows)


def allocation(budget: int) -> str:
    """What each gets of it."""
    sound = sum(sound_bps(track) for track in MICROPHONES)
    levels = allocate([want(tile.ceiling, tile.priority) for tile in tiles()], budget - sound)
    rows = [("video", "receives", "bits per second", "limited by")]
    total = sound
    for tile in tiles():
        found = decision(tile.ceiling, levels[tile.name], tile.priority, Budget(budget))
        total += found.bitrate_bps
        limit = LayerTermKind.Name(found.limiting_term).removeprefix("LAYER_TERM_KIND_")
        rows.append((tile.name, word(found.quality), number(found.bitrate_bps), limit))
    rows.append(("three microphones", "", number(sound), ""))
    rows.append(("together", "", number(total), ""))
    return table(*rows)


def steps() -> str:
    """How Ann's layer follows a budget that moves."""
    ann = tiles()[0]
    allocator = Allocator()
    rows = [("at", "budget", "Ann receives")]
    for second, budget in (
        (0, 1_000_000),
        (20, 400_000),
        (21, 1_000_000),
        (29, 500_000),
        (31, 1_000_000),
        (41, 1_000_000),
    ):
        level = allocator.step(second, [want(ann.ceiling, ann.priority)], budget)["Ann"]
        rows.append((f"{second} s", number(budget), word(decision(ann.ceiling, level, 95, None).quality)))
    return table(*rows)


@pytest.mark.parametrize("written", [ceilings(), allocation(1_000_000), allocation(1_200_000), steps()])
def test_the_example_is_computed(written: str) -> None:
    assert written in DOCUMENT.read_text()
