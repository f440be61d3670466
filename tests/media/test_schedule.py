"""When pushed frames are due."""

import pytest

from track_server.media.inputs.mixing import mixed
from track_server.media.inputs.schedule import JUMP_S, Schedule
from track_server.media.inputs.timeline import Timeline

SECOND = 1_000_000


def test_frames_are_due_by_their_timestamps() -> None:
    schedule = Schedule(Timeline())
    assert schedule.due(7 * SECOND, 100.0, newer=False) == 100.0
    assert schedule.due(8 * SECOND, 100.1, newer=False) == pytest.approx(101.0)
    assert schedule.due(9 * SECOND, 102.4, newer=True) == pytest.approx(102.0), "a little late is shown at once"


def test_what_is_too_late_is_left_out_where_a_newer_one_waits() -> None:
    schedule = Schedule(Timeline())
    schedule.due(0, 100.0, newer=False)
    assert schedule.due(1 * SECOND, 103.0, newer=True) is None
    assert schedule.due(2 * SECOND, 103.0, newer=False) == 103.0, "a pause of the caller moves all that follow"
    assert schedule.due(3 * SECOND, 103.1, newer=False) == pytest.approx(104.0)


def test_a_jump_into_the_future_is_a_new_beginning() -> None:
    schedule = Schedule(Timeline())
    schedule.due(0, 100.0, newer=False)
    far = int((JUMP_S + 1) * SECOND)
    assert schedule.due(far, 100.1, newer=False) == 100.1
    assert schedule.due(far + SECOND, 100.2, newer=False) == pytest.approx(101.1)


def test_sound_and_pictures_of_one_source_share_their_beginning() -> None:
    timeline = Timeline()
    sound, pictures = Schedule(timeline), Schedule(timeline)
    sound.due(0, 100.0, newer=False)
    assert pictures.due(SECOND // 2, 100.3, newer=False) == pytest.approx(100.5)


def test_another_source_has_a_beginning_of_its_own() -> None:
    timeline = Timeline()
    Schedule(timeline).due(0, 100.0, newer=False)
    assert Schedule(timeline).due(0, 160.0, newer=False) == 160.0


def test_channels_are_mixed_and_doubled() -> None:
    both = b"\x10\x00\x20\x00\x00\x80\x00\x80"
    assert mixed(both, 2, 2) is both
    assert mixed(both, 2, 1) == b"\x18\x00\x00\x80"
    assert mixed(b"\x10\x00\x00\x80", 1, 2) == b"\x10\x00\x10\x00\x00\x80\x00\x80"
