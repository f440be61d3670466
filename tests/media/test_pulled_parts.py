"""Parts of pulling that need no room: places in time, sizes, pictures, messages."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from track.v1.pull_pb2 import PullChunk, PulledVideoFrame, PullMediaResponse
from track.v1.push_pb2 import DataFrame, PcmFrame
from track_server.media.pulling.pictures import Picture, upright
from track_server.media.pulling.response import response
from track_server.media.pulling.sinks import fitting_size
from track_server.media.pulling.timeline import PictureClock, SoundClock, Timeline


def test_a_stream_begins_with_its_first_frame_and_a_continued_one_where_it_was() -> None:
    fresh = Timeline()
    assert [fresh.at(now) for now in (100.0, 100.5)] == [0, 500_000]
    continued = Timeline(7_000_000, 200.0)
    assert continued.at(201.0) == 8_000_000


def test_pictures_are_placed_by_their_own_clock_until_it_begins_anew() -> None:
    clock = PictureClock()
    # What arrives late is not shown late.
    assert [clock.place(50_000 * n, 50_000 * n + late) for n, late in ((0, 0), (1, 30_000), (2, 0))] == [
        0, 50_000, 100_000,
    ]  # fmt: skip
    assert clock.place(9_000_000_000, 2_000_000) == 2_000_000


@given(st.lists(st.tuples(st.integers(-(10**9), 10**12), st.integers(0, 10**9)), max_size=20))
def test_pictures_never_go_back_in_time(pictures: list[tuple[int, int]]) -> None:
    clock = PictureClock()
    places = [clock.place(stamp, arrival) for stamp, arrival in pictures]
    assert all(after > before for before, after in itertools.pairwise(places))


def test_sound_is_placed_by_its_samples_and_what_is_missing_is_counted_where_a_track_follows_another() -> None:
    clock = SoundClock()
    clock.begin()
    assert clock.place(960, 5_000) == (5_000, 0)
    # The event loop was held up: it comes late, and belongs where it would have come.
    assert clock.place(960, 900_000) == (25_000, 0)
    clock.begin()
    assert clock.place(960, 1_045_000) == (1_045_000, 48_000)
    # Another one that is there before the end of the first one's sound.
    clock.begin()
    assert clock.place(960, 0) == (1_065_000, 0)


@pytest.mark.parametrize(
    ("first", "declared", "fitting"),
    [
        ((640, 360), (0, 0), (640, 360)),
        ((320, 180), (1280, 720), (1280, 720)),
        ((180, 320), (1280, 720), (720, 1280)),
        ((1280, 720), (640, 360), (1280, 720)),
        ((320, 240), (1280, 720), (320, 240)),
        ((320, 180), (1281, 721), (1280, 720)),
    ],
)
def test_a_container_has_the_size_of_the_whole_track(
    first: tuple[int, int], declared: tuple[int, int], fitting: tuple[int, int]
) -> None:
    assert fitting_size(first, declared) == fitting


def test_a_container_has_the_size_of_the_layer_that_was_chosen_whatever_comes_first() -> None:
    assert fitting_size((1280, 720), (640, 360), chosen=True) == (640, 360)
    assert fitting_size((640, 480), (640, 360), chosen=True) == (640, 480)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize(("width", "height"), [(4, 2), (5, 3), (6, 4)])
def test_pictures_are_turned_and_even(width: int, height: int, rotation: int) -> None:
    across, down = (width + 1) // 2, (height + 1) // 2
    luma = np.arange(width * height, dtype=np.uint8).reshape(height, width)
    blue = np.full((down, across), 70, np.uint8)
    red = np.full((down, across), 90, np.uint8)
    data = luma.tobytes() + blue.tobytes() + red.tobytes()
    picture = Picture(data, width, height, rotation, 0)
    wide, high = picture.size
    assert wide % 2 == high % 2 == 0
    turned = upright(picture)
    assert turned.shape == (high * 3 // 2, wide)
    expected = np.rot90(luma, -(rotation // 90))[:high, :wide]
    assert (turned[:high] == expected).all()
    chroma = turned[high:].reshape(-1)
    assert set(chroma[: wide * high // 4]) == {70}
    assert set(chroma[wide * high // 4 :]) == {90}


@given(data=st.binary(max_size=400), stamp=st.integers(0, 2**40))
def test_responses_are_what_protocol_buffers_make_of_them(data: bytes, stamp: int) -> None:
    made = {
        "chunk": (response("chunk", PullChunk(), data), PullMediaResponse(chunk=PullChunk(data=data))),
        "video": (
            response("video", PulledVideoFrame(timestamp_us=stamp, width=4, height=2), memoryview(data)),
            PullMediaResponse(video=PulledVideoFrame(timestamp_us=stamp, width=4, height=2, data=data)),
        ),
        "pcm": (
            response("pcm", PcmFrame(timestamp_us=stamp), data),
            PullMediaResponse(pcm=PcmFrame(timestamp_us=stamp, data=data)),
        ),
        "data": (response("data", DataFrame(), data), PullMediaResponse(data=DataFrame(payload=data))),
    }
    for parts, whole in made.values():
        serialised = parts.head + bytes(parts.data)
        assert len(parts) == len(serialised)
        assert PullMediaResponse.FromString(serialised) == whole
