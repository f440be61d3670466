"""What the viewer makes of the frames that it receives."""

import struct
from collections.abc import Iterable

import numpy as np
import pytest

from track_server.demo.reception import AUDIO_RATE, Meter, Reception
from track_server.media.inputs.pattern import TestPattern
from track_server.media.inputs.tone import Tone

_NOW_S = 1_800_000_000.0


def _pictures(meter: Meter, painted_ms: Iterable[int], latency_ms: int) -> Reception:
    pattern = TestPattern(640, 360)
    time_s = _NOW_S
    for ms in painted_ms:
        pattern.paint(ms)
        luma = np.frombuffer(pattern.buffer, dtype=np.uint8, count=640 * 360).reshape(360, 640)
        time_s = (ms + latency_ms) / 1000
        meter.picture(time_s, luma)
    return meter.measure(time_s)


def test_pictures_tell_rate_size_latency_and_that_they_move() -> None:
    painted = [int(_NOW_S * 1000) + 40 * number for number in range(100)]
    got = _pictures(Meter("TR_1", "video"), painted, 70)
    assert (got.frames, got.width, got.height, got.clocks_read, got.clocks_backwards) == (100, 640, 360, 100, 0)
    assert got.frames_per_second == pytest.approx(25, abs=1)
    assert got.latency_ms == pytest.approx(70, abs=0.1)
    assert got.clock_ms == painted[-1]
    assert got.moved == 99


def test_a_frozen_picture_does_not_move_and_its_clock_does_not_advance() -> None:
    got = _pictures(Meter("TR_1", "video"), [int(_NOW_S * 1000)] * 50, 70)
    assert (got.frames, got.moved, got.clock_ms) == (50, 0, int(_NOW_S * 1000))


def test_a_clock_that_goes_back_is_counted() -> None:
    base = int(_NOW_S * 1000)
    assert _pictures(Meter("TR_1", "video"), [base, base + 40, base + 20, base + 80], 70).clocks_backwards == 1


@pytest.mark.parametrize(("frequency_hz", "level_dbfs"), [(440, -20), (1000, -3), (97, -40)])
def test_sound_tells_its_frequency_and_level(frequency_hz: float, level_dbfs: float) -> None:
    tone, meter = Tone(frequency_hz, level_dbfs), Meter("TR_1", "audio")
    for number in range(30):
        meter.sound(_NOW_S + number / 20, np.frombuffer(tone.next_frame(), dtype=np.int16))
    got = meter.measure(_NOW_S + 1.5)
    assert got.frequency_hz == pytest.approx(frequency_hz, abs=1)
    assert got.level_dbfs == pytest.approx(level_dbfs, abs=0.2)


def test_silence_and_the_first_moments_have_neither_frequency_nor_level() -> None:
    meter = Meter("TR_1", "audio")
    meter.sound(_NOW_S, np.ones(480, dtype=np.int16))
    assert meter.measure(_NOW_S).frequency_hz is None
    for number in range(200):
        meter.sound(_NOW_S + number / 100, np.zeros(AUDIO_RATE // 100, dtype=np.int16))
    got = meter.measure(_NOW_S + 2)
    assert (got.frames, got.frequency_hz, got.level_dbfs) == (201, None, None)


def _readings(numbered: Iterable[tuple[int, float]]) -> Reception:
    meter = Meter("DTR_1", "data")
    time_s = _NOW_S
    for number, time_s in numbered:
        meter.data(time_s + 0.004, struct.pack(">QQ", number, int(time_s * 1e6)) + bytes(84))
    return meter.measure(time_s + 0.004)


@pytest.mark.parametrize(
    ("numbers", "lost", "disordered"),
    [
        ([0, 1, 2, 3], 0, 0),
        ([7, 8, 9], 0, 0),
        ([0, 1, 4, 5, 9], 5, 0),
        ([5, 6, 0, 1, 2], 0, 0),  # The publisher came back.
    ],
)
def test_data_frames_tell_what_is_missing(numbers: list[int], lost: int, disordered: int) -> None:
    got = _readings((number, _NOW_S + index / 20) for index, number in enumerate(numbers))
    assert (got.frames, got.lost, got.disordered) == (len(numbers), lost, disordered)
    assert got.latency_ms == pytest.approx(4, abs=0.1)
    assert got.payload_bytes == 100 * len(numbers)


def test_data_frames_that_are_doubled_or_overtaken_are_out_of_order() -> None:
    times = {number: _NOW_S + number / 20 for number in range(6)}
    assert _readings((number, times[number]) for number in (0, 1, 3, 2, 4, 4, 5)).disordered == 2


def test_what_stopped_has_a_rate_of_0_and_what_never_came_has_none() -> None:
    meter = Meter("DTR_1", "data")
    assert meter.measure(_NOW_S).frames_per_second is None
    for number in range(100):
        meter.data(_NOW_S + number / 20, b"payload")
    assert meter.measure(_NOW_S + 5).frames_per_second == pytest.approx(20, abs=1)
    got = meter.measure(_NOW_S + 60)
    assert (got.frames, got.frames_per_second, got.bitrate_bps, got.latency_ms) == (100, 0, None, None)


def test_bitrate_is_of_the_payload_that_came() -> None:
    meter = Meter("TR_1", "video")
    for number in range(5):
        meter.transport(_NOW_S + number / 2, 1000 + number * 62_500, number * 50, 0)
    got = meter.measure(_NOW_S + 2)
    assert got.bitrate_bps == pytest.approx(1_000_000)
    assert (got.packets, got.lost) == (200, 0)


def test_a_reception_survives_the_way_to_the_demo() -> None:
    got = _readings([(0, _NOW_S), (1, _NOW_S + 0.1)])
    assert Reception.decode(got.encode()) == got
