"""Counters of a hosted publication become numbers of a window; whatever happens to them, none is invented."""

import math
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.quality.samples import EPOCH, at, audio, hosted, stream
from track.media.v1.media_service_pb2 import DataTrackStats, HostedTrackStats, RtpStreamStats
from track.v1.quality_pb2 import QUALITY_LIMITATION_CPU, QualitySample
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_DATA, TRACK_TYPE_VIDEO, TrackType
from track_server.quality.counters import HISTORY_S, MAX_SAMPLES, History


def measure(
    *stats: HostedTrackStats,
    window_s: float = 5.0,
    arrivals: list[float] | None = None,
    track_type: TrackType.ValueType = TRACK_TYPE_AUDIO,
) -> QualitySample:
    """The numbers after ``stats``, which arrived at ``arrivals`` (default: when they were measured)."""
    history = History()
    taken = arrivals or [entry.measure_time.seconds - EPOCH + entry.measure_time.nanos * 1e-9 for entry in stats]
    for entry, arrival_s in zip(stats, taken, strict=True):
        history.add(entry, arrival_s)
    sample = history.sample(window_s, taken[-1], track_type)
    assert sample is not None
    return sample


def window_of(sample: QualitySample) -> float | None:
    return sample.window.ToNanoseconds() / 1e9 if sample.HasField("window") else None


def numbers_of(sample: QualitySample) -> set[str]:
    """Names of the numbers that are there."""
    return {field.name for field, _ in sample.ListFields()} - {"source", "measure_time", "age", "window"}


def test_rates_are_differences_over_the_window() -> None:
    sample = measure(*(hosted(second, [audio(second)]) for second in range(11)))
    assert window_of(sample) == 5.0
    assert sample.bitrate_bps == 40_000
    assert sample.measure_time == at(10)


def test_one_sample_gives_readings_but_no_rate() -> None:
    reported = audio(10, packets_lost=3, jitter_ms=4.0, rtt_ms=20.0, remote=9.5)
    sample = measure(hosted(10, [reported]))
    assert numbers_of(sample) == {"jitter_ms", "rtt_ms"}
    assert window_of(sample) is None


def test_what_was_not_told_is_absent_and_what_was_0_is_0() -> None:
    assert numbers_of(measure(hosted(0, [RtpStreamStats(ssrc=1)]), hosted(1, [RtpStreamStats(ssrc=1)]))) == set()
    silent = measure(hosted(0, [audio(3)]), hosted(1, [audio(3)]))
    assert silent.HasField("bitrate_bps")
    assert silent.bitrate_bps == 0
    assert not silent.HasField("loss_percent")


def test_retransmissions_are_left_out_of_the_bitrate() -> None:
    first = stream(packets_sent=100, bytes_sent=10_000)
    second = stream(
        packets_sent=210,
        bytes_sent=21_000,
        retransmitted_packets_sent=10,
        retransmitted_bytes_sent=1_000,
        frames_sent=1,
    )
    sample = measure(hosted(0, [first]), hosted(2, [second]), track_type=TRACK_TYPE_VIDEO)
    assert sample.bitrate_bps == 10_000 * 8 / 2
    assert sample.layers[0].retransmitted_packets_per_second == 5


def test_without_the_count_of_retransmitted_bytes_there_is_no_bitrate() -> None:
    streams = [RtpStreamStats(ssrc=1, packets_sent=50 * second, bytes_sent=5000 * second) for second in (1, 2)]
    assert numbers_of(measure(hosted(1, [streams[0]]), hosted(2, [streams[1]]))) == set()


def test_the_window_is_the_one_that_comes_nearest_to_what_is_asked_for() -> None:
    stats = [hosted(second, [audio(second)]) for second in (0, 2.1, 4.0, 6.2, 8.1, 10.0)]
    for asked, got in ((1.0, 1.9), (5.0, 6.0), (3.0, 3.8), (60.0, 10.0)):
        assert window_of(measure(*stats, window_s=asked)) == pytest.approx(got)


def test_samples_closer_than_the_shortest_window_are_not_differenced() -> None:
    assert window_of(measure(hosted(0, [audio(0)]), hosted(0.3, [audio(0.3)]))) is None
    three = [hosted(second, [audio(second)]) for second in (0, 0.3, 0.6)]
    assert window_of(measure(*three, window_s=1.0)) == pytest.approx(0.6)


STEADY = [hosted(second, [audio(second)]) for second in range(5)]


@pytest.mark.parametrize(
    ("name", "follower"),
    [
        ("republished", hosted(5, [audio(5)], sid="TR_2")),
        ("a new SSRC", hosted(5, [audio(5, ssrc=2)])),
        ("one more SSRC", hosted(5, [audio(5), audio(5, ssrc=2)])),
        ("counters began anew", hosted(5, [audio(0.2)])),
        ("one counter went back", hosted(5, [audio(5, bytes_sent=10)])),
        ("a gap", hosted(40, [audio(40)])),
        ("the clock went back", hosted(1.5, [audio(5)])),
        ("the clock went ahead", hosted(9, [audio(5)])),
    ],
)
def test_a_window_ends_where_counters_cannot_be_differenced(name: str, follower: HostedTrackStats) -> None:
    arrivals = [0.0, 1.0, 2.0, 3.0, 4.0, 40.0 if name == "a gap" else 5.0]
    assert numbers_of(measure(*STEADY, follower, arrivals=arrivals)) == set(), name


def test_after_the_end_of_a_window_a_new_one_begins() -> None:
    again = [hosted(second, [audio(second - 5)]) for second in (5, 6, 7)]
    sample = measure(*STEADY, *again)
    assert window_of(sample) == 2.0
    assert sample.bitrate_bps == 40_000


def test_an_interruption_ends_the_window() -> None:
    history = History()
    for second in range(5):
        history.add(STEADY[second], second)
    history.interrupt()
    assert history.sample(5.0, 4.0, TRACK_TYPE_AUDIO) is None
    for second in (5, 6):
        history.add(hosted(second, [audio(second)]), second)
    sample = history.sample(5.0, 6.0, TRACK_TYPE_AUDIO)
    assert sample is not None
    assert window_of(sample) == 1.0


def test_a_late_and_a_doubled_sample_are_left_out() -> None:
    sample = measure(*STEADY, STEADY[3], STEADY[4], arrivals=[0, 1, 2, 3, 4, 4.1, 4.2])
    assert window_of(sample) == 4.0
    assert sample.bitrate_bps == 40_000
    assert sample.measure_time == at(4)


def test_samples_that_arrive_a_little_late_go_on_with_the_window() -> None:
    assert window_of(measure(*STEADY, arrivals=[0, 1.4, 2.1, 3.9, 4.0])) == 4.0


def test_a_sample_without_a_time_is_left_out() -> None:
    history = History()
    history.add(HostedTrackStats(publication_id="PUB_1", track_sid="TR_1", streams=[audio(1)]), 1.0)
    assert history.sample(5.0, 1.0, TRACK_TYPE_AUDIO) is None


def test_the_age_counts_from_the_arrival_whatever_the_publishers_clock_says() -> None:
    history = History()
    history.add(hosted(1000, [audio(1)]), 10.0)
    sample = history.sample(5.0, 12.5, TRACK_TYPE_AUDIO)
    assert sample is not None
    assert sample.age.ToMilliseconds() == 2500
    assert history.sample(5.0, 10.0 + HISTORY_S + 1, TRACK_TYPE_AUDIO) is None


def test_a_history_is_bounded_in_time_and_number() -> None:
    slow, fast = History(), History()
    for second in range(200):
        slow.add(hosted(second, [audio(second)]), second)
        fast.add(hosted(second / 100, [audio(second)]), second / 100)
    old = slow.sample(1000.0, 199.0, TRACK_TYPE_AUDIO)
    assert old is not None
    assert window_of(old) == HISTORY_S
    many = fast.sample(1000.0, 2.0, TRACK_TYPE_AUDIO)
    assert many is not None
    assert window_of(many) == pytest.approx((MAX_SAMPLES - 1) / 100)


def test_a_data_track_tells_frames_and_payload() -> None:
    sample = measure(
        hosted(0, data=DataTrackStats(frames_pushed=0, bytes_pushed=0)),
        hosted(4, data=DataTrackStats(frames_pushed=40, bytes_pushed=4000)),
        track_type=TRACK_TYPE_DATA,
    )
    assert numbers_of(sample) == {"frames_per_second", "bitrate_bps"}
    assert sample.frames_per_second == 10
    assert sample.bitrate_bps == 8000


# Simulcast: three layers at 30 fps, of which the sizes, rids and SSRCs are these.
LAYERS = (("q", 11, 320, 180), ("h", 12, 640, 360), ("f", 13, 1280, 720))


def simulcast(
    second: float, stopped: dict[str, float] | None = None, begun: dict[str, float] | None = None
) -> HostedTrackStats:
    """Three layers, largest first; ``stopped`` and ``begun`` say since when a layer does not, or does, send."""
    streams = []
    for rid, ssrc, width, height in reversed(LAYERS):
        sent_s = max(0.0, min(second, (stopped or {}).get(rid, math.inf)) - (begun or {}).get(rid, 0.0))
        streams.append(
            stream(
                ssrc,
                rid=rid,
                frame_width=width,
                frame_height=height,
                frames_sent=round(30 * sent_s),
                packets_sent=round(width * sent_s),
                bytes_sent=round(1000 * width * sent_s),
                quality_limitation=QUALITY_LIMITATION_CPU,
            )
        )
    return hosted(second, streams)


def test_layers_come_lowest_first_and_the_largest_gives_the_size() -> None:
    sample = measure(*(simulcast(second) for second in range(6)), track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in sample.layers] == ["q", "h", "f"]
    assert [layer.bitrate_bps for layer in sample.layers] == [8000 * 320, 8000 * 640, 8000 * 1280]
    assert (sample.width, sample.height, sample.frames_per_second) == (1280, 720, 30)
    assert sample.bitrate_bps == 8000 * (320 + 640 + 1280)
    assert {layer.quality_limitation for layer in sample.layers} == {QUALITY_LIMITATION_CPU}


def test_audio_has_no_layers_and_no_frames() -> None:
    assert numbers_of(measure(*(simulcast(second) for second in range(6)))) == {"bitrate_bps"}


def test_a_layer_that_ceases_to_send_begins_a_new_window_without_it() -> None:
    stats = [simulcast(second, stopped={"f": 6}) for second in range(10)]
    before = measure(*stats[:8], track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in before.layers] == ["q", "h", "f"], "a second without a frame is no end"
    sample = measure(*stats[:9], track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in sample.layers] == ["q", "h"]
    assert (sample.width, sample.frames_per_second) == (640, 30)
    assert window_of(sample) == 2.0
    assert sample.bitrate_bps == 8000 * (320 + 640)


def test_a_layer_that_begins_to_send_begins_a_new_window() -> None:
    stats = [simulcast(second, begun={"f": 6}) for second in range(9)]
    sample = measure(*stats, track_type=TRACK_TYPE_VIDEO)
    assert window_of(sample) == 2.0
    assert (sample.width, sample.frames_per_second) == (1280, 30)


def test_a_video_that_stalls_reads_0_and_not_absent() -> None:
    stopped = {"q": 6.0, "h": 6.0, "f": 6.0}
    sample = measure(*(simulcast(second, stopped=stopped) for second in range(10)), track_type=TRACK_TYPE_VIDEO)
    assert numbers_of(sample) == {"bitrate_bps", "frames_per_second"}
    assert (sample.bitrate_bps, sample.frames_per_second) == (0, 0)


def test_padding_is_no_layer_that_sends() -> None:
    stats = [
        hosted(
            second, [stream(packets_sent=400 * second, bytes_sent=0, frames_sent=0, frame_width=320, frame_height=180)]
        )
        for second in range(4)
    ]
    sample = measure(*stats, track_type=TRACK_TYPE_VIDEO)
    assert list(sample.layers) == []
    assert sample.bitrate_bps == 0


def test_a_video_at_1_fps_does_not_flap() -> None:
    # The camera's beat and ours drift apart, so that some seconds have no frame and some have two.
    history = History()
    for second in range(30):
        frames = int(second * 0.9)
        history.add(hosted(second, [stream(packets_sent=frames, bytes_sent=900 * frames, frames_sent=frames)]), second)
        if second > 5:
            sample = history.sample(5.0, second, TRACK_TYPE_VIDEO)
            assert sample is not None
            assert window_of(sample) == 5.0
            assert len(sample.layers) == 1


def test_readings_are_those_of_layers_that_send_and_of_late() -> None:
    def stats(second: float) -> HostedTrackStats:
        return hosted(
            second,
            [
                stream(11, rid="q", frames_sent=int(30 * second), jitter_ms=3.0, rtt_ms=40.0, remote=second - 0.5),
                stream(12, rid="h", frames_sent=50, jitter_ms=90.0, rtt_ms=90.0, remote=1),
            ],
        )

    sample = measure(*(stats(second) for second in range(2, 12)), track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in sample.layers] == ["q"]
    assert (sample.jitter_ms, sample.rtt_ms) == (3.0, 40.0)


def test_the_round_trip_is_the_latest_reported_of_any_layer() -> None:
    def stats(second: float) -> HostedTrackStats:
        layers = ((11, 40.0, 0.5), (12, 30.0, 0.1), (13, 50.0, 0.9))
        return hosted(
            second,
            [
                stream(ssrc, frames_sent=int(second), rtt_ms=rtt_ms, remote=second - age_s)
                for ssrc, rtt_ms, age_s in layers
            ],
        )

    assert measure(stats(10), stats(11), track_type=TRACK_TYPE_VIDEO).rtt_ms == 30.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_reading_that_is_no_number_is_absent(bad: float) -> None:
    sample = measure(hosted(10, [audio(10, jitter_ms=bad, rtt_ms=bad, remote=9.5)]))
    assert numbers_of(sample) == set()


def test_a_reading_older_than_the_last_reports_is_absent() -> None:
    sample = measure(hosted(10, [audio(10, jitter_ms=1.0, rtt_ms=1.0, remote=5.0)]))
    assert numbers_of(sample) == set()


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
def test_no_history_makes_a_number_that_cannot_be(
    entries: list[tuple[HostedTrackStats, float]], window_s: float, track_type: TrackType.ValueType
) -> None:
    history = History()
    arrival_s = 0.0
    for stats, later_s in entries:
        arrival_s += later_s
        history.add(stats, arrival_s)
        sample = history.sample(window_s, arrival_s, track_type)
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
    history = History()
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
            history.interrupt()
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
        history.add(entry, now_s)
        if event == "twice":
            history.add(entry, now_s)
        if event == "late" and len(entries) > 1:
            history.add(entries[-2], now_s)
        sample = history.sample(window_s, now_s, TRACK_TYPE_AUDIO)
        if sample is None:
            continue
        assert_honest(sample)
        if sample.HasField("bitrate_bps"):
            assert sample.bitrate_bps <= 1.000001 * max(rates)
            assert sample.bitrate_bps >= 0.999999 * min(rates) or not whole
