"""How bright pictures are."""

import pytest

from track_server.media.inputs.pattern import TestPattern
from track_server.media.pictures import Brightness

SIZES = [(320, 180), (640, 360), (1280, 720), (480, 360), (16, 16)]


def seen(width: int, height: int, luma: bytes) -> float | None:
    brightness = Brightness(width, height)
    brightness.see(luma + bytes([128]) * (width * height // 2), 1.0)
    return brightness.take()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_black_is_0_and_white_is_1(width: int, height: int) -> None:
    size = width * height
    assert seen(width, height, bytes([16]) * size) == 0
    assert seen(width, height, bytes([235]) * size) == 1
    # What a caller sends beyond the range of video.
    assert seen(width, height, bytes(size)) == 0
    assert seen(width, height, bytes([255]) * size) == 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_row_or_column_is_all_that_is_seen(width: int, height: int) -> None:
    columns = (bytes([235]) * (width // 2) + bytes([16]) * (width // 2)) * height
    rows = bytes([235]) * (width * height // 2) + bytes([16]) * (width * height // 2)
    stripes = bytes([235, 16]) * (width * height // 2)
    for picture in (columns, rows, stripes):
        assert seen(width, height, picture) == pytest.approx(0.5, abs=0.05)


def test_a_test_pattern_is_neither() -> None:
    pattern = TestPattern(320, 180)
    pattern.paint(10**12)
    assert 0.3 < (seen(320, 180, bytes(pattern.buffer[: 320 * 180])) or 0) < 0.5


def test_it_is_of_the_pictures_since_it_was_asked_for_last() -> None:
    brightness = Brightness(320, 180)
    black, white = (bytes([luma]) * (320 * 180 * 3 // 2) for luma in (16, 235))
    assert brightness.take() is None
    brightness.see(black, 1.0)
    # Too soon after the other one to be looked at.
    brightness.see(white, 1.1)
    assert brightness.take() == 0
    assert brightness.take() is None
    brightness.see(black, 2.0)
    brightness.see(white, 2.5)
    assert brightness.take() == 0.5
