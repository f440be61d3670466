"""What a line does to packets, and what it says that it did."""

from itertools import groupby
from typing import Final

import pytest

from tests.impairment.line import Bounds, Way

COUNT: Final = 40_000


def packet(number: int, ssrc: int = 7, payload: bytes = bytes(20), extended: bool = False) -> bytes:
    """RTP, one frame of 20 ms each."""
    first = 0x90 if extended else 0x80
    header = bytes([first, 111]) + (number % 65_536).to_bytes(2, "big") + (number * 960 % 2**32).to_bytes(4, "big")
    extension = bytes([0xBE, 0xDE, 0, 1]) + bytes(4) if extended else b""
    return header + ssrc.to_bytes(4, "big") + extension + payload


def fates(bounds: Bounds, seed: int = 5, count: int = COUNT) -> list[bool]:
    """Whether each of so many packets passed."""
    way = Way(bounds, seed=seed)
    return [way.take(packet(number), number * 0.02) is not None for number in range(count)]


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_as_much_is_lost_as_is_said(loss: float) -> None:
    lost = fates(Bounds(loss=loss)).count(False) / COUNT
    assert lost == pytest.approx(loss, rel=0.1)


@pytest.mark.parametrize(("loss", "burst"), [(0.05, 3.0), (0.1, 5.0)])
def test_bursts_are_as_long_as_is_said_and_no_more_is_lost(loss: float, burst: float) -> None:
    passed = fates(Bounds(loss=loss, burst=burst))
    lengths = [len(list(run)) for each, run in groupby(passed) if not each]
    assert passed.count(False) / COUNT == pytest.approx(loss, rel=0.15)
    assert sum(lengths) / len(lengths) == pytest.approx(burst, rel=0.1)


def test_losses_that_are_each_by_themselves_are_seldom_in_a_row() -> None:
    lengths = [len(list(run)) for each, run in groupby(fates(Bounds(loss=0.05))) if not each]
    assert sum(lengths) / len(lengths) < 1.1


def test_the_same_seed_drops_the_same_packets() -> None:
    bounds = Bounds(loss=0.1, burst=2)
    assert fates(bounds, seed=3, count=500) == fates(bounds, seed=3, count=500)
    assert fates(bounds, seed=3, count=500) != fates(bounds, seed=4, count=500)


@pytest.mark.parametrize(
    ("bounds", "spared"),
    [(Bounds(rate_bps=100_000, queue_bytes=3000), True), (Bounds(rate_bps=100_000, queue_packets=4), False)],
)
def test_a_full_queue_of_bytes_spares_small_packets_and_one_of_packets_spares_none(
    bounds: Bounds, spared: bool
) -> None:
    way = Way(bounds)
    passed: dict[int, list[bool]] = {88: [], 1188: []}
    for number in range(3000):
        size = (88, 1188)[number % 2]
        passed[size].append(way.take(packet(number, payload=bytes(size)), number * 0.0103) is not None)
    small, large = (sum(each) / len(each) for each in passed.values())
    assert large < 0.3
    assert (small > 0.9) is spared
    assert (small < 0.5) is not spared
    carried = 8 * (100 * sum(passed[88]) + 1200 * sum(passed[1188]))
    assert carried / (3000 * 0.0103) == pytest.approx(100_000, rel=0.05)


def test_a_queue_of_packets_holds_so_many_and_empties() -> None:
    way = Way(Bounds(rate_bps=8 * 32 * 10, queue_packets=3))
    assert [way.take(packet(number), 0.0) for number in range(5)] == pytest.approx([0.1, 0.2, 0.3, None, None])
    assert way.take(packet(5), 0.15) == pytest.approx(0.4)
    assert way.take(packet(6), 9.0) == pytest.approx(9.1)


def test_jitter_delays_and_keeps_the_order() -> None:
    way = Way(Bounds(delay_s=0.1, jitter_s=0.05), seed=1)
    sent = [number * 0.001 for number in range(2000)]
    through = [way.take(packet(number), at) for number, at in enumerate(sent)]
    late = [at - begun for at, begun in zip(through, sent, strict=True) if at is not None]
    assert len(late) == 2000
    assert min(late) >= 0.1
    assert max(late) <= 0.15 + 1e-9
    assert max(late) - min(late) > 0.01
    assert through == sorted(at for at in through if at is not None)


def test_who_was_sent_before_a_delay_fell_is_not_overtaken() -> None:
    way = Way(Bounds(delay_s=0.3))
    first = way.take(packet(1), 0.0)
    way.change(Bounds(), 0.1)
    second = way.take(packet(2), 0.1)
    assert first is not None
    assert second is not None
    assert second >= first


def test_a_dead_line_passes_nothing_and_comes_back() -> None:
    way = Way(Bounds(dead=True), logged=True)
    assert [way.take(packet(number), number) for number in range(3)] == [None] * 3
    way.change(Bounds(), 3.0)
    assert way.take(packet(3), 3.0) == 3.0
    assert way.changes == [(3.0, Bounds())]
    assert way.counts.dropped_by_ssrc[7].packets == 3


def test_every_packet_is_logged_with_its_fate_size_and_time() -> None:
    way = Way(Bounds(delay_s=0.5), logged=True)
    way.take(packet(1, payload=bytes(30), extended=True), 1.0)
    way.change(Bounds(dead=True, delay_s=0.5), 1.5)
    way.take(packet(2, payload=bytes(10)), 2.0)
    way.take(bytes([0x80, 200]) + bytes(20), 2.0)
    padding = packet(3, payload=bytes(200))
    way.take(bytes([padding[0] | 0x20]) + padding[1:], 3.0)
    assert way.log is not None
    assert set(way.log) == {7}
    packets = way.log[7]
    assert list(packets.due_s) == [1.5, 2.5, 3.5]
    assert list(packets.passed) == [1, 0, 0]
    assert list(packets.payload_bytes) == [30, 10, 0]
    assert list(packets.rtp_time) == [960, 1920, 2880]
    assert list(packets.sequence) == [1, 2, 3]
    assert packets.payload_types == {111}


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.0}, {"loss": -0.1}, {"delay_s": -1}, {"jitter_s": -1}, {"loss": 0.1, "burst": 1.0}]
)
def test_what_no_line_does_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"loss|bursts"):
        Bounds(**wrong)  # type: ignore[arg-type]  # as named


def test_losses_leave_no_room_for_bursts_that_are_too_rare() -> None:
    with pytest.raises(ValueError, match="leave room"):
        Bounds(loss=0.9, burst=1.5)
