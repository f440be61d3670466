"""`python -m bench.tuning`: what is found of synthetic links, hour by hour, to set and to judge the detectors' table.

Sound at 50 packets a second over links of constant loss, random and in bursts (Gilbert's two states, lengths
geometric), read once a second, with everything that a live track passes. The thresholds were set on seeds 7 and 8;
the tables here are of another one, with bursts from one to five packets.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.livekit_score import HIGHEST, followed, sfu_level
from tests.quality.core.simulation import Link, Sound, down, up
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Source
from track_server.quality.core.watch import Subject, Watch

SET_ON: Final = (7, 8)
"""The seeds that the thresholds were set on."""
BURSTS: Final = (1.0, 2.0, 3.0, 5.0)
LOSSES: Final = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.15, 0.20)
ON_A_THRESHOLD: Final = frozenset({0.02, 0.05, 0.10})
"""Where an alert goes on or off, so that chance may turn it more often."""

_LIVEKIT_S: Final = 5
"""LiveKit scores over so many seconds, with a weight of 10 for sound without RED."""
_LIVEKIT_WEIGHT: Final = 10.0


@dataclass
class Constant:
    """An hour, or more, of constant loss: how often each alert, the level, and LiveKit's own level changed."""

    alerts: Counter[AlertKind] = field(default_factory=Counter)
    levels: int = 0
    livekit: int = 0


def constant(loss: float, burst: float, seed: int, seconds: int, flow: Flow) -> Constant:
    """Listens for so long to a link of that loss."""
    sound, watch = _sound(Link(seed=seed, loss=loss, burst=burst), flow)
    found = Constant()
    level, score, theirs = None, HIGHEST, None
    lost = sent = 0
    for second in range(seconds):
        watch.add([sound.second(float(second))])
        seen = watch.tick(float(second))
        found.alerts.update(change.kind for change in seen.changes)
        found.levels += level is not None and seen.level is not level
        level = seen.level
        if second % _LIVEKIT_S == _LIVEKIT_S - 1:
            score = followed(score, sound.lost - lost, sound.sent - sent, _LIVEKIT_WEIGHT)
            lost, sent = sound.lost, sound.sent
            found.livekit += theirs is not None and sfu_level(score) is not theirs
            theirs = sfu_level(score)
    return found


def found_after(loss: float, burst: float, seed: int, flow: Flow) -> tuple[int, int]:
    """Seconds from its begin until that loss is an alert, and from its end until the alert is off; a minute of it on a
    line that was sound."""
    link = Link(seed=seed, burst=burst)
    sound, watch = _sound(link, flow)
    begin, end = 30, 90
    on = off = None
    for second in range(end + 120):
        link.loss = loss if begin <= second < end else 0.0
        watch.add([sound.second(float(second))])
        for change in watch.tick(float(second)).changes:
            if change.kind is AlertKind.NETWORK_LOSS and change.on and on is None:
                on = second - begin + 1
            if change.kind is AlertKind.NETWORK_LOSS and not change.on and second >= end:
                off = second - end + 1
    return on or end - begin, off or 120


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _sound(link: Link, flow: Flow) -> tuple[Sound, Watch]:
    source = Source.SUBSCRIBER_STATS if flow.hop is Hop.DOWNLINK else Source.PUBLISHER_STATS
    return Sound(flow, link, source), Watch(flow, Subject(flow.track_sid, "alice", Media.AUDIO))


def main() -> int:
    """Prints both tables; about two minutes for the two hours and hundred runs of the default."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__)
    parser.add_argument("--hours", type=int, default=2, choices=range(1, 25), help="of each constant loss")
    parser.add_argument("--runs", type=int, default=100, choices=range(10, 501), help="of a loss of 10 %%, each")
    parser.add_argument("--seed", type=int, default=11, help=f"of the links; the thresholds were set on {SET_ON}")
    parser.add_argument("--uplink", action="store_true", help="the publisher's hop, told by receiver reports")
    given = parser.parse_args()
    flow = up() if given.uplink else down()
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("burst", "loss", "alert changes an hour", "level changes an hour", "LiveKit's")
    for burst in BURSTS:
        for loss in LOSSES:
            found = constant(loss, burst, given.seed, 3600 * given.hours, flow)
            alerts = ", ".join(f"{kind.name} {count / given.hours:g}" for kind, count in sorted(found.alerts.items()))
            table.add_row(
                f"{burst:g}",
                f"{loss:.1%}",
                alerts,
                f"{found.levels / given.hours:g}",
                f"{found.livekit / given.hours:g}",
            )
    console.print(table)
    table = Table("burst", "10 % found, p50", "p95", "its end told, p50", "p95")
    for burst in BURSTS:
        ons, offs = zip(
            *(found_after(0.1, burst, given.seed + 1000 * run, flow) for run in range(given.runs)), strict=True
        )
        table.add_row(f"{burst:g}", *(f"{quantile(each, share):g} s" for each in (ons, offs) for share in (0.5, 0.95)))
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
