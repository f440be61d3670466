"""What can be fuzzed: something that takes bytes, and what it must never do."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tests.refusals import INTERNAL
from track_server.errors import TrackError


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


def by_choice(ways: Sequence[Callable[[bytes], object]]) -> Callable[[bytes], None]:
    """What takes bytes, and does with the rest of them what their `choice` is."""

    def run(data: bytes) -> None:
        way, rest = choice(data, len(ways))
        ways[way](rest)

    return run


def presentable(error: TrackError, *secrets: str) -> None:
    """Raises Finding where the message is not one for callers, or has something in it that they must not know."""
    told = INTERNAL.search(error.message) or any(secret in error.message for secret in secrets)
    if not error.message or len(error.message) > 500 or told:
        raise Finding(f"not a sentence for callers: {error.message!r}")
