"""Callers whom nobody knows: counted, never recorded, in a space that they cannot fill."""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ADDRESSES: Final = 100
"""So many addresses are counted for themselves."""
OTHER: Final = "other"
"""All other addresses together."""
# An address that was not seen for so long makes room for another one.
_QUIET_S: Final = 3600.0
# Whoever has one IPv6 address has a whole network of that size.
_NETWORK_BITS: Final = 64


@dataclass(slots=True)
class _Address:
    """An address that is counted for itself. ``seen``: when last, in seconds of the monotonic clock."""

    count: int
    seen: float


class Strangers:
    """Counts unauthenticated calls by cause, and by address.

    The first ADDRESSES addresses have a count of their own, the rest one in common. A place is free again an hour after
    its address was last seen; what it had then goes to the rest, so that the sum never falls.
    ``clock`` gives seconds of a clock that never goes back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._addresses: dict[str, _Address] = {}
        self._others = 0
        self._free_at = 0.0
        self.causes: dict[str, int] = {}
        """Number of calls by cause, of which there are few."""

    def count(self, cause: str, address: str) -> None:
        """One more unauthenticated call. ``address``: as `entry.address_of` gives it."""
        self.causes[cause] = self.causes.get(cause, 0) + 1
        now = self._clock()
        host = host_of(address)
        known = self._addresses.get(host)
        if known is not None:
            known.count += 1
            known.seen = now
        elif len(self._addresses) < ADDRESSES or self._free(now):
            self._addresses[host] = _Address(1, now)
        else:
            self._others += 1

    @property
    def addresses(self) -> dict[str, int]:
        """Number of calls by address; under OTHER those that have no place of their own."""
        counts = {host: known.count for host, known in self._addresses.copy().items()}
        return {**counts, OTHER: self._others} if self._others else counts

    def _free(self, now: float) -> bool:
        """Free the places of those that are quiet; returns whether there were any."""
        if now < self._free_at:
            return False
        quiet = [host for host, known in self._addresses.items() if known.seen + _QUIET_S <= now]
        for host in quiet:
            self._others += self._addresses.pop(host).count
        # Before then nobody can have been quiet for long enough, so that a flood of addresses costs nothing.
        self._free_at = min(known.seen for known in self._addresses.values()) + _QUIET_S if self._addresses else 0.0
        return bool(quiet)


def host_of(address: str) -> str:
    """The host of `host:port`: an IPv4 address, the network of an IPv6 address, or what else names a peer."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return address.partition(":")[0] or OTHER  # a local socket
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _NETWORK_BITS), strict=False))
