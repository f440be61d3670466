"""When a publication that nobody feeds is muted, and when it ends."""

import math

from track.v1.media_frame_pb2 import DataFormat, PcmFormat
from track.v1.publication_pb2 import PushInput
from track_server.durations import duration_of
from track_server.publishing.push.stall import Due, StallClock

NOTHING, MUTE, END = Due.NOTHING, Due.MUTE, Due.END


def clock(*, data: bool = False) -> StallClock:
    """Muted after 2 s, ended after 30, taken up within 10; begun at 100."""
    push = PushInput(stall_end=duration_of(30), resume_grace=duration_of(10))
    if data:
        push.data.CopyFrom(DataFormat())
    else:
        push.pcm.CopyFrom(PcmFormat())
        push.stall_mute.CopyFrom(duration_of(2))
    made = StallClock.of(push, 90.0)
    made.awaited(100.0)
    return made


def test_nobody_is_late_before_a_media_worker_waits_for_frames() -> None:
    early = StallClock.of(PushInput(pcm=PcmFormat(), stall_mute=duration_of(2), stall_end=duration_of(3)), 100.0)
    early.opened(102)
    assert (early.due(1000), early.next()) == (NOTHING, math.inf)
    early.awaited(1000)
    early.awaited(1002)
    assert (early.due(1002.9), early.due(1003)) == (NOTHING, END)


def test_what_was_never_fed_is_not_muted_and_ends() -> None:
    waiting = clock()
    assert (waiting.due(129.9), waiting.due(130)) == (NOTHING, END)
    assert waiting.next() == 130


def test_a_stream_that_opens_gets_its_time() -> None:
    waiting = clock()
    waiting.opened(125)
    assert (waiting.due(150), waiting.due(155)) == (NOTHING, END)


def test_a_stall_is_muted_once_and_then_ends() -> None:
    fed = clock()
    fed.opened(100)
    fed.frame(110)
    assert (fed.due(111.9), fed.due(112), fed.next()) == (NOTHING, MUTE, 112)
    fed.muted = True
    assert (fed.due(113), fed.next()) == (NOTHING, 140)
    fed.frame(120)
    assert (fed.muted, fed.next()) == (False, 122)


def test_what_was_pushed_ahead_is_no_stall() -> None:
    fed = clock()
    fed.opened(100)
    fed.frame(110)
    fed.taken(111.5)
    assert fed.due(113) is NOTHING
    fed.muted = True
    fed.taken(120)
    assert fed.next() == 141.5


def test_a_broken_stream_is_waited_for_as_long_as_the_grace() -> None:
    fed = clock()
    fed.opened(100)
    fed.frame(110)
    fed.closed(111)
    assert (fed.due(112), fed.due(120.9), fed.due(121)) == (MUTE, MUTE, END)
    fed.opened(120)
    assert fed.broke is None
    assert fed.due(121) is MUTE, "by the last frame"


def test_whom_we_hold_back_does_not_stall() -> None:
    fed = clock()
    fed.opened(100)
    fed.frame(110)
    fed.hold(110, held=True)
    assert (fed.due(1000), fed.next()) == (NOTHING, math.inf)
    fed.hold(1000, held=False)
    assert fed.next() == 1002


def test_data_does_not_stall_while_a_stream_is_open() -> None:
    data = clock(data=True)
    data.opened(110)
    data.frame(111)
    assert (data.due(10_000), data.next()) == (NOTHING, math.inf)
    data.closed(200)
    assert (data.due(209.9), data.due(210)) == (NOTHING, END)


def test_data_that_nobody_pushes_ends() -> None:
    assert clock(data=True).due(130) is END


def test_other_spans_hold_at_once() -> None:
    fed = clock()
    fed.opened(100)
    fed.frame(110)
    push = PushInput(pcm=PcmFormat(), stall_mute=duration_of(5), stall_end=duration_of(6), resume_grace=duration_of(1))
    fed.follow(push)
    assert (fed.next(), fed.due(116)) == (115, END)
