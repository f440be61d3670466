"""What media costs of a budget."""

from hypothesis import given
from hypothesis import strategies as st

from track.v1.track_pb2 import Track
from track_server.subscription.layers.cost import estimate_bps, sound_bps
from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, Layer

SIDES = st.integers(1, 8000)


def test_the_sizes_of_the_presets_cost_what_they_declare() -> None:
    sizes = {(320, 180): 160_000, (640, 360): 450_000, (960, 540): 800_000, (1280, 720): 1_700_000}
    assert {size: estimate_bps(*size) for size in sizes} == sizes
    assert estimate_bps(720, 1280) == 1_700_000


def test_beyond_the_presets_it_goes_by_the_pixels() -> None:
    assert estimate_bps(80, 45) == 90_000 / 4
    assert estimate_bps(7680, 4320) == 8_000_000 * 4
    assert estimate_bps(0, 0) == 6


def test_fewer_frames_cost_less_and_more_cost_no_more() -> None:
    assert estimate_bps(1280, 720, 15) == 850_000
    assert estimate_bps(1280, 720, 60) == 1_700_000


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_larger_picture_costs_no_less(width: int, height: int, wider: int, higher: int) -> None:
    assert estimate_bps(width, height) <= estimate_bps(width + wider, height + higher)


def test_a_layer_costs_what_is_declared_else_what_it_is_likely_to() -> None:
    assert Layer(HIGH, 1280, 720, 900_000).cost_bps(5) == 900_000
    assert Layer(HIGH, 1280, 720).cost_bps() == 1_700_000
    assert Layer(HIGH, 1280, 720).cost_bps(15) == 850_000
    assert [Layer(quality).cost_bps() for quality in (LOW, MEDIUM, HIGH)] == [160_000, 450_000, 1_700_000]


def test_sound_costs_by_its_channels_and_what_is_sent_twice() -> None:
    assert sound_bps(Track(mime_type="audio/opus")) == 48_000
    assert sound_bps(Track(mime_type="audio/opus", muted=True)) == 48_000
    assert sound_bps(Track(mime_type="audio/red")) == 96_000
    assert sound_bps(Track(mime_type="audio/opus", red=True, stereo=True)) == 128_000
