"""Which addresses of the network events may be sent to. Pure.

By the registries of special-purpose addresses of IANA (RFC 6890) and what is assigned as global unicast (RFC 4291):
what is neither public nor known is refused, so that a receiver's name cannot lead into the network of the server.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_PRIVATE_4: Final = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"))
)
# This network, link-local (where clouds keep their credentials), protocol assignments, documentation, relays,
# benchmarks, multicast, reserved and broadcast.
_NEVER_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "169.254.0.0/16",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_PRIVATE_6: Final = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))
_GLOBAL_6: Final = IPv6Network("2000::/3")
# Protocol assignments (Teredo among them), documentation.
_NEVER_6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
# Prefixes before an IPv4 address, which is where a packet really goes, with the place of its lowest bit: mapped, NAT64,
# 6to4.
_EMBEDDED: Final = ((IPv6Network("::ffff:0:0/96"), 0), (IPv6Network("64:ff9b::/96"), 0), (IPv6Network("2002::/16"), 80))


def may_connect(address: str, *, allow_private: bool) -> bool:
    """Whether a connection to that address, as numbers, may be made.

    ``allow_private``: private, shared and unique local addresses and loopback are taken too; link-local ones never are.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return _may_connect_4(parsed, allow_private=allow_private)
    if parsed.scope_id is not None:
        return False
    for prefix, shift in _EMBEDDED:
        if parsed in prefix:
            return _may_connect_4(IPv4Address(int(parsed) >> shift & 0xFFFFFFFF), allow_private=allow_private)
    return _may_connect_6(parsed, allow_private=allow_private)


def _may_connect_4(address: IPv4Address, *, allow_private: bool) -> bool:
    if any(address in network for network in _PRIVATE_4):
        return allow_private
    return not any(address in network for network in _NEVER_4)


def _may_connect_6(address: IPv6Address, *, allow_private: bool) -> bool:
    if any(address in network for network in _PRIVATE_6):
        return allow_private
    return address in _GLOBAL_6 and not any(address in network for network in _NEVER_6)
