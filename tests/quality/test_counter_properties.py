"""Whatever happens to the counters of a hosted publication, no number is invented."""

import math
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from tests.quality.samples import Uplink, at, hosted, stream
from track.media.v1.media_service_pb2 import DataTrackStats, HostedTrackStats, RtpStreamStats
from track.v1.quality_pb2 import QualitySample
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_DATA, TRACK_TYPE_VIDEO, TrackType

COUNTERS: Final = (
    "packets_sent",
    "bytes_sent",
    "retransmitted_packets_sent",
    "retransmitted_bytes_sent",
    "frames_sent",
    "nack_count",
)

COUNTER = st.none() | st.integers(0, 2**63) | st.integers(0, 2000)

READING = st.none() | st.floats()


@st.composite
def streams(draw: st.DrawFn) -> RtpStreamStats:
    result = RtpStreamStats(ssrc=draw(st.integers(1, 3)), rid=draw(st.sampled_from(["", "q", "f"])))
    for name in COUNTERS:
        if (value := draw(COUNTER)) is not None:
            setattr(result, name, value)
    for name in ("jitter_ms", "rtt_ms"):
        if (reading := draw(READING)) is not None:
            setattr(result, name, reading)
    if (lost := draw(st.none() | st.integers(-(2**62), 2**62) | st.integers(-50, 500))) is not None:
        result.packets_lost = lost
    if (remote := draw(st.none() | st.floats(-10, 100))) is not None:
        result.remote_time.CopyFrom(at(remote))
    for name in ("frame_width", "frame_height"):
        if (size := draw(st.none() | st.integers(0, 4000))) is not None:
            setattr(result, name, size)
    return result


@st.composite
def anything(draw: st.DrawFn) -> HostedTrackStats:
    data = draw(
        st.none()
        | st.builds(DataTrackStats, frames_pushed=st.integers(0, 2**64 - 1), bytes_pushed=st.integers(0, 2**64 - 1))
    )
    return hosted(
        draw(st.floats(-10, 100)),
        draw(st.lists(streams(), max_size=3)),
        sid=draw(st.sampled_from(["TR_1", "TR_2"])),
        data=data,
    )


def assert_honest(sample: QualitySample) -> None:
    """Every number is one that can be."""
    for message in (sample, *sample.layers):
        for field, value in message.ListFields():
            if field.type == field.TYPE_DOUBLE:
                assert math.isfinite(value), field.name
                assert value >= 0, field.name
            if field.name == "loss_percent":
                assert value <= 100
    assert not sample.HasField("window") or sample.window.ToNanoseconds() > 0
    assert sample.age.ToNanoseconds() >= 0


@given(
    entries=st.lists(st.tuples(anything(), st.floats(0, 20)), min_size=1, max_size=12),
    window_s=st.floats(0.01, 100),
    track_type=st.sampled_from([TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO, TRACK_TYPE_DATA]),
)
def test_no_uplink_makes_a_number_that_cannot_be(
    entries: list[tuple[HostedTrackStats, float]], window_s: float, track_type: TrackType.ValueType
) -> None:
    uplink = Uplink(track_type)
    arrival_s = 0.0
    for stats, later_s in entries:
        arrival_s += later_s
        uplink.add(stats, arrival_s)
        sample = uplink.sample(window_s, arrival_s)
        if sample is not None:
            assert_honest(sample)


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0.6, 5.0),  # seconds since the sample before
            st.integers(0, 300),  # packets sent since
            st.integers(0, 20),  # and retransmitted
            st.floats(0, 1),  # share of them lost
            st.sampled_from(["on"] * 8 + ["reset", "republish", "gap", "mute", "twice", "late", "absent"]),
        ),
        min_size=2,
        max_size=30,
    ),
    window_s=st.floats(1, 60),
)
def test_no_number_exceeds_what_was_ever_true(steps: list[tuple[float, int, int, float, str]], window_s: float) -> None:
    """A bitrate over a window is never above the highest that was sent, whatever happened in between.

    Nor is it below the lowest, unless counters began anew and had passed their old value at the next reading, which
    nobody can see.
    """
    uplink = Uplink()
    now_s, packets, resent, lost, sid = 0.0, 0, 0, 0, 0
    rates = []
    whole = True
    entries: list[HostedTrackStats] = []
    for seconds, sent, again, share, event in steps:
        if event == "gap":
            seconds += 20
        now_s += seconds
        if event == "reset":
            whole = False
            packets = resent = lost = 0
        if event == "republish":
            sid += 1
            packets = resent = lost = 0
        if event == "mute":
            uplink.interrupt()
        packets += sent + again
        resent += again
        lost += int(sent * share)
        rates.append(sent * 100 * 8 / seconds)
        reported: dict[str, Any] = {"packets_lost": lost, "remote": now_s - 0.2, "jitter_ms": 1.0}
        entry = hosted(
            now_s,
            [
                stream(
                    packets_sent=packets,
                    bytes_sent=packets * 100,
                    retransmitted_packets_sent=resent,
                    retransmitted_bytes_sent=resent * 100,
                    **({} if event == "absent" else reported),
                )
            ],
            sid=f"TR_{sid}",
        )
        entries.append(entry)
        uplink.add(entry, now_s)
        if event == "twice":
            uplink.add(entry, now_s)
        if event == "late" and len(entries) > 1:
            uplink.add(entries[-2], now_s)
        sample = uplink.sample(window_s, now_s)
        if sample is None:
            continue
        assert_honest(sample)
        if sample.HasField("bitrate_bps"):
            assert sample.bitrate_bps <= 1.000001 * max(rates)
            assert sample.bitrate_bps >= 0.999999 * min(rates) or not whole
