"""What may be on its way, and the credit for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track.v1 import media_frame_pb2
from track.v1 import publication_pb2 as pb
from track_server.publishing.push.window import AHEAD_US, Credit, Window, window_of


def test_the_window_closes_when_it_is_full_and_opens_when_frames_are_taken() -> None:
    window = Window(100)
    window.sent(60, 0)
    assert window.open
    window.sent(60, 1000)
    assert not window.open
    window.freed(60, 0)
    assert window.open
    assert window.on_the_way == 60


def test_few_bytes_of_a_long_time_close_it_too() -> None:
    window = Window(10**6)
    window.sent(1, 5_000_000)
    assert (window.open, window.ahead_us) == (True, 0)
    window.sent(1, 5_000_000 + AHEAD_US)
    assert not window.open
    window.freed(1, 5_000_000)
    assert not window.open, "what is ahead is counted from what was taken last"
    window.freed(1, 5_000_000 + AHEAD_US)
    assert (window.open, window.ahead_us) == (True, 0)


def test_a_pause_of_the_caller_is_not_ahead() -> None:
    window = Window(1000)
    window.sent(1, 0)
    window.freed(1, 0)
    window.sent(1, 60_000_000)
    assert window.open


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 400)), max_size=60))
def test_a_caller_that_keeps_to_its_credit_never_has_more_on_the_way_than_the_window(
    steps: list[tuple[int, int]],
) -> None:
    window, credit = Window(1000), Credit(1000)
    told = credit.more(0)
    assert told == 1000
    for wanted, freed in steps:
        size = min(wanted, told)
        if size:
            told -= size
            credit.used(size)
            window.sent(size, None)
        assert window.on_the_way <= 1000
        window.freed(freed, None)
        told += credit.more(window.on_the_way, least=125)
        assert told + window.on_the_way <= 1000
        # Never so little that a caller cannot go on.
        assert told + window.on_the_way > 1000 - 125


def test_a_caller_without_credit_owes_nothing_later() -> None:
    credit = Credit(100)
    assert credit.more(0) == 100
    credit.used(500)
    assert credit.more(100) == 0
    assert credit.more(0) == 100


@pytest.mark.parametrize("kind", ["raw_video", "encoded_video", "pcm", "data"])
def test_the_largest_frame_fits_what_is_left_untold(kind: str) -> None:
    formats = {
        "raw_video": pb.PushInput(raw_video=media_frame_pb2.RawVideoFormat()),
        "encoded_video": pb.PushInput(encoded_video=media_frame_pb2.EncodedVideoFormat()),
        "pcm": pb.PushInput(pcm=media_frame_pb2.PcmFormat(sample_rate_hz=8000, channels=1)),
        "data": pb.PushInput(data=media_frame_pb2.DataFormat()),
    }
    spec = pb.PublicationSpec(push=formats[kind], video=pb.VideoOptions(width=3840, height=2160))
    largest = {"raw_video": 3840 * 2160 * 3 // 2, "encoded_video": 2 * 1024 * 1024, "pcm": 16_000, "data": 65_536}
    assert window_of(spec) * 7 // 8 >= largest[kind]
