"""Loss is what LiveKit reported lost, of the packets that it could expect between the same two reports."""

from typing import Any

import pytest

from tests.quality.core.readings import sent
from track_server.quality.core.measuring.losses import REPORT_STALE_S, Losses, Packets
from track_server.quality.core.measuring.reading import Hop

START_S = 1e9


class Uplink:
    """50 packets a second, read each ``every_s``; reports of ``lost`` come when `report` says so."""

    def __init__(self) -> None:
        self.losses = Losses(Hop.UPLINK, 65.0)
        self.remote: tuple[float, int] | None = None
        self._before = sent(0, lost=None, lost_time_s=None)
        self.added: list[Packets] = []

    def read(self, seconds: float, **fields: Any) -> None:
        reported: dict[str, Any] = {"lost": None, "lost_time_s": None}
        if self.remote is not None:
            reported = {"lost_time_s": START_S + self.remote[0], "lost": self.remote[1]}
        after = sent(seconds, **{**reported, **fields})
        told = self.losses.add(self._before, after).after
        if told is not None:
            self.added.append(told)
        self._before = after

    def loss(self, window_s: float, now_s: float) -> float | None:
        loss = self.losses.over(window_s, START_S + now_s).after
        return None if loss is None else 100 * loss.lost / loss.expected


def lossy(percents: list[float], *, late_s: float = 0.7) -> Uplink:
    """An uplink with a report each second, read ``late_s`` after it; ``percents`` is the loss of each second."""
    uplink = Uplink()
    lost = 0
    for second, share in enumerate([0.0, *percents], start=1):
        lost += round(50 * share / 100)
        uplink.remote = (second, lost)
        uplink.read(second + late_s)
    return uplink


@pytest.mark.parametrize(
    ("percents", "window_s", "expected"),
    [
        ([10] * 10, 5, 10),
        ([0] * 10, 5, 0),
        ([0] * 5 + [20] * 5, 5, 20),
        ([0] * 8 + [20, 40], 1, 40),
        ([20] * 3 + [0] * 7, 5, 0),
        ([50] * 4, 60, 50),
        ([100] * 10, 5, 100),
    ],
)
def test_loss_is_that_of_the_window(percents: list[float], window_s: float, expected: float) -> None:
    uplink = lossy(percents)
    assert uplink.loss(window_s, len(percents) + 1.7) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("late_s", [0.0, 0.3, 0.9])
def test_loss_is_not_skewed_by_how_old_the_report_is(late_s: float) -> None:
    uplink = lossy([10] * 10, late_s=late_s)
    assert uplink.loss(5, 11 + late_s) == pytest.approx(10)


def test_no_loss_without_two_reports() -> None:
    uplink = Uplink()
    assert uplink.loss(5, 0) is None
    uplink.remote = (0.6, 0)
    uplink.read(1)
    uplink.read(2)
    assert uplink.loss(5, 2) is None
    uplink.remote = (2.5, 7)
    uplink.read(3)
    assert uplink.loss(5, 3) == pytest.approx(100 * 7 / (1.9 * 50))


def test_a_window_shorter_than_the_report_interval_reaches_back_to_the_last_two_reports() -> None:
    uplink = Uplink()
    for second in range(1, 12):
        if second % 4 == 0:
            uplink.remote = (second - 0.5, 20 * second)
        uplink.read(second)
        if second == 10:
            assert uplink.loss(1, second) == pytest.approx(100 * 80 / 200)


def test_a_report_that_stays_away_ends_the_loss() -> None:
    uplink = lossy([10] * 5)
    assert uplink.loss(5, 6 + REPORT_STALE_S) is not None
    assert uplink.loss(5, 6 + REPORT_STALE_S + 0.1) is None
    assert uplink.loss(60, 6 + REPORT_STALE_S + 0.1) is None


def test_the_packets_of_a_blackout_are_counted_over_the_blackout() -> None:
    uplink = lossy([0] * 5)
    for second in range(7, 17):
        uplink.read(second + 0.7)
    uplink.remote = (17, 500)
    uplink.read(17.7)
    assert uplink.loss(11, 17.7) == pytest.approx(100 * 500 / 550)
    assert uplink.loss(1, 17.7) == 100, "it ended with the packet that brought the report"


@pytest.mark.parametrize(("until", "begin", "expected"), [(22, 10, 350), (22, 6.5, 500), (22, 16.5, 25), (80, 78, 10)])
def test_the_loss_of_a_blackout_in_which_a_window_begins_is_that_of_its_end(
    until: int, begin: float, expected: float
) -> None:
    uplink = lossy([0] * 5)
    for second in range(7, 17):
        uplink.read(second + 0.7)
    # A second after the report before it the line was dead for 10 s, of which the last packet brought this.
    for second in range(17, until + 1):
        uplink.remote = (second, 500 + 5 * max(0, second - 22))
        uplink.read(second + 0.7)
    loss = uplink.losses.over(until - begin, START_S + until + 0.7).after
    assert loss is not None
    assert [loss.lost, loss.expected] == pytest.approx([expected, 50 * (until - begin)])


def test_what_was_sent_in_a_blackout_is_not_taken_for_even() -> None:
    uplink = lossy([0] * 5)
    # Dead from 6 s to 17 s: after 5 s the sender made no more.
    for second in range(7, 17):
        uplink.read(second + 0.7, packets=min(300 + 50 * (second - 6) + 35, 550))
    for second in range(17, 23):
        uplink.remote = (second, 250)
        uplink.read(second + 0.7, packets=550 + 50 * (second - 17) + 35)
    # With the report there came what was sent from 16.7 s to 17 s.
    for begin, lost in ((7.7, 175.5), (9.7, 75.5), (12, 10.5), (16, 10.5)):
        loss = uplink.losses.over(22 - begin, START_S + 22.7).after
        assert loss is not None
        assert [loss.lost, loss.expected] == pytest.approx([lost, lost + 239.5]), begin


def test_the_last_count_before_the_longest_window_is_kept_however_old() -> None:
    uplink = lossy([0] * 5)
    for second in range(7, 27):
        uplink.read(second + 0.7)
    # Nothing came from 7 s to 27 s; the longest window begins in it.
    for second in range(27, 81):
        uplink.remote = (second, 1000)
        uplink.read(second + 0.7)
    loss = uplink.losses.over(60, START_S + 80.7).after
    assert loss is not None
    assert [loss.lost, loss.expected] == pytest.approx([350, 3000])


def test_more_lost_than_expected_reaches_further_back_and_never_exceeds_100() -> None:
    uplink = lossy([0] * 5)
    uplink.remote = (7, 160)
    uplink.read(7.7)
    assert uplink.loss(1, 7.7) == pytest.approx(100 * 160 / 200), "three seconds further, where it is possible"
    uplink.remote = (8, 10_000)
    uplink.read(8.7)
    assert uplink.loss(1, 8.7) is None, "nothing explains it"


def test_packets_that_are_found_again_make_no_negative_loss() -> None:
    uplink = lossy([10] * 5)
    uplink.remote = (7, 22)
    uplink.read(7.7)
    assert uplink.loss(1, 7.7) == 0


def test_a_counter_that_begins_anew_ends_the_window() -> None:
    uplink = lossy([60] * 5)
    uplink.remote = (7, 1)
    uplink.read(7.7)
    assert uplink.loss(5, 7.7) is None
    uplink.remote = (8, 6)
    uplink.read(8.7)
    assert uplink.loss(5, 8.7) == pytest.approx(10)


def test_retransmissions_are_not_expected_twice() -> None:
    uplink = Uplink()
    for second in range(1, 7):
        uplink.remote = (second, 5 * second)
        uplink.read(second, packets=50 * second, resent=20 * second, nacks=second)
    assert uplink.loss(5, 6) == pytest.approx(10)


@pytest.mark.parametrize("remote_s", [-30.0, 30.0])
def test_a_report_that_does_not_lie_between_its_readings_is_left_out(remote_s: float) -> None:
    uplink = lossy([10] * 5)
    uplink.remote = (7 + remote_s, 5000)
    uplink.read(7.7)
    assert uplink.loss(5, 7.7) == pytest.approx(10)


@pytest.mark.parametrize(("second", "begin"), [(3, 10.0), (4, 10.4)])
def test_a_window_is_counted_from_its_first_reading_where_nothing_was_lost_before_the_next_count(
    second: int, begin: float
) -> None:
    losses = Losses(Hop.UPLINK, 65.0)
    before = sent(10, lost=3, lost_time_s=START_S + 9.4)
    losses.begin(before)
    for number, lost in enumerate([second, second, 10]):
        after = sent(11 + number, lost=lost, lost_time_s=START_S + 10.4 + number)
        losses.add(before, after)
        before = after
    loss = losses.over(60.0, START_S + 13).after
    assert loss is not None
    assert [loss.lost, loss.expected] == pytest.approx([10 - second, 50 * (12.4 - begin)])
