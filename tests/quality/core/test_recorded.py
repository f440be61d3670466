"""Against a recording: a microphone, published with the SDK to LiveKit 1.13.5 through a UDP relay that counted.

The relay dropped nothing for 14 s, 10 % until 29 s, nothing until 49 s, everything until 55 s, then nothing. The
microphone was muted from 35 to 43 s.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.quality.core.simulation import up
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Media, Reading, Source
from track_server.quality.core.measuring.sample import Sample
from track_server.quality.core.scoring.level import Level
from track_server.quality.core.watch import Seen, Subject, Watch

Row = dict[str, Any]


def rows() -> list[Row]:
    recording = json.loads(Path(__file__).with_name("lossy_audio.json").read_text())
    return [dict(zip(recording["columns"], row, strict=True)) for row in recording["rows"]]


def replayed(watch: Watch) -> Iterator[tuple[Row, Seen]]:
    for row in rows():
        watch.expect(Expected(muted=35 <= row["time_s"] < 43))
        reading = Reading(
            source=Source.PUBLISHER_STATS,
            ssrc=1,
            time_s=1e9 + row["time_s"],
            arrival_s=row["time_s"],
            packets=row["packets_sent"],
            resent=0,
            payload_bytes=row["bytes_sent"],
            lost=row["packets_lost"],
            lost_time_s=1e9 + row["remote_time_s"],
            jitter_ms=row["jitter_ms"],
            rtt_ms=row["rtt_ms"],
        )
        watch.add([reading])
        yield row, watch.tick(row["time_s"])


def watched() -> Watch:
    return Watch(up(), Subject("TR_a", "alice", Media.AUDIO))


def sample_at(until_s: float, window_s: float) -> tuple[Row, Sample]:
    watch = watched()
    for row, _ in replayed(watch):
        if row["time_s"] >= until_s:
            found = watch.meter.total(window_s, row["time_s"])
            assert found is not None
            return row, found
    raise AssertionError(until_s)


@pytest.mark.parametrize(("window_s", "until_s"), [(25, 34), (18, 31)])
def test_loss_is_what_the_relay_dropped(window_s: float, until_s: float) -> None:
    # Begin and end lie where nothing is dropped, so that the age of the last report, up to 1 s, matters little.
    end, sample = sample_at(until_s, window_s)
    begin = min(rows(), key=lambda row: abs(row["time_s"] - (end["time_s"] - window_s)))
    dropped = end["dropped"] - begin["dropped"]
    assert dropped >= 70
    assert sample.loss_after is not None
    assert sample.loss_after.part == dropped
    assert sample.loss_after.percent == pytest.approx(
        100 * dropped / (end["relayed"] - begin["relayed"]), rel=1 / window_s
    )


def test_a_clean_uplink_reads_0() -> None:
    losses = [seen.sample.loss_after for row, seen in replayed(watched()) if seen.sample and 5 < row["time_s"] < 14]
    assert [loss.percent for loss in losses if loss is not None] == [0.0] * 9


def test_in_a_blackout_the_loss_is_soon_absent_and_told_after_it() -> None:
    taken = [(row["time_s"], seen.sample) for row, seen in replayed(watched())]
    blind = [sample for at_s, sample in taken if 53 < at_s < 55.5 and sample is not None]
    assert blind
    assert all(sample.loss_after is None and sample.rtt_ms is None for sample in blind)
    healed = next(sample for at_s, sample in taken if at_s > 56)
    assert healed is not None
    assert healed.loss_after is not None
    assert healed.loss_after.percent > 80


def test_the_bitrate_is_that_of_the_encoder() -> None:
    rates = [
        round(seen.sample.bitrate_bps.value, -3)
        for row, seen in replayed(watched())
        if 5 < row["time_s"] < 34 and seen.sample is not None and seen.sample.bitrate_bps is not None
    ]
    assert rates == [48_000] * 29


def test_what_was_wrong_is_found_when_it_was() -> None:
    changes = [(change.kind, change.on, row["time_s"]) for row, seen in replayed(watched()) for change in seen.changes]
    on = {kind: at_s for kind, now_on, at_s in changes if now_on}
    off = {kind: at_s for kind, now_on, at_s in changes if not now_on}
    assert on.keys() == off.keys() == {AlertKind.NETWORK_LOSS, AlertKind.STALLED}
    assert 14 < on[AlertKind.NETWORK_LOSS] <= 14 + 7
    assert 29 < off[AlertKind.NETWORK_LOSS] <= 29 + 15
    assert 49 < on[AlertKind.STALLED] <= 49 + 6
    assert 55 < off[AlertKind.STALLED] <= 55 + 15


def test_while_nothing_arrives_it_is_lost_and_else_never() -> None:
    levels = [(row["time_s"], seen.level) for row, seen in replayed(watched())]
    lost = [at_s for at_s, level in levels if level is Level.LOST]
    assert lost
    assert all(54 <= at_s <= 65 for at_s in lost)
