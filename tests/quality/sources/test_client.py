"""What clients tell of their tracks, as readings, and what of it is believed."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.quality.sources.client_samples import DATA, NOW, SID, TRACKS, stats
from track.v1 import quality_pb2
from track.v1.quality_stats_pb2 import StreamStats, TrackStats
from track_server.errors import StatsRefused, TrackError, TrackNotFound
from track_server.quality.core.measuring.admission import refusal
from track_server.quality.core.measuring.reading import Hop, Media, Reading, Source
from track_server.quality.sources.client import ClientStats, client_readings

# What is not told.


def test_what_was_not_told_is_none_and_a_zero_stays_a_zero() -> None:
    for sent in (True, False):
        (reading,) = client_readings(stats(sent=sent), Media.VIDEO, Source.REPORTED, 1.0)
        told = {"source", "ssrc", "time_s", "arrival_s", "rid", "lost_before_repair"}
        assert all(getattr(reading, name) is None for name in Reading.__slots__ if name not in told)
        zeros = stats(sent=sent, packets=0, bytes=0, packets_lost=0, frames=0, jitter_ms=0, rtt_ms=0, audio_level=0)
        (reading,) = client_readings(zeros, Media.VIDEO, Source.REPORTED, 1.0)
        assert (reading.packets, reading.payload_bytes, reading.lost, reading.frames) == (0, 0, 0, 0)
        assert (reading.jitter_ms, reading.rtt_ms, reading.audio_level) == (0, 0, 0)


@pytest.mark.parametrize(
    ("media", "told", "resent"),
    [
        (Media.VIDEO, {"retransmitted_packets": 3, "nack_count": 9}, 3),
        (Media.VIDEO, {"nack_count": 0}, 0),
        (Media.VIDEO, {"nack_count": 2}, None),
        (Media.VIDEO, {}, None),
        (Media.AUDIO, {}, 0),
        (Media.AUDIO, {"nack_count": 2}, None),
    ],
)
def test_where_nothing_was_asked_for_again_nothing_was_sent_again(
    media: Media, told: dict[str, Any], resent: int | None
) -> None:
    for sent in (True, False):
        (reading,) = client_readings(stats(sent=sent, packets=10, **told), media, Source.REPORTED, 1.0)
        assert reading.resent == resent


def test_a_sender_counts_retransmissions_twice_and_a_receiver_repaired_packets_once() -> None:
    told: dict[str, Any] = {"packets": 100, "bytes": 1000, "retransmitted_packets": 10, "retransmitted_bytes": 90}
    (sent,) = client_readings(stats(sent=True, **told), Media.VIDEO, Source.COMPANION, 1.0)
    (received,) = client_readings(stats(**told), Media.VIDEO, Source.COMPANION, 1.0)
    assert (sent.packets, sent.payload_bytes, sent.lost_before_repair) == (90, 910, False)
    assert (received.packets, received.payload_bytes, received.lost_before_repair) == (100, 1000, True)


counts = st.none() | st.integers(0, 2**64 - 1)


gauges = st.none() | st.floats(0, 60_000)


COUNTERS = (
    "packets", "bytes", "frames", "retransmitted_packets", "retransmitted_bytes", "nack_count", "concealed_samples",
    "silent_concealed_samples", "total_samples_received", "jitter_buffer_emitted_count",
)  # fmt: skip


streams = st.fixed_dictionaries(
    {
        **dict.fromkeys(COUNTERS, counts),
        "ssrc": st.integers(0, 2**32 - 1),
        "packets_lost": st.none() | st.integers(-(2**63), 2**63 - 1),
        "jitter_ms": gauges,
        "rtt_ms": gauges,
        "frame_width": st.none() | st.integers(0, 16384),
        "audio_level": st.none() | st.floats(0, 1),
        "quality_limitation": st.sampled_from(quality_pb2.QualityLimitation.values()),
    }
)


@given(
    st.lists(streams, min_size=1, max_size=3, unique_by=lambda each: each["ssrc"]), st.booleans(), st.floats(-90, 30)
)
def test_whatever_a_client_says_what_is_taken_can_be_true(told: list[dict[str, Any]], sent: bool, at: float) -> None:
    sample = TrackStats(track_sid=SID, sent=sent, streams=[StreamStats(**each) for each in told])
    sample.measure_time.FromNanoseconds(round((NOW.time_s + at) * 1e9))
    client = ClientStats("bob" if sent else "alice", Source.REPORTED)
    client.place([sample], NOW)
    try:
        flow, readings = client.take(sample, TRACKS, NOW)
    except StatsRefused:
        return
    assert flow.hop is (Hop.UPLINK if sent else Hop.DOWNLINK)
    assert [reading.ssrc for reading in readings] == [each["ssrc"] for each in told]
    for reading in readings:
        assert refusal(reading, NOW.time_s) is None
        assert reading.arrival_s <= NOW.monotonic_s
        numbers = [value for name in Reading.__slots__ if isinstance(value := getattr(reading, name), float)]
        assert all(map(math.isfinite, numbers))


# What is not believed.


@pytest.mark.parametrize(
    ("identity", "sample", "field"),
    [
        ("alice", stats(sid="TR_none"), "track_sid"),
        ("alice", stats(sid=DATA), "track_sid"),
        ("alice", stats(sent=True), "sent"),
        ("bob", stats(), "sent"),
        ("eve", stats(sent=True), "sent"),
        ("alice", stats(at=6), "measure_time"),
        ("alice", stats(at=-61), "measure_time"),
        ("alice", stats(jitter_ms=math.nan), "streams[0].jitter_ms"),
        ("alice", stats(rtt_ms=math.inf), "streams[0].rtt_ms"),
        ("alice", stats(packets=2**63), "streams[0].packets"),
        ("bob", stats(sent=True, packets=3, retransmitted_packets=4), "streams[0].packets"),
        ("alice", stats(concealed_samples=1, silent_concealed_samples=2), "streams[0].concealed_samples"),
        (
            "alice",
            stats(concealed_samples=9, silent_concealed_samples=2, total_samples_received=5),
            "streams[0].concealed_samples",
        ),
    ],
)
def test_what_cannot_be_true_or_is_not_for_that_participant_to_tell_is_refused(
    identity: str, sample: TrackStats, field: str
) -> None:
    client = ClientStats(identity, Source.REPORTED)
    client.place([sample], NOW)
    with pytest.raises(TrackError) as refused:
        client.take(sample, TRACKS, NOW)
    assert refused.value.field == field
    assert isinstance(refused.value, TrackNotFound) is (sample.track_sid == "TR_none")


def test_one_ssrc_twice_is_refused() -> None:
    sample = stats()
    sample.streams.add(ssrc=7)
    with pytest.raises(StatsRefused, match="twice"):
        ClientStats("alice", Source.REPORTED).take(sample, TRACKS, NOW)
