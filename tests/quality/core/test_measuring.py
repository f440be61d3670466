"""Windows: what is differenced, what ends them, and that nothing is made up."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quality.core.readings import received, sent
from track_server.quality.core.measuring.admission import refusal
from track_server.quality.core.measuring.continuity import Break
from track_server.quality.core.measuring.meter import Expected, Meter
from track_server.quality.core.measuring.reading import Hop, Limitation, Media, Reading, Source
from track_server.quality.core.measuring.sample import Number, Sample, Share, merged


def uplink(*readings: Reading, media: Media = Media.AUDIO) -> Meter:
    meter = Meter(Hop.UPLINK, media)
    for reading in readings:
        meter.add([reading])
    return meter


def downlink(*readings: Reading, media: Media = Media.VIDEO) -> Meter:
    meter = Meter(Hop.DOWNLINK, media)
    for reading in readings:
        meter.add([reading])
    return meter


def total(meter: Meter, span_s: float = 5.0, now_s: float | None = None) -> Sample:
    found = meter.total(span_s, now_s if now_s is not None else max(s.arrival_s for s in meter._series.values()))
    assert found is not None
    return found


def test_each_number_has_its_source_and_age() -> None:
    sample = total(uplink(*(sent(second) for second in range(11))), now_s=12.0)
    assert sample.window_s == 5.0
    assert sample.bitrate_bps == Number(40_000.0, Source.PUBLISHER_STATS, 2.0)
    assert sample.loss_after == Share(0.0, 250.0, Source.PUBLISHER_STATS, 2.0)
    rtt_ms = total(uplink(*(sent(s, lost_time_s=1e9 + s - 0.5) for s in range(11)))).rtt_ms
    assert rtt_ms == Number(30.0, Source.PUBLISHER_STATS, 0.5)


@pytest.mark.parametrize("asked_s", [20.9, 20.4], ids=["sent again before the report", "and partly after it"])
def test_what_a_blackout_took_and_was_sent_again_at_one_go_stays_lost_before_repair(asked_s: float) -> None:
    meter = Meter(Hop.UPLINK, Media.VIDEO)
    for second in range(61):
        # Nothing arrives for 3 s, nor is anything reported; then 150 are told lost, asked for, and sent again.
        reported = 16 if 17 <= second < 20 else second
        lost, resent = (150, 0) if second == 20 else (0, 150 if second > 20 else 0)
        time_s = 1e9 + (asked_s if second == 21 else reported)
        meter.add([sent(second, lost=lost, resent=resent, lost_time_s=time_s)])
        if second == 30:
            sample = total(meter)
            assert sample.loss_before is not None
            assert (sample.loss_before.part, sample.loss_before.whole) == (0.0, 250.0)
    sample = total(meter, 60.0)
    assert sample.loss_before is not None
    assert sample.loss_after is not None
    assert sample.loss_before.part == pytest.approx(150.0)
    assert sample.loss_before.whole == pytest.approx(3000.0 + 150.0)
    assert sample.loss_after.part == 0.0
    assert sample.loss_after.whole == pytest.approx(3000.0)


@pytest.mark.parametrize(("span_s", "window_s"), [(1.0, 1.0), (5.0, 5.0), (60.0, 60.0)])
def test_windows_of_three_lengths(span_s: float, window_s: float) -> None:
    assert total(uplink(*(sent(second) for second in range(80))), span_s).window_s == window_s


def test_what_was_not_measured_is_absent_and_a_measured_zero_is_zero() -> None:
    bare = replace(sent(0), packets=None, resent=None, payload_bytes=None, lost=None, jitter_ms=None, rtt_ms=None)
    sample = total(uplink(bare, replace(bare, time_s=1e9 + 1, arrival_s=1.0)))
    assert all(getattr(sample, name) is None for name in ("loss_before", "loss_after", "bitrate_bps", "rtt_ms"))
    silent = total(uplink(sent(0), sent(1, packets=0, payload_bytes=0)))
    assert silent.bitrate_bps is not None
    assert silent.bitrate_bps.value == 0
    assert Meter(Hop.UPLINK, Media.AUDIO).total(5.0, 0.0) is None


def test_one_reading_gives_no_rates() -> None:
    sample = total(uplink(sent(3)))
    assert sample.window_s is None
    assert sample.bitrate_bps is None
    assert sample.loss_after is None
    assert sample.rtt_ms is not None


@pytest.mark.parametrize(
    ("reading", "broke"),
    [
        (sent(11, packets=3, payload_bytes=300), Break.RESET),
        (sent(40), Break.GAP),
        (sent(11, time_s=1e9 + 15), Break.CLOCK),
        (sent(11, time_s=1e9 - 3), Break.CLOCK),
        (sent(11, ssrc=7), Break.STREAMS),
    ],
)
def test_what_makes_a_difference_meaningless_ends_the_window(reading: Reading, broke: Break) -> None:
    meter = uplink(*(sent(second) for second in range(11)))
    meter.taken()
    assert meter.add([reading]) is broke
    assert total(meter).window_s is None
    assert meter.taken() == (None, None, None)


def test_a_layer_switch_and_a_mute_end_the_window() -> None:
    meter = downlink(*(received(second) for second in range(11)))
    assert meter.add([received(11, width=1280, height=720)]) is Break.LAYER
    meter = downlink(*(received(second) for second in range(11)))
    meter.expect(Expected(muted=True))
    assert meter.total(5.0, 11.0) is None


def test_late_and_doubled_readings_are_left_out() -> None:
    meter = uplink(*(sent(second) for second in range(11)))
    before = total(meter)
    for late in (sent(10), sent(7)):
        assert meter.add([late]) is None
    assert total(meter) == before


def test_loss_of_video_before_and_after_repair() -> None:
    """95 of 100 transmissions arrive; all but one loss a second is repaired."""
    meter = uplink(*(sent(s, packets=95 * s, resent=4 * s, lost=s) for s in range(11)), media=Media.VIDEO)
    sample = total(meter, 10.0)
    assert sample.loss_after == Share(10.0, 950.0, Source.PUBLISHER_STATS, 0.0)
    assert sample.loss_before == Share(50.0, 990.0, Source.PUBLISHER_STATS, 0.0)
    raw = [received(s, packets=100 * s, resent=4 * s, lost=5 * s, lost_before_repair=True) for s in range(11)]
    sample = total(downlink(*raw), 10.0)
    assert sample.loss_before is not None
    assert sample.loss_before.part == 50
    assert sample.loss_before.whole == 1010
    assert sample.loss_after is not None
    assert sample.loss_after.part == 10


def test_a_report_that_is_older_than_the_counters_is_placed_where_it_belongs() -> None:
    """All lost for good from second 5 on, told half a second late: 2.5 s of 50 packets of a window of 5 s."""
    readings = [sent(s, lost=max(0, round(25 * (s - 0.5 - 5))), lost_time_s=1e9 + s - 0.5) for s in range(11)]
    loss = total(uplink(*readings)).loss_after
    assert loss is not None
    assert loss.percent == pytest.approx(45.0, abs=5.1)
    assert loss.whole == pytest.approx(250.0, abs=26)


def test_packets_that_come_late_take_their_loss_back() -> None:
    losses = [0, 0, 5, 0, 0, 0]
    meter = uplink(*(sent(s, lost=lost) for s, lost in enumerate(losses)))
    sample = total(meter)
    assert sample.loss_after is not None
    assert sample.loss_after.part == 0
    packets = meter.taken().packets
    assert packets is not None
    assert packets.lost == 0


def test_a_blackouts_packets_are_told_once_and_over_its_whole_length() -> None:
    meter = uplink(*(sent(s) for s in range(6)))
    for s in range(6, 9):
        meter.add([sent(s, lost_time_s=1e9 + 5)])
    assert total(meter).stalled_s == Number(3.0, Source.PUBLISHER_STATS, 0.0)
    meter.taken()
    meter.add([sent(9, lost=150)])
    packets = meter.taken().packets
    assert packets is not None
    assert packets.lost == 150
    assert packets.expected == 200
    loss = total(meter, 5.0).loss_after
    assert loss is not None
    assert (loss.part, loss.whole) == (150, 250)
    loss = total(meter, 1.0).loss_after
    assert loss is not None
    assert loss.percent == 100, "it lasted until the report"


def test_a_share_of_loss_covers_its_window_though_reports_lie_otherwise() -> None:
    """Half of it is lost from second 5.5 on; reports come at 5.5, 6.5, ...: 3.5 s of it lie in 5 s at 9."""
    readings = [sent(s, lost=max(0, round(25 * (s - 0.5 - 5.5))), lost_time_s=1e9 + s - 0.5) for s in range(10)]
    loss = total(uplink(*readings)).loss_after
    assert loss is not None
    assert loss.whole == pytest.approx(250, abs=1)
    assert loss.part == pytest.approx(75, abs=1)


def test_a_freeze_that_goes_on_is_seen_and_one_that_ended_is_not_counted_twice() -> None:
    meter = downlink(*(received(s) for s in range(11)))
    for s in (11, 12, 13):
        meter.add([received(s, frames=300)])
    sample = total(meter)
    assert sample.freezing_s is not None
    assert sample.freezing_s.value == 3.0
    assert sample.stuck_s is not None
    assert sample.stuck_s.value == 3.0
    assert sample.frozen is not None
    assert sample.frozen.part == 3.0
    meter.add([received(14, frames=330, freezes_s=3.5)])
    sample = total(meter)
    assert sample.freezing_s is not None
    assert sample.freezing_s.value == 0
    assert sample.frozen is not None
    assert sample.frozen.part == 3.5


def test_a_freeze_that_the_client_does_not_tell_is_counted_by_its_frames() -> None:
    meter = downlink(*(received(s, freezes_s=None) for s in range(11)))
    for s in (11, 12, 13):
        meter.add([received(s, freezes_s=None, frames=300)])
    meter.add([received(14, freezes_s=None, frames=330)])
    frozen = total(meter).frozen
    assert frozen is not None
    assert (frozen.part, frozen.whole) == (3.0, 5.0)


def test_packets_that_nobody_asked_for_again_are_no_loss() -> None:
    """Chromium counts the padding of its bandwidth probes as retransmitted."""
    asked = uplink(*(sent(s, resent=4 * s, nacks=s) for s in range(11)), media=Media.VIDEO)
    unasked = uplink(*(sent(s, resent=4 * s, nacks=3) for s in range(11)), media=Media.VIDEO)
    losses = [total(meter).loss_before for meter in (asked, unasked)]
    assert [loss.part for loss in losses if loss is not None] == [20.0, 0.0]


@pytest.mark.parametrize("expected", [Expected(wanted=False), Expected(muted=True), Expected(screen=True)])
def test_a_picture_that_need_not_move_is_neither_frozen_nor_stalled(expected: Expected) -> None:
    meter = Meter(Hop.DOWNLINK, Media.VIDEO)
    meter.expect(expected)
    for s in range(5):
        meter.add([received(s)])
    for s in range(5, 15):
        meter.add([received(s, packets=400, payload_bytes=400_000, frames=120)])
    sample = total(meter)
    assert sample.stalled_s is None
    assert sample.freezing_s is None
    assert sample.stuck_s is None


def test_a_simulcast_track_is_the_sum_of_its_layers() -> None:
    meter = Meter(Hop.UPLINK, Media.VIDEO)
    for s in range(11):
        meter.add(
            [
                sent(s, ssrc=n, rid="qhf"[n], width=320 << n, height=180 << n, frames=30 * s, lost=s * n)
                for n in range(3)
            ]
        )
    sample = total(meter)
    assert sample.bitrate_bps is not None
    assert sample.bitrate_bps.value == 120_000
    assert sample.width is not None
    assert sample.width.value == 1280
    assert sample.loss_after is not None
    assert (sample.loss_after.part, sample.loss_after.whole) == (15, 750)
    assert [layer.rid for layer in meter.layers(5.0, 10.0)] == ["q", "h", "f"]


def test_the_most_trusted_source_wins_number_by_number_unless_it_is_old() -> None:
    meter = Meter(Hop.DOWNLINK, Media.VIDEO)
    for s in range(6):
        meter.add([received(s, source=Source.COMPANION, rtt_ms=11.0, resent=None)])
        meter.add([received(s, source=Source.REPORTED, rtt_ms=99.0)])
    meter.score(3.5, 5.0)
    sample = total(meter)
    assert sample.rtt_ms == Number(11.0, Source.COMPANION, 0.0)
    assert sample.loss_before is not None
    assert sample.loss_before.source is Source.REPORTED
    assert sample.sfu_score == Number(3.5, Source.SFU_SCORE, 0.0)
    for s in range(6, 30):
        meter.add([received(s, source=Source.REPORTED, rtt_ms=99.0)])
    assert total(meter).rtt_ms == Number(99.0, Source.REPORTED, 0.0)


def test_evidence_is_counted_once_though_two_sources_tell_of_it() -> None:
    meter = Meter(Hop.DOWNLINK, Media.VIDEO)
    for s in range(6):
        for source in (Source.COMPANION, Source.REPORTED):
            meter.add([received(s, source=source)])
    packets = meter.taken().packets
    assert packets is not None
    assert packets.expected == 500


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"time_s": math.nan}, "time"),
        ({"time_s": 2e9}, "time"),
        ({"time_s": 1.0}, "time"),
        ({"rtt_ms": math.nan}, "rtt_ms"),
        ({"rtt_ms": -1.0}, "rtt_ms"),
        ({"jitter_ms": math.inf}, "jitter_ms"),
        ({"packets": -5}, "packets"),
        ({"lost": 2**60}, "lost"),
        ({"ssrc": 2**32}, "ssrc"),
        ({"width": 70_000}, "width"),
        ({"concealed": 9, "samples": 3}, "concealed"),
        ({"packets": 50 * 3 + 10_000_000}, "packets"),
        ({"lost_time_s": math.nan}, "lost_time_s"),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_field(change: dict[str, Any], field: str) -> None:
    found = refusal(sent(3, **change), 1e9 + 3, sent(2))
    assert found is not None
    assert found.field == field


def test_what_can_be_is_taken() -> None:
    assert refusal(sent(3, limitation=Limitation.CPU), 1e9 + 3, sent(2)) is None


COUNTS = st.one_of(st.none(), st.integers(-10, 2000))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(Hop),
    st.lists(
        st.tuples(
            st.floats(-3, 8, allow_nan=False), st.floats(0.01, 8), COUNTS, COUNTS, COUNTS, COUNTS, st.booleans(),
            st.one_of(st.none(), st.sampled_from([180, 360])),
        ),
        max_size=30,
    ),
)  # fmt: skip
def test_whatever_comes_no_number_is_impossible(hop: Hop, steps: list[Any]) -> None:
    meter = Meter(hop, Media.VIDEO)
    time_s, arrival_s = 1e9, 0.0
    for clock, passed, packets, lost, resent, frames, raw, height in steps:
        time_s += clock
        arrival_s += passed
        reading = received(
            0, time_s=time_s, arrival_s=arrival_s, packets=packets, lost=lost, resent=resent, frames=frames,
            payload_bytes=None if packets is None else packets * 100, lost_before_repair=raw, height=height,
        )  # fmt: skip
        meter.add([reading])
        for span_s in (1.0, 5.0, 60.0):
            sample = meter.total(span_s, arrival_s)
            if sample is None:
                continue
            for name in ("loss_before", "loss_after", "frozen", "concealed"):
                share = getattr(sample, name)
                assert share is None or (share.whole > 0 and 0 <= share.part <= share.whole + 1e-6)
            for name in ("bitrate_bps", "frames_per_second", "stalled_s", "freezing_s", "stuck_s", "rtt_ms"):
                number = getattr(sample, name)
                assert number is None or (math.isfinite(number.value) and number.value >= 0 and number.age_s >= 0)
            assert sample.window_s is None or 0.5 <= sample.window_s <= 66


@pytest.mark.parametrize("hop", Hop)
def test_one_reading_does_not_tell_when_anything_came(hop: Hop) -> None:
    meter = Meter(hop, Media.AUDIO)
    meter.add([sent(3, lost_time_s=None)])
    assert total(meter).stalled_s is None
    meter.add([sent(4, packets=150, payload_bytes=15_000, lost_time_s=None)])
    assert total(meter).stalled_s == Number(1.0, Source.PUBLISHER_STATS, 0.0)


def test_the_freshest_stands_where_all_are_old() -> None:
    old = Sample(rtt_ms=Number(1.0, Source.PUBLISHER_STATS, 40.0))
    older = Sample(rtt_ms=Number(2.0, Source.COMPANION, 30.0))
    assert merged([old, older]).rtt_ms == Number(2.0, Source.COMPANION, 30.0)
