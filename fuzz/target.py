"""What can be fuzzed: something that takes bytes, and what it must never do."""

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Target(NamedTuple):
    """``run`` raises where something does not hold, whatever the bytes.

    ``seeds``: inputs to begin with. ``words``: what inputs are likely to have in them.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: Iterable[bytes] = ()


class Finding(Exception):
    """Something does not hold; the text says what."""


def choice(data: bytes, ways: int) -> tuple[int, bytes]:
    """One of so many ways, by the first byte, and the other bytes."""
    return (data[0] % ways if data else 0), data[1:]


def chosen(way: int, data: bytes) -> bytes:
    """The bytes of which `choice` makes those."""
    return bytes([way]) + data
