"""The share of measured time within a target."""

from track_server.quality.core.scoring.attainment import Attainment


def test_only_measured_time_counts_and_only_the_last_hour() -> None:
    attained = Attainment()
    for second in range(0, 101, 5):
        attained.add(second < 50, float(second))
    assert attained.seconds(100.0) == (45.0, 100.0)
    attained.add(None, 105.0)
    attained.add(True, 400.0)
    assert attained.seconds(400.0) == (45.0, 100.0)
    assert attained.seconds(8000.0) == (0, 0)
