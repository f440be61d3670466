"""What is found wrong, and by what: one entry a detector. Numbers, no code; tuned by replay."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from track_server.quality.core.measuring.reading import Hop, Media


class AlertKind(IntEnum):
    """What is wrong."""

    NETWORK_LOSS = 1
    SEVERE_LOSS = 2
    DELAY = 3
    CONGESTION = 4
    STALLED = 5
    STUCK_DECODER = 6
    CPU = 7
    BAD_AUDIO = 8
    LOW_BANDWIDTH = 9
    FLAPPING = 10
    SILENT_SOURCE = 11
    BLACK_SOURCE = 12
    INTERRUPTED = 13


Gauge = Literal[
    "rtt_ms",
    "rtt_rise_ms",
    "stalled_s",
    "gap_s",
    "stuck_s",
    "cpu_limited",
    "cpu_load",
    "bandwidth_limited",
    "silent_s",
    "black_s",
    "level_changes",
]
"""What a Steady entry reads, by its name in Facts."""

Count = Literal["loss", "concealed"]
"""What a Sequential entry reads, by its name in Facts."""

BOTH: Final = frozenset(Hop)
ALL: Final = frozenset(Media)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """Weighs packets: a sequential test of a higher share against a lower one, one to go on and one to go off.

    Going on, ``on`` = (p0, p1): each packet adds the log of how much likelier it is at a share of p1 than of p0, not
    below 0, and at ``on_at`` the alert is on; the turning point lies between the two. Going off likewise with ``off``,
    downwards from ``off_at``. One reading adds at most 0.6 of ``on_at`` and takes at most an eighth of ``off_at``, so
    that no single second decides. ``least``: so many lost in all before it goes on. ``cool_down_s``: so
    long it stays off.
    """

    kind: AlertKind
    reads: Count
    on: tuple[float, float]
    on_at: float
    off: tuple[float, float]
    off_at: float
    least: int
    cool_down_s: float
    hops: frozenset[Hop] = BOTH
    media: frozenset[Media] = ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """A number that has been at ``on`` or above for ``on_s`` seconds goes on, at ``off`` or below for ``off_s`` off.

    ``least``: so many readings in that time. A number that is not told neither begins nor ends anything.
    """

    kind: AlertKind
    reads: Gauge
    on: float
    on_s: float
    off: float
    off_s: float
    least: int
    cool_down_s: float
    hops: frozenset[Hop] = BOTH
    media: frozenset[Media] = ALL


Detector = Sequential | Steady

_AUDIO: Final = frozenset({Media.AUDIO})
_VIDEO: Final = frozenset({Media.VIDEO})
_UP: Final = frozenset({Hop.UPLINK})
_DOWN: Final = frozenset({Hop.DOWNLINK})

DETECTORS: Final[tuple[Detector, ...]] = (
    # Turns at 5.1 % and at 2.2 %: over 5 %, off under 2 %.
    Sequential(
        kind=AlertKind.NETWORK_LOSS,
        reads="loss",
        on=(0.03, 0.08),
        on_at=6.0,
        off=(0.01, 0.04),
        off_at=14.0,
        least=6,
        cool_down_s=5.0,
    ),
    # Turns at 9.9 % and at 5.5 %.
    Sequential(
        kind=AlertKind.SEVERE_LOSS,
        reads="loss",
        on=(0.06, 0.15),
        on_at=9.0,
        off=(0.03, 0.09),
        off_at=16.0,
        least=15,
        cool_down_s=5.0,
    ),
    # A round trip of 400 ms is 200 one way; with the other hop and the buffers it is beyond G.114's 400 ms.
    Steady(kind=AlertKind.DELAY, reads="rtt_ms", on=400, on_s=4, off=300, off_s=8, least=4, cool_down_s=5),
    # Queues fill before they drop: a round trip that rises above what this line is used to.
    Steady(kind=AlertKind.CONGESTION, reads="rtt_rise_ms", on=120, on_s=4, off=50, off_s=8, least=4, cool_down_s=5),
    # Bytes are seen once a second: 4.6 s after they were last seen to move, none came for 5 s in the mean.
    Steady(kind=AlertKind.STALLED, reads="stalled_s", on=4.6, on_s=0, off=1.5, off_s=3, least=1, cool_down_s=0),
    # Readings come once a second, so of a blackout of 3 s between 2 and 3 are seen while it lasts.
    Steady(
        kind=AlertKind.INTERRUPTED,
        reads="gap_s",
        on=1.9,
        on_s=0,
        off=0.9,
        off_s=3,
        least=1,
        cool_down_s=0,
        hops=_DOWN,
    ),
    # Packets that are told lost once they come again: in half a second less than 3 s there may be none.
    Steady(
        kind=AlertKind.INTERRUPTED,
        reads="gap_s",
        on=2.5,
        on_s=0,
        off=0.9,
        off_s=3,
        least=1,
        cool_down_s=0,
        hops=_UP,
    ),
    Steady(
        kind=AlertKind.STUCK_DECODER,
        reads="stuck_s",
        on=5,
        on_s=0,
        off=1.5,
        off_s=3,
        least=1,
        cool_down_s=0,
        hops=_DOWN,
        media=_VIDEO,
    ),
    Steady(
        kind=AlertKind.CPU,
        reads="cpu_limited",
        on=1,
        on_s=5,
        off=0,
        off_s=10,
        least=4,
        cool_down_s=10,
        hops=_UP,
        media=_VIDEO,
    ),
    # From 0.85 on the layer min's CPU term lowers a layer every 5 s, until below 0.7: here that did not suffice.
    Steady(
        kind=AlertKind.CPU,
        reads="cpu_load",
        on=0.9,
        on_s=5,
        off=0.7,
        off_s=10,
        least=4,
        cool_down_s=10,
        hops=_DOWN,
        media=_VIDEO,
    ),
    # Turns at 5.1 % and 2.2 % of frames of 20 ms that were made up.
    Sequential(
        kind=AlertKind.BAD_AUDIO,
        reads="concealed",
        on=(0.03, 0.08),
        on_at=6.5,
        off=(0.01, 0.04),
        off_at=14.0,
        least=6,
        cool_down_s=5.0,
        hops=_DOWN,
        media=_AUDIO,
    ),
    Steady(
        kind=AlertKind.LOW_BANDWIDTH,
        reads="bandwidth_limited",
        on=1,
        on_s=8,
        off=0,
        off_s=10,
        least=5,
        cool_down_s=10,
        hops=_UP,
        media=_VIDEO,
    ),
    # Level changes in the last minute.
    Steady(kind=AlertKind.FLAPPING, reads="level_changes", on=5, on_s=0, off=1, off_s=10, least=1, cool_down_s=60),
    Steady(
        kind=AlertKind.SILENT_SOURCE,
        reads="silent_s",
        on=15,
        on_s=0,
        off=0,
        off_s=1,
        least=1,
        cool_down_s=5,
        hops=_UP,
        media=_AUDIO,
    ),
    Steady(
        kind=AlertKind.BLACK_SOURCE,
        reads="black_s",
        on=10,
        on_s=0,
        off=0,
        off_s=2,
        least=1,
        cool_down_s=5,
        hops=_UP,
        media=_VIDEO,
    ),
)
