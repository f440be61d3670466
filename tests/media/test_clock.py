"""The test pattern and its clock: drawn, scaled, blurred, and read again."""

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from track_server.media.inputs.clock import BLACK, read_clock, row_height
from track_server.media.inputs.pattern import TestPattern


def planes(pattern: TestPattern) -> npt.NDArray[np.uint8]:
    return np.frombuffer(pattern.buffer, dtype=np.uint8).reshape(pattern.height * 3 // 2, pattern.width)


def shrunk(luma: npt.NDArray[np.uint8], by: int) -> npt.NDArray[np.uint8]:
    height, width = luma.shape
    small: npt.NDArray[np.uint8] = luma.reshape(height // by, by, width // by, by).mean(axis=(1, 3)).astype(np.uint8)
    return small


@given(st.integers(10**12, 10**13 - 1))
def test_every_time_is_read_as_it_was_drawn(ms: int) -> None:
    pattern = TestPattern(256, 64)
    pattern.paint(ms)
    assert read_clock(planes(pattern)) == ms


@pytest.mark.parametrize("by", [1, 2, 4])
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (720, 1280), (1920, 1080)])
def test_the_clock_survives_scaling_noise_and_loss_of_contrast(width: int, height: int, by: int) -> None:
    pattern = TestPattern(width, height)
    random = np.random.default_rng(7)
    for ms in range(1_790_000_000_000, 1_790_000_001_000, 111):
        pattern.paint(ms)
        luma = shrunk(planes(pattern)[:height], by).astype(np.float64)
        damaged = (luma - 128) * 0.7 + 128 + random.normal(0, 12, luma.shape)
        assert read_clock(damaged.clip(0, 255).astype(np.uint8)) == ms


@pytest.mark.parametrize(("width", "height"), [(128, 72), (130, 100), (200, 112), (16, 16), (64, 48), (3840, 2160)])
def test_pictures_of_any_size_are_drawn(width: int, height: int) -> None:
    pattern = TestPattern(width, height)
    pattern.paint(1_790_000_000_123)
    assert len(pattern.buffer) == width * height * 3 // 2
    assert read_clock(planes(pattern)) == (1_790_000_000_123 if width >= 128 else None)


def test_what_is_no_clock_is_not_read() -> None:
    random = np.random.default_rng(7)
    assert read_clock(np.full((180, 320), BLACK, dtype=np.uint8)) is None
    assert read_clock(np.full((180, 320), 128, dtype=np.uint8)) is None
    assert read_clock(np.full((8, 8), BLACK, dtype=np.uint8)) is None
    assert read_clock(random.integers(0, 255, (180, 320), dtype=np.uint8)) is None


def test_the_bar_moves_and_leaves_no_trace() -> None:
    moved, fresh = TestPattern(320, 180), TestPattern(320, 180)
    for ms in range(0, 4000, 333):
        moved.paint(1_790_000_000_000 + ms)
    before = bytes(moved.buffer)
    moved.paint(1_790_000_002_000)
    fresh.paint(1_790_000_002_000)
    assert bytes(moved.buffer) == bytes(fresh.buffer) != before
    assert row_height(320) == 5


def test_a_picture_costs_little() -> None:
    pattern = TestPattern(1280, 720)
    begin = time.process_time()
    for number in range(100):
        pattern.paint(1_790_000_000_000 + 33 * number)
    # 50 us where it was written; a twentieth of a core at 30 pictures a second would be 1,700 us.
    assert (time.process_time() - begin) / 100 < 0.0015
