"""The judges themselves, with made-up logs: each has to say how far off a wrong word is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from google.protobuf import duration_pb2

from bench.impairment import judging
from bench.impairment.told import Flow, LiveKitLevel, Told, ToldAlert
from bench.impairment.truth import SRTP_TAG_BYTES, Change, Direction, Line, Lost, Stream, Truth, lost
from tests.impairment.line import Bounds
from track.v1 import quality_alert_pb2 as qa
from track.v1.quality_pb2 import QualityMeasurement, QualityNumber, QualityShare

FLOW: Final = Flow("TR_1", qa.QUALITY_HOP_UPLINK, "publisher")
RECEIVED: Final = Flow("TR_1", qa.QUALITY_HOP_DOWNLINK, "subscriber")
LOSS: Final = frozenset({qa.QUALITY_ALERT_KIND_NETWORK_LOSS})


def stream(seconds: float = 100, a_second: int = 50, lose: Sequence[int] = (), size: int = 100) -> Stream:
    """A packet each 20 ms from 1000 s on, a picture of two; ``lose``: numbers of those that were dropped."""
    count = int(seconds * a_second)
    columns = {
        "due_s": np.arange(1, count + 1) / a_second,
        "passed": [number not in lose for number in range(count)],
        "payload_bytes": [size + SRTP_TAG_BYTES] * count,
        "rtp_time": [number // 2 * 3000 for number in range(count)],
        "sequence": [(60_000 + number) % 65_536 for number in range(count)],
        "payload_types": [96],
    }
    return Stream.made(1, columns, 1000.0)


def measurement(window_s: float, **numbers: Any) -> QualityMeasurement:
    return QualityMeasurement(window=_span(window_s), **numbers)


def share(part: float, whole: float, age_s: float = 0.0) -> QualityShare:
    return QualityShare(part=part, whole=whole, percent=100 * part / whole, age=_span(age_s))


def number(value: float, age_s: float = 0.0) -> QualityNumber:
    return QualityNumber(value=value, age=_span(age_s))


def _span(seconds: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(nanos=round(seconds * 1e9) % 10**9, seconds=int(seconds))


def alert(kind: int, on_s: float, off_s: float | None, flow: Flow = FLOW, fault: int = 2) -> ToldAlert:
    return ToldAlert(f"{kind}/{on_s}", kind, flow, fault, on_s, off_s)


def test_loss_is_held_against_the_packets_of_the_same_span() -> None:
    # 10 of the 250 packets of 1050 to 1055.
    streams = [stream(lose=range(2600, 2610))]
    right = Told(1056.0, FLOW, measurement(5, loss_before_repair=share(10, 250, age_s=1.0)))
    points, packets = judging.loss_errors([right], streams, 5)
    assert points[0].size == pytest.approx(0)
    assert packets[0].size == 0
    wrong = replace(right, measurement=measurement(5, loss_before_repair=share(7, 250, age_s=1.0)))
    points, packets = judging.loss_errors([wrong], streams, 5)
    assert points[0].size == pytest.approx(1.2)
    assert packets[0].size == 3


def test_an_old_number_that_is_told_as_new_is_off() -> None:
    streams = [stream(lose=range(2600, 2610))]
    late = Told(1058.0, FLOW, measurement(5, loss_before_repair=share(10, 250, age_s=0.0)))
    honest = Told(1058.0, FLOW, measurement(5, loss_before_repair=share(10, 250, age_s=4.0)))
    assert judging.loss_errors([late], streams, 5)[1][0].size == 10
    assert judging.loss_errors([honest], streams, 5)[1][0].size == 0


def test_other_windows_and_numbers_that_are_not_there_are_not_judged() -> None:
    told = [
        Told(1060.0, FLOW, measurement(60, loss_before_repair=share(1, 3000))),
        Told(1060.0, FLOW, measurement(5)),
        Told(1060.0, FLOW, measurement(3, loss_before_repair=share(0, 150))),
    ]
    assert judging.loss_errors(told, [stream()], 5) == ([], [])
    assert len(judging.loss_errors(told, [stream()], 60)[0]) == 1


def test_where_after_repair_alone_is_told_that_is_it() -> None:
    told = [Told(1060.0, FLOW, measurement(5, loss_after_repair=share(5, 250)))]
    assert judging.loss_errors(told, [stream()], 5)[1][0].size == 5


def test_a_round_trip_is_held_against_the_delay_that_was_in_force() -> None:
    up = Direction(changes=[Change(1000.0, Bounds()), Change(1030.0, Bounds(delay_s=0.2))])
    line = Line(up=up, down=Direction(changes=[Change(1000.0, Bounds(delay_s=0.05))]))
    told = [
        Told(1020.0, FLOW, measurement(5, rtt_ms=number(52))),
        Told(1037.0, FLOW, measurement(5, rtt_ms=number(50))),
        Told(1040.0, FLOW, measurement(5, rtt_ms=number(280))),
    ]
    errors, late = judging.rtt_errors(told, line, own_ms=1.0)
    assert not late
    # The second was measured just after the change: no truth of it.
    assert [error.true for error in errors] == [pytest.approx(51.0), pytest.approx(251.0)]
    assert [judging.beyond_bound(error) for error in errors] == [pytest.approx(0.2), pytest.approx(29 / 12.55)]


def test_bit_rate_is_sent_on_an_uplink_and_what_passed_on_a_downlink() -> None:
    streams = [stream(lose=range(2500, 2625))]
    told = Told(1055.0, FLOW, measurement(5, bitrate_bps=number(40_000)))
    assert judging.bitrate_errors([told], streams, 5)[0].true == pytest.approx(40_000)
    passed = judging.bitrate_errors([replace(told, flow=RECEIVED)], streams, 5)[0]
    assert passed.true == pytest.approx(20_000)
    assert passed.size == pytest.approx(20_000)


def test_what_a_repair_brought_is_media_that_came() -> None:
    told = Told(1055.0, RECEIVED, measurement(5, bitrate_bps=number(40_000)))
    streams, repairs = [stream(lose=range(2500, 2625))], [replace(stream(a_second=25, size=102), ssrc=2)]
    assert judging.bitrate_errors([told], streams, 5, repairs)[0].true == pytest.approx(40_000)
    sent = replace(told, flow=FLOW)
    assert judging.bitrate_errors([sent], streams, 5, repairs)[0].true == pytest.approx(40_000)


def test_frames_are_those_of_the_stream_that_carries_most() -> None:
    small = stream(a_second=20, size=10)
    told = Told(1055.0, FLOW, measurement(5, frames_per_second=number(24)))
    error = judging.frame_errors([told], [small, stream()], 5)[0]
    assert error.true == pytest.approx(25, abs=0.3)
    assert error.size == pytest.approx(1, abs=0.3)


def test_a_find_is_timed_from_the_change_and_cleared_from_the_healing() -> None:
    alerts = [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 1004.5, 1033.0)]
    found = judging.find(alerts, FLOW, LOSS, 1000.0, 1020.0, 1050.0)
    assert (found.found_s, found.cleared_s) == (4.5, 13.0)


@pytest.mark.parametrize(
    "alerts",
    [
        [],
        [alert(qa.QUALITY_ALERT_KIND_DELAY, 1004.0, 1010.0)],
        [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 1004.0, 1010.0, RECEIVED)],
        [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 990.0, 999.0)],
        [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 1051.0, None)],
    ],
    ids=["none", "of another kind", "of another flow", "before", "after"],
)
def test_what_is_no_find_is_none(alerts: list[ToldAlert]) -> None:
    found = judging.find(alerts, FLOW, LOSS, 1000.0, 1020.0, 1050.0)
    assert (found.found_s, found.cleared_s, found.already) == (None, None, False)


def test_an_alert_that_stays_on_is_found_and_not_cleared() -> None:
    for off_s in (None, 1051.0):
        found = judging.find(
            [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 1003.0, off_s)], FLOW, LOSS, 1000.0, 1020.0, 1050.0
        )
        assert (found.found_s, found.cleared_s) == (3.0, None)


def test_where_one_was_on_already_there_was_nothing_to_find() -> None:
    alerts = [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 990.0, 1030.0)]
    assert judging.find(alerts, FLOW, LOSS, 1000.0, 1020.0, 1050.0).already


def test_false_alarms_are_those_that_nothing_speaks_for() -> None:
    alerts = [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 1, 2), alert(qa.QUALITY_ALERT_KIND_STALLED, 3, 4)]
    assert judging.false_alarms(alerts, LOSS) == alerts[1:]
    assert judging.false_alarms(alerts, ()) == alerts


def test_causes_are_counted_of_the_kinds_in_question() -> None:
    uplink, downlink = qa.QUALITY_FAULT_PUBLISHER_UPLINK, qa.QUALITY_FAULT_SUBSCRIBER_DOWNLINK
    alerts = [
        alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 1, 2, fault=uplink),
        alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 3, 4, fault=downlink),
        alert(qa.QUALITY_ALERT_KIND_CPU, 3, 4, fault=qa.QUALITY_FAULT_DEVICE),
    ]
    assert judging.right_causes(alerts, LOSS, (uplink,)) == (1, 2)


def test_changes_of_alerts_are_their_begins_and_ends() -> None:
    alerts = [alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 5, 20), alert(qa.QUALITY_ALERT_KIND_NETWORK_LOSS, 30, None)]
    assert judging.alert_changes(alerts, 10, 60) == 2
    assert judging.alert_changes(alerts, 0, 60) == 3


def test_livekits_changes_are_of_that_participant_and_that_time() -> None:
    said = [
        LiveKitLevel(time_s, who, level, "service")
        for time_s, who, level in ((1, "a", 3), (5, "a", 2), (6, "b", 1), (8, "a", 2), (12, "a", 3), (99, "a", 1))
    ]
    assert judging.livekit_changes(said, "a", 0, 60) == 2
    assert judging.livekit_changes(said, "a", 10, 60) == 1
    assert judging.livekit_said(said, "a", 6, 20) == {2, 3}


def test_truth_is_by_track_and_line() -> None:
    up, down = replace(stream(lose=[0]), ssrc=1), replace(stream(), ssrc=2)
    lines = {"publisher": Line(up=Direction({1: up})), "subscriber": Line(down=Direction({2: down}))}
    truth = Truth(lines, {"TR_1": frozenset({1})}, {("TR_1", "subscriber"): frozenset({2, 3})})
    assert truth.uplink("TR_1", "publisher") == [up]
    assert truth.downlink("TR_1", "subscriber") == [down]
    assert truth.uplink("TR_2", "publisher") == truth.downlink("TR_1", "somebody") == []
    count = lost([up, down], 1000.0, 1001.0)
    assert (count.part, count.whole) == (1, 100)


def test_packets_of_padding_are_no_frames_and_no_payload() -> None:
    padding = Stream.made(
        9,
        {
            "due_s": [1.0, 2.0],
            "passed": [1, 1],
            "payload_bytes": [0, 30],
            "rtp_time": [1, 2],
            "sequence": [1, 2],
            "payload_types": [96],
        },
        0.0,
    )
    assert padding.frames(0, 5, passed_only=True) == 1
    assert padding.payload(0, 5, passed_only=True) == 30 - SRTP_TAG_BYTES


def test_what_is_sent_again_under_its_number_is_lost_as_any_other_and_is_no_media_more() -> None:
    numbers = [65_534, 65_535, 0, 65_535, 1, 0, 2]
    made = Stream.made(
        9,
        {
            "due_s": [1.0 + at for at in range(7)],
            "passed": [1, 0, 1, 1, 0, 1, 1],
            "payload_bytes": [110] * 7,
            "rtp_time": numbers,
            "sequence": numbers,
            "payload_types": [96],
        },
        0.0,
    )
    assert list(made.first) == [True, True, True, False, True, False, True]
    count = made.lost(0, 99)
    assert (count.part, count.whole) == (2, 7)
    assert made.payload(0, 99, passed_only=False) == 500
    assert made.payload(0, 99, passed_only=True) == 300
    assert made.frames(0, 99, passed_only=False) == 5


def test_what_its_sender_numbered_and_never_let_out_is_lost() -> None:
    numbers = [65_534, 0, 65_535, 3, 4]
    columns = {
        "due_s": [1.0, 1.2, 1.25, 2.2, 2.3],
        "passed": [1, 1, 0, 1, 1],
        "payload_bytes": [110] * 5,
        "rtp_time": numbers,
        "sequence": numbers,
        "payload_types": [96],
    }
    made = Stream.made(9, columns, 0.0, at_source=True)
    assert [made.lost(*span) for span in ((0, 9), (1.2, 1.6), (1.6, 9))] == [Lost(3, 7), Lost(2, 2), Lost(1, 3)]
    # Of what LiveKit forwards, it is the publisher's.
    assert Stream.made(9, columns, 0.0).lost(0, 9) == Lost(1, 5)


def test_no_round_trip_is_known_where_packets_wait_or_jitter() -> None:
    for bounds in (Bounds(rate_bps=1e5), Bounds(jitter_s=0.04)):
        line = Line(up=Direction(changes=[Change(1000.0, bounds)]))
        told = [Told(1020.0, FLOW, measurement(5, rtt_ms=number(52)))]
        assert judging.rtt_errors(told, line, own_ms=0.0) == ([], 0)


def test_round_trips_of_a_machine_that_was_late_itself_are_counted_and_not_judged() -> None:
    line = Line(late=[(1000.0 + second, 0.03 if second == 15 else 0.001) for second in range(60)])
    told = [Told(1000.0 + at, FLOW, measurement(5, rtt_ms=number(40))) for at in (13, 14, 20, 22, 24, 30)]
    errors, late = judging.rtt_errors(told, line, own_ms=0.0)
    assert [error.time_s for error in errors] == [1013.0, 1024.0, 1030.0]
    assert late == 3
