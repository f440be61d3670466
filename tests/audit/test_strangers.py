"""Strangers are counted, in a space that they cannot fill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track_server.audit.entry import address_of
from track_server.audit.strangers import ADDRESSES, OTHER, Strangers, host_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_calls_are_counted_by_cause_and_by_address_without_the_port() -> None:
    strangers = Strangers()
    for cause, address in (("none", "192.0.2.1:5"), ("expired", "192.0.2.1:6"), ("none", "192.0.2.2:5")):
        strangers.count(cause, address)
    assert strangers.causes == {"none": 2, "expired": 1}
    assert strangers.addresses == {"192.0.2.1": 2, "192.0.2.2": 1}


def test_a_flood_of_addresses_fills_the_places_and_no_more() -> None:
    strangers = Strangers(clock=Clock())
    for n in range(1000):
        strangers.count("none", f"10.0.{n // 250}.{n % 250}:1")
    strangers.count("none", "10.0.0.0:2")
    counts = strangers.addresses
    assert len(counts) == ADDRESSES + 1
    assert (counts["10.0.0.0"], counts[OTHER]) == (2, 1000 - ADDRESSES)


def test_a_quiet_address_makes_room_and_its_count_is_not_lost() -> None:
    clock = Clock()
    strangers = Strangers(clock=clock)
    for n in range(ADDRESSES):
        strangers.count("none", f"10.0.0.{n}:1")
    clock.now = 1800
    strangers.count("none", "10.0.0.0:1")
    strangers.count("none", "192.0.2.1:1")
    assert "192.0.2.1" not in strangers.addresses
    clock.now = 3700
    strangers.count("none", "192.0.2.1:1")
    assert strangers.addresses == {"10.0.0.0": 2, "192.0.2.1": 1, OTHER: ADDRESSES}


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 2000)), max_size=400))
def test_the_sum_over_addresses_never_falls_and_is_the_sum_over_causes(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    strangers = Strangers(clock=clock)
    for number, wait in steps:
        clock.now += wait
        strangers.count("none", f"10.0.{number // 250}.{number % 250}:1")
        assert sum(strangers.addresses.values()) == strangers.causes["none"]
        assert len(strangers.addresses) <= ADDRESSES + 1


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:50123", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50123", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:1", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("unix:/some/socket", "unix"),
        ("unix:", "unix"),
        ("", OTHER),
    ],
)
def test_a_peer_is_counted_by_its_host_or_its_network(peer: str, host: str) -> None:
    assert host_of(address_of(peer)) == host
