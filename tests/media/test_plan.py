"""The frames of inputs that are pure, and time lines."""

import struct

import numpy as np

from track_server.media.inputs.data import DataFrames
from track_server.media.inputs.timeline import Timelines
from track_server.media.inputs.tone import SAMPLE_RATE, Tone


def test_data_frames_are_numbered_and_padded() -> None:
    frames = DataFrames(b"", 20)
    assert frames.next_frame(5) == struct.pack(">QQ", 0, 5) + bytes(4)
    assert frames.next_frame(6) == struct.pack(">QQ", 1, 6) + bytes(4)
    assert len(DataFrames(b"", 0).next_frame(0)) == 64
    assert DataFrames(b"abc", 0).next_frame(0) == b"abc"


def test_a_tone_is_continuous_over_its_frames() -> None:
    tone = Tone(997, -6)
    samples = np.frombuffer(b"".join(tone.next_frame() for _ in range(100)), dtype=np.int16)
    expected = np.sin(2 * np.pi * 997 * np.arange(len(samples)) / SAMPLE_RATE) * 32767 * 10 ** (-6 / 20)
    assert np.abs(samples - expected).max() < 2


def test_a_time_line_lasts_as_long_as_somebody_holds_it() -> None:
    timelines = Timelines()
    with timelines.hold("a") as first:
        epoch = first.start()
        with timelines.hold("a") as second:
            assert second.start() == epoch
    with timelines.hold("a") as third:
        assert third is not first
