"""The windows over which a hosted publication's counters are differenced, and their numbers."""

import pytest

from tests.quality.samples import Uplink, at, audio, hosted, measure, numbers_of, stream, window_of
from track.media.v1.media_service_pb2 import DataTrackStats, HostedTrackStats, RtpStreamStats
from track.v1.track_pb2 import TRACK_TYPE_DATA, TRACK_TYPE_VIDEO
from track_server.quality.core.measuring.stream import HISTORY_S, MAX_READINGS


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
    uplink = Uplink()
    for second in range(5):
        uplink.add(STEADY[second], second)
    uplink.interrupt()
    assert uplink.sample(5.0, 4.0) is None
    for second in (5, 6):
        uplink.add(hosted(second, [audio(second)]), second)
    sample = uplink.sample(5.0, 6.0)
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
    uplink = Uplink()
    uplink.add(HostedTrackStats(publication_id="PUB_1", track_sid="TR_1", streams=[audio(1)]), 1.0)
    assert uplink.sample(5.0, 1.0) is None


def test_the_age_counts_from_the_arrival_whatever_the_publishers_clock_says() -> None:
    uplink = Uplink()
    uplink.add(hosted(1000, [audio(1)]), 10.0)
    sample = uplink.sample(5.0, 12.5)
    assert sample is not None
    assert sample.age.ToMilliseconds() == 2500
    assert uplink.sample(5.0, 10.0 + HISTORY_S + 1) is None


def test_a_uplink_is_bounded_in_time_and_number() -> None:
    slow, fast = Uplink(), Uplink()
    for second in range(200):
        slow.add(hosted(second, [audio(second)]), second)
        fast.add(hosted(second / 100, [audio(second)]), second / 100)
    old = slow.sample(1000.0, 199.0)
    assert old is not None
    assert window_of(old) == HISTORY_S
    many = fast.sample(1000.0, 2.0)
    assert many is not None
    assert window_of(many) == pytest.approx((MAX_READINGS - 1) / 100)


def test_a_data_track_tells_frames_and_payload() -> None:
    sample = measure(
        hosted(0, data=DataTrackStats(frames_pushed=0, bytes_pushed=0)),
        hosted(4, data=DataTrackStats(frames_pushed=40, bytes_pushed=4000)),
        track_type=TRACK_TYPE_DATA,
    )
    assert numbers_of(sample) == {"frames_per_second", "bitrate_bps"}
    assert sample.frames_per_second == 10
    assert sample.bitrate_bps == 8000
