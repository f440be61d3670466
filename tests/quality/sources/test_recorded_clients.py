"""What Chromium and LiveKit's SDK for Python measured behind a relay that dropped a tenth of the packets."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from track.v1.quality_stats_pb2 import TrackStats
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO, Track
from track_server.quality.clock import Moment
from track_server.quality.core.measuring.meter import Meter
from track_server.quality.core.measuring.reading import Flow, Hop, Limitation, Media, Reading, Source
from track_server.quality.sources.client import ClientStats

RECORDED: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "lossy_clients.json").read_text())


def recorded(sample: dict[str, Any]) -> TrackStats:
    return json_format.ParseDict(sample, TrackStats())


def played(rows: list[dict[str, Any]], client: str, kind: str) -> tuple[Meter, list[Reading], dict[str, int]]:
    """The meter that all of one track was told to, its last readings, and what the relay dropped and had in between."""
    media = Media.VIDEO if kind == "V" else Media.AUDIO
    sent = client == "rtc" and not rows[0].get("chromium")
    told = ClientStats("bob" if sent else "alice", Source.COMPANION)
    meter = Meter(Hop.UPLINK if sent else Hop.DOWNLINK, media)
    readings: list[Reading] = []
    for row in rows:
        now = Moment(time_s=row["now"] + 0.1, monotonic_s=row["at"])
        (stats,) = [recorded(each) for each in row[client] if each["trackSid"].startswith(f"TR_{kind}")]
        track = Track(
            sid=stats.track_sid,
            type=TRACK_TYPE_VIDEO if kind == "V" else TRACK_TYPE_AUDIO,
            participant_identity="bob",
        )
        told.place([stats], now)
        flow, readings = told.take(stats, {track.sid: track}, now)
        assert flow == Flow(track.sid, meter.hop, "bob" if sent else "alice")
        meter.add(readings)
    ssrc = str(readings[0].ssrc)
    first, last = rows[0]["relay"][ssrc], rows[-1]["relay"][ssrc]
    return meter, readings, {name: last[name] - first[name] for name in ("passed", "dropped")}


@pytest.mark.parametrize("client", ["rtc", "chromium"])
@pytest.mark.parametrize("kind", ["A", "V"])
def test_a_receivers_loss_before_repair_is_what_the_relay_dropped(client: str, kind: str) -> None:
    rows = RECORDED["down"]
    meter, readings, relay = played(rows, client, kind)
    sample = meter.total(60.0, rows[-1]["at"])
    assert sample is not None
    assert relay["dropped"] > 40
    assert sample.loss_before is not None
    assert sample.loss_before.part == pytest.approx(relay["dropped"], abs=2)
    # The relay's counters were read some milliseconds before the clients'.
    assert sample.loss_before.whole == pytest.approx(relay["dropped"] + relay["passed"], rel=0.02)
    assert sample.loss_after is not None
    if kind == "V":
        # LiveKit sent all of it again, and the last of it is on its way.
        assert sample.loss_after.part <= 4
        assert sample.frames_per_second is not None
        assert sample.frames_per_second.value == pytest.approx(30, abs=3)
        assert (sample.width and sample.width.value) == 640
    else:
        assert sample.loss_after == sample.loss_before
        assert sample.concealed is not None
        assert sample.concealed.percent == pytest.approx(sample.loss_before.percent, abs=4)
        assert readings[0].audio_level == pytest.approx(0.246, abs=0.01)
    assert sample.rtt_ms is not None
    assert 0 <= sample.rtt_ms.value < 20
    assert sample.buffer_ms is not None
    assert 5 < sample.buffer_ms.value < 200
    assert readings[0].last_packet_s == pytest.approx(readings[0].time_s, abs=0.1)
    # rtc never tells for how long pictures froze.
    assert (readings[0].freezes_s is None) is (client == "rtc" or kind == "A")


@pytest.mark.parametrize("kind", ["A", "V"])
def test_a_publishers_loss_is_what_the_relay_dropped(kind: str) -> None:
    rows = RECORDED["up"]
    meter, readings, relay = played(rows, "rtc", kind)
    sample = meter.total(60.0, rows[-1]["at"])
    assert sample is not None
    assert sample.loss_before is not None
    # A receiver report is up to a second older than the counters.
    assert sample.loss_before.part == pytest.approx(relay["dropped"], abs=12 if kind == "V" else 3)
    assert sample.loss_after is not None
    assert readings[0].limitation is (Limitation.NONE if kind == "V" else None)
    assert readings[0].lost_time_s is not None
    assert 0 <= readings[0].time_s - readings[0].lost_time_s < 3
    if kind == "A":
        assert sample.loss_after == sample.loss_before
        assert readings[0].audio_level == pytest.approx(0.244, abs=0.01)
