"""Against a recording: a microphone, published with the SDK to LiveKit 1.13.5 through a UDP relay that counted.

The relay dropped nothing for 14 s, 10 % until 29 s, nothing until 49 s, everything until 55 s, then nothing. The
microphone was muted from 35 to 43 s.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.quality.samples import hosted, stream
from track.v1.quality_pb2 import QualitySample
from track.v1.track_pb2 import TRACK_TYPE_AUDIO
from track_server.quality.counters import History

Row = dict[str, Any]


def rows() -> list[Row]:
    recording = json.loads(Path(__file__).with_name("lossy_audio.json").read_text())
    return [dict(zip(recording["columns"], row, strict=True)) for row in recording["rows"]]


def replay(window_s: float) -> Iterator[tuple[Row, QualitySample]]:
    history = History()
    for row in rows():
        fields = {name: row[name] for name in ("packets_sent", "bytes_sent", "packets_lost", "jitter_ms")}
        if row["rtt_ms"] is not None:
            fields["rtt_ms"] = row["rtt_ms"]
        history.add(hosted(row["time_s"], [stream(remote=row["remote_time_s"], **fields)]), row["time_s"])
        sample = history.sample(window_s, row["time_s"], TRACK_TYPE_AUDIO)
        assert sample is not None
        yield row, sample


@pytest.mark.parametrize(("window_s", "until_s"), [(25, 37), (30, 40), (12, 60)])
def test_loss_is_what_the_relay_dropped(window_s: float, until_s: float) -> None:
    # They begin and end while nothing is dropped, so that the age of the last report, up to 1 s, matters little.
    taken = list(replay(window_s))
    end, sample = min(taken, key=lambda entry: abs(entry[0]["time_s"] - until_s))
    begin = min(rows(), key=lambda row: abs(row["time_s"] - (end["time_s"] - window_s)))
    dropped = end["dropped"] - begin["dropped"]
    assert dropped >= 74
    truth = 100 * dropped / (end["relayed"] - begin["relayed"])
    assert sample.loss_percent == pytest.approx(truth, rel=1 / window_s)


def test_a_clean_uplink_reads_0() -> None:
    losses = [sample.loss_percent for row, sample in replay(5) if 5 < row["time_s"] < 15]
    assert losses == [0.0] * len(losses)
    assert len(losses) == 10


def test_in_a_blackout_the_loss_is_soon_absent_and_told_after_it() -> None:
    taken = list(replay(5))
    blind = [sample for row, sample in taken if 53 < row["time_s"] < 55.5]
    assert blind
    assert not any(sample.HasField("loss_percent") or sample.HasField("rtt_ms") for sample in blind)
    healed = next(sample for row, sample in taken if row["time_s"] > 56)
    assert healed.loss_percent > 80


def test_the_bitrate_is_that_of_the_encoder() -> None:
    assert [round(sample.bitrate_bps, -3) for row, sample in replay(5) if 5 < row["time_s"] < 34] == [48_000] * 29
