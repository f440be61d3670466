"""What each term allows of a video."""

from typing import Final

import pytest

from tests.subscription.layers.videos import FULL, HALF, QUARTER, video
from track.v1.subscription_pb2 import LayerTermKind, SubscriptionSettings
from track.v1.track_pb2 import VideoQuality
from track_server.subscription.layers.terms import (
    Term,
    adaptive_term,
    capability_term,
    cpu_term,
    settings_term,
    viewport_term,
)
from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, OFF, Layer

POLICY: Final = LayerTermKind.LAYER_TERM_KIND_POLICY
UNKNOWN: Final = Layer(LOW), Layer(MEDIUM), Layer(HIGH)


def quality(term: Term | None) -> int | None:
    assert term is not None
    return term.quality


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        (SubscriptionSettings(enabled=False), OFF),
        (SubscriptionSettings(enabled=False, quality=VideoQuality.VIDEO_QUALITY_HIGH), OFF),
        (SubscriptionSettings(quality=VideoQuality.VIDEO_QUALITY_MEDIUM), MEDIUM),
        (SubscriptionSettings(width=320, height=180), LOW),
        (SubscriptionSettings(width=321, height=180), MEDIUM),
        (SubscriptionSettings(width=640, height=361), HIGH),
        (SubscriptionSettings(width=4000, height=4000), HIGH),
        (SubscriptionSettings(frames_per_second=5), None),
    ],
)
def test_settings_allow_what_they_name(settings: SubscriptionSettings, allowed: int | None) -> None:
    assert quality(settings_term(POLICY, video(), settings)) == allowed


def test_settings_that_limit_nothing_are_no_term() -> None:
    assert settings_term(POLICY, video(), SubscriptionSettings(enabled=True, priority=80)) is None


def test_a_manual_choice_says_who_and_until_when() -> None:
    settings = SubscriptionSettings(quality=VideoQuality.VIDEO_QUALITY_LOW)
    term = settings_term(LayerTermKind.LAYER_TERM_KIND_MANUAL, video(), settings, "ann", 1_700_000_000.5)
    assert term is not None
    message = term.message()
    assert (message.detail, message.expire_time.seconds) == ("ann", 1_700_000_000)
    assert message.quality == VideoQuality.VIDEO_QUALITY_LOW
    assert not message.HasField("width")


def test_off_is_the_contracts_off() -> None:
    assert Term(POLICY, OFF).message().quality == VideoQuality.VIDEO_QUALITY_OFF
    assert Term(POLICY).message().quality == VideoQuality.VIDEO_QUALITY_UNSPECIFIED


def test_only_what_can_be_decoded_is_allowed() -> None:
    assert quality(capability_term(video(), ["vp8", "h264"], 640, 360)) == MEDIUM
    assert quality(capability_term(video(), ["h264"], None, None)) == OFF
    assert quality(capability_term(video(FULL), [], 640, 360)) == OFF
    assert quality(capability_term(video(), [], 5000, 5000)) == HIGH
    assert quality(capability_term(video(*UNKNOWN), [], 640, 360)) == HIGH
    assert quality(capability_term(video(), ["vp8"], None, None)) == HIGH


def test_a_portrait_is_decoded_as_a_landscape_of_its_size() -> None:
    portrait = Layer(LOW, 180, 320), Layer(MEDIUM, 360, 640), Layer(HIGH, 720, 1280)
    assert quality(capability_term(video(*portrait), [], 640, 360)) == MEDIUM


def test_what_is_not_known_is_no_term() -> None:
    assert capability_term(video(), [], None, None) is None
    assert capability_term(video(codec=""), ["vp8"], None, None) is None
    assert viewport_term(video(), visible=True, width=None, height=None) is None
    assert adaptive_term(video(), None, None) is None


def test_the_viewport_takes_the_smallest_layer_that_fills_it() -> None:
    assert quality(viewport_term(video(), visible=True, width=200, height=100)) == LOW
    assert quality(viewport_term(video(), visible=True, width=320, height=200)) == MEDIUM
    assert quality(viewport_term(video(), visible=True, width=3000, height=2000)) == HIGH
    assert quality(viewport_term(video(), visible=True, width=0, height=0)) == OFF
    assert quality(viewport_term(video(), visible=False, width=300, height=100)) == OFF
    assert quality(viewport_term(video(), visible=False, width=None, height=None)) == OFF


def test_layers_of_unknown_size_fill_nothing() -> None:
    assert quality(viewport_term(video(*UNKNOWN), visible=True, width=200, height=100)) == HIGH


def test_adaptive_stream_is_taken_as_livekit_takes_it() -> None:
    # By its height, and nine tenths of that.
    assert quality(adaptive_term(video(), 640, 400)) == MEDIUM
    assert quality(adaptive_term(video(), 640, 401)) == HIGH
    assert quality(adaptive_term(video(), 2000, 200)) == LOW
    assert quality(adaptive_term(video(), 0, 0)) == OFF


def test_a_busy_machine_goes_down_to_the_lowest_layer_and_no_further() -> None:
    assert [cpu_term(video(), down, 0.9).quality for down in (0, 1, 2, 3)] == [HIGH, MEDIUM, LOW, LOW]
    assert [cpu_term(video(QUARTER, HALF), down, 0.9).quality for down in (0, 1, 2)] == [MEDIUM, LOW, LOW]
    assert cpu_term(video(FULL), 2, 0.9).quality == HIGH
