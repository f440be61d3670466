"""Changes that come too often, or are too large for how often they come."""

import pytest

from track_server.config.limits import LimitSettings
from track_server.errors import LimitExceeded
from track_server.metadata.pace import Pace

LIMITS = LimitSettings(
    max_metadata_changes_per_second_per_participant=10, max_metadata_change_bytes_per_second_per_participant=1024
)


def test_a_second_s_worth_of_changes_may_come_at_once() -> None:
    pace = Pace(LIMITS)
    for _ in range(10):
        pace.admit("r", "a", 1, 0.0)
    with pytest.raises(LimitExceeded) as raised:
        pace.admit("r", "a", 1, 0.0)
    assert raised.value.limit == "max_metadata_changes_per_second_per_participant"
    assert raised.value.retry_delay_s == pytest.approx(0.1, abs=0.01)
    assert "several changes into one" in raised.value.message
    pace.admit("r", "b", 1, 0.0)
    pace.admit("r", "a", 1, 0.11)


def test_what_is_large_may_come_less_often() -> None:
    pace = Pace(LIMITS)
    pace.admit("r", "a", 512, 0.0)
    pace.admit("r", "a", 512, 0.0)
    with pytest.raises(LimitExceeded) as raised:
        pace.admit("r", "a", 512, 0.0)
    assert raised.value.limit == "max_metadata_change_bytes_per_second_per_participant"
    assert raised.value.retry_delay_s == pytest.approx(0.5)
    pace.admit("r", "a", 512, 0.5)


def test_what_is_larger_than_a_second_s_worth_comes_after_a_pause_of_its_own() -> None:
    pace = Pace(LIMITS)
    pace.admit("r", "a", 10_240, 0.0)
    with pytest.raises(LimitExceeded) as raised:
        pace.admit("r", "a", 1, 0.0)
    assert raised.value.retry_delay_s == pytest.approx(9.0, abs=0.1)
    pace.admit("r", "a", 1, 9.1)


def test_what_is_refused_takes_nothing() -> None:
    pace = Pace(LIMITS)
    pace.admit("r", "a", 1024, 0.0)
    for _ in range(100):
        with pytest.raises(LimitExceeded):
            pace.admit("r", "a", 1024, 0.5)
    pace.admit("r", "a", 1024, 1.0)
