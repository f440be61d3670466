"""What LiveKit hands on of a track tells whether anything arrives from a publisher that says nothing itself."""

from collections.abc import Iterable

from track_server.livekit.debug import DownTrack
from track_server.quality.clock import Moment
from track_server.quality.core.measuring.meter import Expected, Meter
from track_server.quality.core.measuring.reading import Hop, Limitation, Media, Reading, Source
from track_server.quality.sources.forwarding import Forwarding


def at(second: float) -> Moment:
    return Moment(time_s=1_800_000_000.0 + second, monotonic_s=100.0 + second)


def copy(packets: int, subscriber: str = "PA_a", layer: int = 0, *, disabled: bool = False) -> DownTrack:
    return DownTrack("TR_v", subscriber, True, layer, disabled, packets, subscriber)


def look(forwarding: Forwarding, second: float, *copies: DownTrack, video: bool = True) -> Reading | None:
    return forwarding.look(copies, video=video, now=at(second))


def still_s(reading: Reading | None) -> float:
    assert reading is not None
    assert reading.last_packet_s is not None
    return reading.time_s - reading.last_packet_s


def test_packets_that_go_to_anybody_move_it() -> None:
    forwarding = Forwarding()
    first = look(forwarding, 0, copy(100), copy(500, "PA_b"))
    second = look(forwarding, 1, copy(100), copy(530, "PA_b"))
    assert first is not None
    assert second is not None
    assert (first.packets, second.packets) == (0, 30)
    # Some time in between.
    assert still_s(second) == 0.5


def test_nobody_who_gets_any_is_silence_since_the_last_that_went() -> None:
    forwarding = Forwarding()
    for second in range(3):
        look(forwarding, second, copy(100 + 10 * second))
    assert [still_s(look(forwarding, second, copy(120))) for second in range(3, 8)] == [1.5, 2.5, 3.5, 4.5, 5.5]
    assert still_s(look(forwarding, 8, copy(121))) == 0.5


def test_looks_that_are_far_apart_make_no_silence() -> None:
    forwarding = Forwarding()
    for second in range(0, 50, 10):
        reading = look(forwarding, second, copy(100 + 500 * second))
        assert still_s(reading) <= 0.5
    assert still_s(look(forwarding, 50, copy(20_100))) == 10.5


def test_a_step_of_the_clock_is_no_silence() -> None:
    forwarding = Forwarding()
    look(forwarding, 0, copy(100))
    look(forwarding, 1, copy(150))
    stepped = Moment(at(2).time_s + 3600.0, at(2).monotonic_s)
    assert still_s(forwarding.look([copy(150)], video=True, now=stepped)) == 1.5


def test_who_has_only_just_come_says_nothing_of_what_was_before() -> None:
    forwarding = Forwarding()
    look(forwarding, 0, copy(100))
    look(forwarding, 1, copy(110))
    # A newcomer's numbers begin elsewhere; the other one's stand still.
    assert still_s(look(forwarding, 4, copy(110), copy(9_000, "PA_b"))) == 3.5
    alone = look(forwarding, 5, copy(30_000, "PA_c"))
    assert still_s(alone) == 0
    assert alone is not None
    assert alone.packets == 10


def test_nothing_is_told_while_nobody_is_to_get_any() -> None:
    forwarding = Forwarding()
    assert look(forwarding, 0) is None
    assert look(forwarding, 1, copy(100, disabled=True)) is None
    assert not forwarding.served
    # Paused, for want of bandwidth.
    assert look(forwarding, 2, copy(100, layer=-1)) is None
    assert look(forwarding, 3, copy(100)) is not None
    assert forwarding.served
    assert look(forwarding, 9, copy(100, layer=-1)) is None
    # It was no silence of the publisher's.
    assert still_s(look(forwarding, 12, copy(100))) == 0


def test_sound_has_no_layers() -> None:
    assert look(Forwarding(), 0, copy(100, layer=-1), video=False) is not None


def own(second: int) -> Iterable[Reading]:
    now = at(second)
    yield Reading(
        source=Source.PUBLISHER_STATS,
        ssrc=7,
        time_s=now.time_s,
        arrival_s=now.monotonic_s,
        packets=50 * second,
        resent=0,
        payload_bytes=5_000 * second,
        lost=0,
        lost_time_s=now.time_s,
        limitation=Limitation.NONE,
    )


def test_a_publisher_whose_numbers_cease_is_seen_to_have_stalled() -> None:
    meter, forwarding = Meter(Hop.UPLINK, Media.AUDIO), Forwarding()
    meter.expect(Expected(sent=True))
    for second in range(20):
        # The debug view is told of first: the publisher's own numbers count all the same.
        reading = look(forwarding, second, copy(50 * min(second, 10)), video=False)
        assert reading is not None
        meter.add([reading])
        if second <= 10:
            meter.add(list(own(second)))
        total = meter.total(5.0, at(second).monotonic_s)
        assert total is not None
        if 2 <= second <= 10:
            assert total.limitation is Limitation.NONE
            assert total.stalled_s is not None
            assert total.stalled_s.source is Source.PUBLISHER_STATS
        if second == 15:
            assert total.stalled_s is not None
            assert (total.stalled_s.value, total.stalled_s.source) == (5.5, Source.DEBUG_VIEW)


def test_looks_that_were_left_out_end_no_window() -> None:
    meter, forwarding = Meter(Hop.UPLINK, Media.AUDIO), Forwarding()
    for second in (0, 1, 2, 40, 41):
        reading = look(forwarding, second, copy(50 * second), video=False)
        assert reading is not None
        assert meter.add([reading]) is None
