"""Echo cancellation by the SDK: what it takes out, and what it leaves."""

import numpy as np
import pytest
from livekit import rtc

from tests.media.sounds import Wave, level_db
from tests.media.voices import RATE, STEP, echo, pcm, voice
from track.v1.publication_pb2 import AudioOptions
from track_server.media.far_end import FarEnd
from track_server.media.processing import Processing


def processed(processing: Processing, far_end: FarEnd, far: Wave, near: Wave, channels: int = 1) -> Wave:
    """What is left of the near end, which every channel has; as one channel."""
    left = []
    for begin in range(0, len(near), STEP):
        far_end.heard("TR_far", pcm(far[begin : begin + STEP]))
        frame = rtc.AudioFrame(pcm(near[begin : begin + STEP].repeat(channels)), RATE, channels, STEP)
        processing.process(frame)
        left.append(np.frombuffer(frame.data, dtype=np.int16).reshape(-1, channels).mean(axis=1) / 32768)
    return np.concatenate(left)


def lessened_db(before: Wave, after: Wave) -> float:
    """By how much the last four of eight seconds are quieter."""
    return level_db(before[4 * RATE :]) - level_db(after[4 * RATE :])


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_an_echo_within_half_a_second_is_taken_out(delay_s: float) -> None:
    far_end, far = FarEnd(), voice(8, 120, 1)
    heard = echo(far, delay_s)
    left = processed(Processing(AudioOptions(echo_cancellation=True), far_end), far_end, far, heard)
    assert lessened_db(heard, left) > 30


def test_it_is_taken_out_of_two_channels() -> None:
    far_end, far = FarEnd(), voice(8, 120, 1)
    heard = echo(far, 0.1)
    left = processed(Processing(AudioOptions(echo_cancellation=True, stereo=True), far_end), far_end, far, heard, 2)
    assert lessened_db(heard, left) > 30


def test_what_is_said_stays() -> None:
    far_end, near = FarEnd(), voice(8, 210, 7)
    left = processed(Processing(AudioOptions(echo_cancellation=True), far_end), far_end, np.zeros_like(near), near)
    assert abs(lessened_db(near, left)) < 2


def test_nothing_is_done_unless_asked_for() -> None:
    far_end, near = FarEnd(), voice(1, 210, 7)
    processing = Processing(AudioOptions(echo_cancellation=False), far_end)
    assert processing.idle
    assert np.array_equal(processed(processing, far_end, near, near), np.frombuffer(pcm(near), np.int16) / 32768)


def test_it_may_be_asked_for_and_ended_at_any_time() -> None:
    far_end, far = FarEnd(), voice(8, 120, 1)
    heard = echo(far, 0.1)
    processing = Processing(AudioOptions(), far_end)
    processing.want(AudioOptions(echo_cancellation=True, noise_suppression=True))
    assert lessened_db(heard, processed(processing, far_end, far, heard)) > 30
    processing.want(AudioOptions(noise_suppression=False))
    assert lessened_db(heard, processed(processing, far_end, far, heard)) < 0.1
    processing.close()
    processing.close()
