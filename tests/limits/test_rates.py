"""Token buckets."""

from hypothesis import given
from hypothesis import strategies as st

from track_server.limits.rates import Rates

RATES = st.integers(1, 10_000)
STEPS = st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=200)


def taken(rates: Rates, now: float, wanted: int) -> int:
    """How many of ``wanted`` tokens are had at that moment."""
    return sum(rates.take("key", now) == 0 for _ in range(wanted))


@given(RATES, st.floats(0, 1e6))
def test_a_rested_bucket_has_one_seconds_worth(per_second: int, now: float) -> None:
    # The clock's rounding may cost or bring one.
    assert abs(taken(Rates(per_second), now, per_second + 10) - per_second) <= 1


def test_a_rested_bucket_has_exactly_that_where_rates_are_small() -> None:
    for per_second in range(1, 100):
        assert taken(Rates(per_second), 12_345.678, per_second + 10) == per_second


@given(RATES)
def test_a_second_after_it_was_emptied_it_is_full_again(per_second: int) -> None:
    rates = Rates(per_second)
    taken(rates, 5.0, per_second)
    assert abs(taken(rates, 6.0, per_second + 10) - per_second) <= 1


@given(RATES, STEPS)
def test_in_no_span_more_is_had_than_the_burst_and_the_rate_allow(per_second: int, steps: list[float]) -> None:
    rates, now, had = Rates(per_second), 0.0, 0
    for step in steps:
        now += step
        had += taken(rates, now, 50)
        assert had <= per_second * (1 + now) + 1


@given(RATES, STEPS)
def test_after_the_wait_that_is_told_there_is_a_token(per_second: int, steps: list[float]) -> None:
    rates, now = Rates(per_second), 0.0
    for step in steps:
        now += step / per_second
        wait_s = rates.take("key", now)
        assert 0 <= wait_s <= 1 / per_second
        if wait_s:
            now += wait_s * 1.001 + 1e-9
            assert rates.take("key", now) == 0


@given(RATES, STEPS)
def test_a_steady_caller_within_its_rate_is_never_refused(per_second: int, steps: list[float]) -> None:
    rates, now = Rates(per_second), 0.0
    for step in steps:
        now += max(step, 1 / per_second)
        assert rates.take("key", now) == 0


@given(RATES)
def test_a_refused_call_takes_nothing(per_second: int) -> None:
    rates = Rates(per_second)
    taken(rates, 0.0, per_second)
    assert taken(rates, 0.0, 1000) == 0
    assert taken(rates, 0.5, per_second) >= per_second // 2


def test_keys_do_not_share() -> None:
    rates = Rates(3)
    assert taken(rates, 0.0, 10) == 3
    assert rates.take("other", 0.0) == 0


@given(st.integers(2, 50), st.lists(st.tuples(st.integers(0, 500), st.floats(0, 0.1)), max_size=400))
def test_there_are_never_more_buckets_than_may_be(most: int, calls: list[tuple[int, float]]) -> None:
    rates, now = Rates(5, most=most), 0.0
    for key, step in calls:
        now += step
        rates.take(key, now)
        assert len(rates) <= most


def test_the_emptiest_buckets_are_kept_when_there_are_too_many() -> None:
    rates = Rates(5, most=10)
    assert taken(rates, 0.0, 10) == 5
    for key in range(100):
        rates.take(key, 0.0)
    assert rates.take("key", 0.0) > 0


def test_full_buckets_are_forgotten_first() -> None:
    rates = Rates(1, most=3)
    rates.take("a", 0.0)
    rates.take("b", 9.5)
    rates.take("c", 9.5)
    rates.take("d", 10.0)
    assert len(rates) == 3
    assert rates.take("b", 10.0) > 0
    assert rates.take("c", 10.0) > 0
