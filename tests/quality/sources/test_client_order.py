"""One sample of a client after another: in order, counting on from the last, and placed where it was taken."""

from typing import Any

import pytest

from tests.quality.sources.client_samples import NOW, SOUND, TRACKS, later, stats
from track.v1.quality_stats_pb2 import TrackStats
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, Track
from track_server.durations import seconds_of
from track_server.errors import StatsRefused
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Reading, Source
from track_server.quality.core.watch import Subject, Watch
from track_server.quality.sources.client import ClientStats


def told(client: ClientStats, seconds: float, **stream: Any) -> list[Reading]:
    client.place([stats(seconds)], later(seconds))
    return client.take(stats(seconds, **stream), TRACKS, later(seconds))[1]


def refused(client: ClientStats, seconds: float, **stream: Any) -> str:
    with pytest.raises(StatsRefused) as error:
        client.take(stats(seconds, **stream), TRACKS, later(max(seconds, 0.0)))
    return error.value.field


def test_samples_out_of_order_or_twice_are_refused_and_the_next_is_taken() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=100)
    assert refused(client, 0.0, packets=100) == "measure_time"
    assert refused(client, -1.0, packets=150) == "measure_time"
    assert refused(client, -20.0, packets=50) == "measure_time"
    told(client, 1.0, packets=200)


def test_a_clock_that_was_set_back_far_is_survived() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=100)
    # Its clock is 40 s behind now; what it counts goes on.
    behind = stats(-39.0, packets=150)
    client.place([behind], later(1.0))
    (reading,) = client.take(behind, TRACKS, later(1.0))[1]
    assert reading.arrival_s == pytest.approx(later(1.0).monotonic_s)


def test_a_counter_that_begins_anew_is_taken_and_one_that_runs_backwards_is_not() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=10_000, bytes=1_000_000)
    told(client, 1.0, packets=40, bytes=4_000)
    told(client, 2.0, packets=80, bytes=8_000)
    assert refused(client, 3.0, packets=70, bytes=12_000) == "streams[0].packets"
    # From there it goes on.
    told(client, 4.0, packets=110, bytes=16_000)
    # One falls far, and the other goes on.
    assert refused(client, 5.0, packets=1, bytes=20_000) == "streams[0].packets"


def test_what_grows_faster_than_a_network_carries_is_refused() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=0)
    assert refused(client, 1.0, packets=1_000_000) == "streams[0].packets"
    told(client, 2.0, packets=50)


def test_samples_that_were_held_up_are_placed_where_they_were_taken() -> None:
    client = ClientStats("alice", Source.COMPANION)
    assert told(client, 0.0, packets=1)[0].arrival_s == pytest.approx(NOW.monotonic_s)
    # Five of them come at once.
    for second in range(1, 6):
        client.place([stats(float(second))], later(5.0))
        (reading,) = client.take(stats(float(second), packets=second), TRACKS, later(5.0))[1]
        assert reading.arrival_s == pytest.approx(NOW.monotonic_s + second)


@pytest.mark.parametrize("healed_s", [1, 2, 5])
def test_what_a_client_tells_once_its_downlink_is_back_is_found_to_be_an_interruption(healed_s: int) -> None:
    """Nothing comes for 3 s, and nothing is told until some seconds after that."""
    client = ClientStats("alice", Source.COMPANION)
    watch = Watch(Flow(SOUND, Hop.DOWNLINK, "alice"), Subject(SOUND, "bob", Media.AUDIO))
    waiting: list[TrackStats] = []
    found: list[tuple[AlertKind, bool, int]] = []
    packets, came_s = 0, 0.0
    for second in range(40):
        if not 10 < second <= 13:
            packets, came_s = packets + 50, second - 0.02
        each = stats(second, sid=SOUND, packets=packets, bytes=100 * packets, packets_lost=0)
        each.streams[0].last_packet_time.FromNanoseconds(round((NOW.time_s + came_s) * 1e9))
        waiting.append(each)
        if not 11 <= second < 13 + healed_s:
            for one in waiting:
                client.place([one], later(second))
                watch.add(client.take(one, TRACKS, later(second))[1])
            waiting.clear()
        found += [(change.kind, change.on, second) for change in watch.tick(later(second + 0.5).monotonic_s).changes]
    assert [kind for kind, _, _ in found] == [AlertKind.INTERRUPTED] * 2
    (_, on, began), (_, off, ended) = found
    assert (on, off) == (True, False)
    assert began == 13 + healed_s
    assert ended <= began + 10


def test_first_messages_that_come_at_once_keep_their_distance_and_a_slow_clock_is_found_out() -> None:
    client = ClientStats("alice", Source.REPORTED, batched=True)
    arrivals = []
    for second in (-6, -3, 0):
        client.place([stats(float(second))], NOW)
        arrivals.append(client.take(stats(float(second), packets=10 + second), TRACKS, NOW)[1][0].arrival_s)
    assert arrivals == pytest.approx([NOW.monotonic_s + second for second in (-6, -3, 0)])
    slow = ClientStats("alice", Source.REPORTED, batched=True)
    late = []
    for second in range(20):
        sample = stats(second - 8.0, packets=10 + second)
        slow.place([sample], later(second))
        late.append(later(second).monotonic_s - slow.take(sample, TRACKS, later(second))[1][0].arrival_s)
    assert late[0] == pytest.approx(8.0)
    assert late[-1] == pytest.approx(0.0)


def test_samples_of_one_message_keep_their_distance() -> None:
    client = ClientStats("alice", Source.REPORTED)
    samples = [stats(float(second), packets=10 + second) for second in (-3, -2, -1)]
    client.place(samples, NOW)
    arrivals = [client.take(each, TRACKS, NOW)[1][0].arrival_s for each in samples]
    assert [each - arrivals[-1] for each in arrivals] == pytest.approx([-2, -1, 0])


def test_one_from_the_future_moves_no_other() -> None:
    client = ClientStats("alice", Source.REPORTED)
    client.place([stats(3600.0)], NOW)
    assert told(client, 1.0, packets=1)[0].arrival_s == pytest.approx(later(1.0).monotonic_s)


def test_tracks_that_are_gone_are_forgotten() -> None:
    client = ClientStats("alice", Source.REPORTED)
    for number in range(50):
        track = Track(sid=f"TR_{number}", type=TRACK_TYPE_AUDIO, participant_identity="bob")
        client.place([stats(number)], later(number))
        client.take(stats(number, sid=track.sid), {track.sid: track}, later(number))
    assert len(client._last) <= 2
    assert seconds_of(stats().measure_time) == NOW.time_s
