"""The filter's share of the processor."""

import itertools

import pytest

from track.v1.quality_pb2 import TrackQualityReport
from track_server.errors import InvalidExpression
from track_server.quality.streaming.matching import AT_ONCE_S, SHARE, Matching

EVERY_S = 0.01
"""What an evaluation takes of the processor, here."""


class Time:
    """Both clocks."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._used = itertools.count()

    def used(self) -> float:
        return next(self._used) * EVERY_S


def test_a_filter_may_take_its_share_for_ever() -> None:
    time = Time()
    matching = Matching("report.muted", lambda: time.now_s, time.used)
    for _ in range(1000):
        time.now_s += EVERY_S / SHARE
        assert not matching.holds(TrackQualityReport())


def test_a_filter_that_takes_more_is_refused() -> None:
    time = Time()
    matching = Matching("report.muted", lambda: time.now_s, time.used)
    reports = [TrackQualityReport()] * (round(AT_ONCE_S / EVERY_S) - 1)
    assert not any(map(matching.holds, reports))
    with pytest.raises(InvalidExpression) as refused:
        any(map(matching.holds, reports))
    assert refused.value.field == "filter"


def test_no_filter_takes_nothing() -> None:
    matching = Matching("", lambda: 0.0, Time().used)
    assert all(matching.holds(TrackQualityReport()) for _ in range(1000))


def test_an_expression_that_may_take_too_long_is_refused_at_once() -> None:
    with pytest.raises(InvalidExpression):
        Matching(r'report.track_sid.matches("(x{1,31}){1,31}")', lambda: 0.0)
