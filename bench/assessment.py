"""What assessing quality costs: CPU a sample, a thousand tracks once a second, memory a track; and what is found of
constant loss."""

import asyncio
import random
import time
import tracemalloc
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from bench.figures import Figure, at_most, told
from bench.rounds import ratios, spread
from bench.stand import Stand
from bench.tuning import BURSTS, ON_A_THRESHOLD, constant, found_after, quantile
from tests.quality.core.simulation import LAYERS_BPS, PACKET_BITS, SIZES, down
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import HIGH, LOW, MEDIUM, Policy, Timing
from track_server.quality.core.assessment import Assessment
from track_server.quality.core.detecting.detection import Detection, Facts
from track_server.quality.core.measuring.losses import Packets
from track_server.quality.core.measuring.meter import Meter
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Reading, Source
from track_server.quality.core.scoring.score import score_of
from track_server.quality.core.watch import Subject, Watch

_SAMPLE_US: Final = 20.0
_CORE: Final = 0.25
_TRACKS: Final = 1000
_SAMPLES: Final = 3000
_WARM_S: Final = 65
"""Until the longest window is full."""
_KEPT_S: Final = 300
_LOSSES: Final = (0.01, 0.02, 0.03, 0.05, 0.07, 0.10, 0.20)
_SEED: Final = 11


async def measure(stand: Stand) -> list[Figure]:
    """All of it in this process, by its CPU time: what others do on the machine counts little."""
    return await asyncio.to_thread(_measured, stand.effort.rounds, stand.effort.seconds)


def _measured(rounds: int, seconds: float) -> list[Figure]:
    found: list[Figure] = []
    for media in Media:
        each = [(_scored(media), _floor()) for _ in range(rounds)]
        costs = [cost for cost, _ in each]
        against = ratios(costs, [floor for _, floor in each])
        note = f"score and all detectors, CPU time; {spread(costs)}; {against} of what it takes to keep a reading"
        found.append(
            at_most(
                f"quality: a sample of {media.name.lower()} scored and detected", median(costs), "us", _SAMPLE_US, note
            )
        )
    for media, layers in ((Media.AUDIO, 1), (Media.VIDEO, 3)):
        shares = _thousand(media, layers, max(5, round(seconds * rounds)))
        note = f"windows, scores, detectors, attribution, adaptation; CPU time each second; {spread(shares)}"
        what = "sound" if media is Media.AUDIO else f"video in {layers} layers"
        found.append(
            at_most(f"quality: {_TRACKS} tracks of {what} once a second", median(shares), "of a core", _CORE, note)
        )
    found.append(
        told("quality: memory of a track of sound", _memory() / 1024, "KiB", f"after {_KEPT_S} s, once a second")
    )
    return found + _constant(hours=1 if rounds > 1 else 0, runs=20 * rounds)


def _reading(second: float, ssrc: int, media: Media, layer: int) -> Reading:
    rate = 50 if media is Media.AUDIO else LAYERS_BPS[layer] // PACKET_BITS
    width, height = (None, None) if media is Media.AUDIO else SIZES[layer]
    packets = round(rate * second)
    return Reading(
        source=Source.PUBLISHER_STATS,
        ssrc=ssrc,
        rid="" if media is Media.AUDIO else "_qhf"[layer],
        time_s=second,
        arrival_s=second,
        packets=packets,
        resent=0,
        payload_bytes=packets * 1_000,
        lost=int(second) // 3,
        lost_time_s=second - 0.1,
        frames=None if media is Media.AUDIO else round(30 * second),
        jitter_ms=3.0,
        rtt_ms=40.0,
        width=width,
        height=height,
    )


def _scored(media: Media) -> float:
    """Microseconds a sample."""
    meter, detection = Meter(Hop.UPLINK, media), Detection(Hop.UPLINK, media)
    for second in range(_WARM_S):
        meter.add([_reading(float(second), 1, media, HIGH)])
    sample = meter.total(5.0, float(_WARM_S))
    if sample is None:
        raise RuntimeError("nothing was measured")
    facts = Facts(loss=Packets(0, 50), rtt_ms=40.0, rtt_rise_ms=3.0, stalled_s=0.0, gap_s=0.0, level_changes=0.0)

    def score() -> None:
        for second in range(_SAMPLES):
            score_of(media, sample)
            detection.add(facts, float(second))

    return 1e6 * _spent(score) / _SAMPLES


def _floor() -> float:
    """Microseconds that it takes to make a reading and to keep it: without that nothing is told at all."""
    kept: dict[int, Reading] = {}

    def keep() -> None:
        for number in range(_SAMPLES):
            kept[number % 100] = _reading(float(number), 1, Media.AUDIO, HIGH)

    return 1e6 * _spent(keep) / _SAMPLES


def _thousand(media: Media, layers: int, seconds: int) -> list[float]:
    """CPU seconds of each second, once the windows are full."""
    assessment = Assessment(Adaptation(lambda _: Policy(), Timing(), random.Random(1)))
    flows = [Flow(f"TR_{number}", Hop.UPLINK, f"p{number}") for number in range(_TRACKS)]
    for flow in flows:
        assessment.begin(flow, Subject(flow.track_sid, flow.identity, media))
    shares: list[float] = []
    for second in range(_WARM_S + seconds):
        # At the end of the longest window a reading is as dear as it becomes.
        readings = [
            [_reading(float(second), ssrc, media, layer) for ssrc, layer in enumerate((LOW, MEDIUM, HIGH)[-layers:])]
            for _ in flows
        ]

        def assess(now_s: float = float(second), told: Sequence[Sequence[Reading]] = readings) -> None:
            for flow, each in zip(flows, told, strict=True):
                assessment.add(flow, each)
            assessment.tick(now_s)

        spent = _spent(assess)
        if second >= _WARM_S:
            shares.append(spent)
    return shares


def _memory() -> int:
    """Bytes of one track."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        watch = Watch(Flow("TR_a", Hop.UPLINK, "alice"), Subject("TR_a", "alice", Media.AUDIO))
        for second in range(_KEPT_S):
            watch.add([_reading(float(second), 1, Media.AUDIO, HIGH)])
            watch.tick(float(second))
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def _constant(hours: int, runs: int) -> list[Figure]:
    """Alert changes an hour, and how soon a loss is found; judged on a seed that nothing was set on."""
    figures: list[Figure] = []
    for burst in BURSTS:
        company = "one by one" if burst == 1 else f"in bursts of {burst:g}"
        found = [found_after(0.1, burst, _SEED + 1000 * run, down())[0] for run in range(runs)]
        note = (
            f"synthetic: sound at 50 packets a second, read once a second; {runs} runs; p50 {quantile(found, 0.5):g} s"
        )
        figures.append(told(f"quality: a loss of 10 % {company} found, p95", quantile(found, 0.95), "s", note))
        if not hours:
            continue
        changes = {
            loss: max(constant(loss, burst, _SEED, 3600 * hours, down()).alerts.values(), default=0) for loss in _LOSSES
        }
        off = max(count for loss, count in changes.items() if loss not in ON_A_THRESHOLD) / hours
        on = max(count for loss, count in changes.items() if loss in ON_A_THRESHOLD) / hours
        listed = ", ".join(f"{loss:.0%}" for loss in _LOSSES)
        note = f"synthetic: sound, {hours} h each of constant loss of {listed}; the worst kind"
        figures.append(
            at_most(f"quality: alert changes an hour, loss {company}, off a threshold", off, "changes", 1, note)
        )
        figures.append(at_most(f"quality: alert changes an hour, loss {company}, on one", on, "changes", 4, note))
    return figures


def _spent(work: Callable[[], None]) -> float:
    """Seconds of CPU time of this thread."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun
