"""How much of the measured time a track keeps to its policy's targets, and what metrics say of it."""

from typing import Literal

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.quality.core.simulation import Link, Sound, down
from tests.quality.told_room import SetClock, ToldRoom
from track.v1.quality_alert_pb2 import QualityAlert, QualityAlertKind, QualityFault
from track.v1.quality_pb2 import QualityLevel
from track.v1.quality_policy_pb2 import QualityAction, QualityActionKind, QualityPolicy, QualityTargets, QualityVerdict
from track.v1.track_pb2 import VIDEO_QUALITY_HIGH
from track_server.durations import seconds_of
from track_server.quality.attainments import Attained, Attainments
from track_server.quality.core.measuring.reading import Source
from track_server.quality.tallies import MOST_SERIES, AttainmentMetrics, Tallies

LOSS = QualityTargets(loss_percent=2.0)


class Attaining:
    """A room with targets by whom they are of."""

    def __init__(self, **targets: QualityTargets) -> None:
        self.targets = targets
        self.passed: list[tuple[float, bool]] = []
        self.clock = SetClock()
        self.attainments = Attainments(lambda seconds, within: self.passed.append((seconds, within)), clock=self.clock)
        self.attainments.hold_to(self.holding)
        self.told = ToldRoom(self.clock, self.attainments.assessed)

    def holding(self, room: str, identity: str, track_sid: str) -> QualityPolicy | None:
        targets = self.targets.get(track_sid) or self.targets.get(identity) or self.targets.get(room)
        return QualityPolicy(targets=targets) if targets is not None else None

    def attained(self) -> tuple[float, float] | None:
        found = self.attainments.of("room", "TR_a")
        return None if found is None else (seconds_of(found.within), seconds_of(found.measured))


async def test_time_within_the_targets_is_counted_of_the_time_that_was_measured() -> None:
    run = Attaining(room=LOSS)
    run.told.pass_s(30)
    within, measured = run.attained() or (0, 0)
    assert within == measured == pytest.approx(28, abs=2)
    run.told.link.loss = 0.3
    run.told.pass_s(30)
    bad_within, bad_measured = run.attained() or (0, 0)
    assert bad_measured == pytest.approx(measured + 30, abs=1)
    assert bad_within == pytest.approx(within, abs=5)
    assert sum(seconds for seconds, _ in run.passed) == pytest.approx(bad_measured)
    assert sum(seconds for seconds, held in run.passed if held) == pytest.approx(bad_within)
    run.told.pass_s(60, told=False)
    assert run.attained() == pytest.approx((bad_within, bad_measured), abs=6)


@pytest.mark.parametrize(
    ("targets", "within"),
    [
        (QualityTargets(rtt_ms=100), True),
        (QualityTargets(rtt_ms=10), False),
        (QualityTargets(audio_mos=4.0), True),
        (QualityTargets(audio_mos=4.5), False),
        (QualityTargets(level=QualityLevel.QUALITY_LEVEL_GOOD), True),
        (QualityTargets(rtt_ms=100, audio_mos=4.5), False),
        # A target of video says nothing of sound.
        (QualityTargets(rtt_ms=100, frames_per_second=30, quality=VIDEO_QUALITY_HIGH), True),
    ],
)
async def test_all_targets_that_are_measured_have_to_hold(targets: QualityTargets, within: bool) -> None:
    run = Attaining(room=targets)
    run.told.pass_s(30)
    held, measured = run.attained() or (0, 0)
    assert measured > 20
    assert (held == measured) == within
    assert (held <= 2) != within


async def test_without_targets_and_without_a_number_there_is_no_attainment() -> None:
    assert _attained(Attaining()) is None
    assert _attained(Attaining(room=QualityTargets(frames_per_second=30))) is None
    run = Attaining(room=LOSS)
    run.told.pass_s(20, told=False)
    assert run.attained() is None
    run.told.pass_s(20)
    assert run.attained() is not None
    run.targets.clear()
    run.told.pass_s(1)
    assert run.attained() is None


async def test_one_subscriber_that_misses_its_targets_is_time_that_the_track_misses() -> None:
    run = Attaining(room=LOSS, carol=QualityTargets(loss_percent=100))
    bob = Sound(down(), Link(seed=2, loss=0.3), Source.COMPANION)
    for _ in range(30):
        now = run.clock.now()
        assert run.told.room.add(bob.flow, [bob.second(now.monotonic_s)], now)
        run.told.pass_s(1)
    within, measured = run.attained() or (0, 0)
    assert measured > 20
    assert within < 6
    # A policy of the subscriber's own holds for what it receives.
    run.targets["bob"] = QualityTargets(loss_percent=100)
    for _ in range(30):
        now = run.clock.now()
        assert run.told.room.add(bob.flow, [bob.second(now.monotonic_s)], now)
        run.told.pass_s(1)
    assert (run.attained() or (0, 0))[0] > within + 25


async def test_a_room_that_is_followed_no_more_has_no_attainment() -> None:
    run = Attaining(room=LOSS)
    run.told.pass_s(30)
    assert [one.track_sid for one in run.attainments.all()] == ["TR_a"]
    run.attainments.closed(run.told.room)
    assert run.attained() is None
    assert not list(run.attainments.all())


async def test_metrics_name_rooms_and_tracks_only_where_they_are_asked_to_and_so_many_at_most() -> None:
    found = [Attained(f"r{number}", f"TR_{number}", number % 2, 1.0) for number in range(2 * MOST_SERIES)]
    texts = {}
    details: tuple[Literal["off", "rooms", "tracks"], ...] = ("off", "rooms", "tracks")
    for detail in details:
        registry = CollectorRegistry()
        registry.register(AttainmentMetrics(lambda: found, detail))
        texts[detail] = generate_latest(registry).decode()
    assert "r0" not in texts["off"]
    assert 'track_quality_room_attainment_ratio{room="r0"} 0.0' in texts["rooms"]
    assert "TR_" not in texts["rooms"]
    assert 'track_quality_attainment_ratio{room="r0",track="TR_0"} 0.0' in texts["tracks"]
    lines = [line for line in texts["tracks"].splitlines() if line.startswith("track_quality_attainment_ratio{")]
    # The worst are those that are told.
    assert len(lines) == MOST_SERIES
    assert all(line.endswith(" 0.0") for line in lines)


async def test_alerts_and_actions_are_counted_by_kind_fault_and_verdict() -> None:
    registry = CollectorRegistry()
    tallies = Tallies(registry)
    alert = QualityAlert(
        kind=QualityAlertKind.QUALITY_ALERT_KIND_STALLED, fault=QualityFault.QUALITY_FAULT_PUBLISHER_UPLINK
    )
    tallies.alert_started(alert)
    assert registry.get_sample_value("track_quality_alerts_on", {"kind": "stalled"}) == 1
    tallies.alert_ended(alert)
    assert registry.get_sample_value("track_quality_alerts_on", {"kind": "stalled"}) == 0
    labels = {"kind": "stalled", "fault": "publisher_uplink"}
    assert registry.get_sample_value("track_quality_alerts_total", labels) == 1
    tallies.action_judged(
        QualityAction(
            kind=QualityActionKind.QUALITY_ACTION_KIND_RESTART, verdict=QualityVerdict.QUALITY_VERDICT_IMPROVED
        )
    )
    judged = {"kind": "restart", "verdict": "improved", "held_back": "false"}
    assert registry.get_sample_value("track_quality_verdicts_total", judged) == 1


def _attained(run: Attaining) -> tuple[float, float] | None:
    run.told.pass_s(30)
    return run.attained()
