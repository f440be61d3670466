"""Blackouts that are over before they are a stall, and what looks like one and is none."""

import random
from dataclasses import replace

import pytest

from tests.quality.core.interruptions import Spoken
from tests.quality.core.readings import received
from tests.quality.core.simulation import down, up
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Reading
from track_server.quality.core.watch import Subject, Watch

BOTH = pytest.mark.parametrize("flow", [down(), up()], ids=["downlink", "uplink"])


@BOTH
def test_a_blackout_of_three_seconds_is_found_within_six_and_its_end_within_fifteen(flow: Flow) -> None:
    chance = random.Random(3)
    for _ in range(40):
        begin_s = 10 + chance.random()
        spoken = Spoken(flow, dark=(begin_s, begin_s + 3), read_s=chance.random() / 2, tick_s=0.5 + chance.random() / 2)
        changes = [(on, at_s) for kind, on, at_s in spoken.changes(40) if kind is AlertKind.INTERRUPTED]
        assert [on for on, _ in changes] == [True, False], spoken
        assert changes[0][1] - begin_s <= 6
        assert changes[1][1] - begin_s - 3 <= 15


@BOTH
def test_a_longer_blackout_is_a_stall_and_not_interrupted_again_after_it(flow: Flow) -> None:
    changes = Spoken(flow, dark=(10.3, 20.3)).changes(60)
    assert [kind for kind, on, _ in changes if on and kind is not AlertKind.INTERRUPTED] == [AlertKind.STALLED]
    assert not [kind for kind, on, at_s in changes if on and at_s > 20.3]
    assert sum(on for _, on, _ in changes) == sum(not on for _, on, _ in changes)


@BOTH
@pytest.mark.parametrize("packet_s", [0.02, 0.06, 0.4])
def test_neither_sound_nor_comfort_noise_in_silence_is_an_interruption(flow: Flow, packet_s: float) -> None:
    assert Spoken(flow, packet_s=packet_s, read_s=0.3).changes(200) == []


def test_a_client_that_can_tell_only_once_its_line_is_back_is_believed() -> None:
    """Its readings wait for the line, and come all at once."""
    spoken = Spoken(down(), dark=(10.3, 13.3))
    watch = Watch(down(), Subject("TR_a", "alice", Media.AUDIO))
    found = []
    waiting: list[Reading] = []
    for second in range(30):
        waiting.append(spoken.reading(float(second)))
        if not 11 <= second < 15:
            for each in waiting:
                watch.add([replace(each, arrival_s=float(second))])
            waiting.clear()
        found += [(each.kind, each.on, second) for each in watch.tick(second + 0.5).changes]
    assert found[0] == (AlertKind.INTERRUPTED, True, 15)
    assert [kind for kind, on, _ in found if on] == [AlertKind.INTERRUPTED]


@BOTH
def test_a_gap_of_a_second_is_none(flow: Flow) -> None:
    kinds = {kind for kind, _, _ in Spoken(flow, dark=(10.3, 11.3)).changes(40)}
    assert AlertKind.INTERRUPTED not in kinds


def film(watch: Watch, *seconds: tuple[int, int, int | None]) -> set[AlertKind]:
    """Each second so many packets and frames of that height; what alerted."""
    packets = frames = 0
    found: set[AlertKind] = set()
    for second, (more, shown, height) in enumerate(seconds):
        packets += more
        frames += shown
        reading = received(second, packets=packets, payload_bytes=1000 * packets, frames=frames, height=height)
        watch.add([reading])
        found |= {change.kind for change in watch.tick(float(second)).changes}
    return found


def test_a_still_screen_a_layer_switch_and_a_slow_begin_are_no_interruptions() -> None:
    def watch(expected: Expected) -> Watch:
        made = Watch(Flow("TR_v", Hop.DOWNLINK, "bob"), Subject("TR_v", "alice", Media.VIDEO))
        made.expect(expected)
        return made

    moving, still = (100, 30, 360), (0, 0, 360)
    alone = {AlertKind.INTERRUPTED}
    assert film(watch(Expected()), *[moving] * 10, *[still] * 3, *[moving] * 10) == alone
    for sent in (None, True):
        assert not film(watch(Expected(screen=True, sent=sent)), *[moving] * 10, *[still] * 3, *[moving] * 10)
    assert not film(watch(Expected()), *[moving] * 10, (40, 10, 360), (150, 20, 720), *[(200, 30, 720)] * 10)
    assert not film(watch(Expected()), *[(0, 0, None)] * 4, *[moving] * 10)
    unwanted = watch(Expected(wanted=False))
    assert not film(unwanted, *[moving] * 5, *[still] * 10, *[moving] * 5)


def test_reports_that_are_lost_are_no_interruption() -> None:
    """Every third report comes, and tells a loss of a tenth."""
    watch = Watch(up(), Subject("TR_a", "alice", Media.AUDIO))
    spoken = Spoken(up())
    found: set[AlertKind] = set()
    for second in range(60):
        reading = spoken.reading(float(second - second % 3))
        full = spoken.reading(float(second))
        told = replace(full, lost=round(0.1 * (reading.packets or 0)), lost_time_s=reading.lost_time_s)
        watch.add([told])
        found |= {change.kind for change in watch.tick(float(second)).changes}
    assert AlertKind.INTERRUPTED not in found
    assert AlertKind.STALLED not in found
