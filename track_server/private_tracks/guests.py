"""Hidden sessions of this service that receive tracks on a participant's behalf, and are let in as that one is."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from track_server.private_tracks.rule import Rule


class Guests:
    """Who they are, by room. ``changed`` is called with the room where one comes or goes."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._rooms: dict[str, dict[str, str]] = {}

    @contextlib.contextmanager
    def admit(self, room: str, identity: str, behalf: str) -> Iterator[None]:
        """For the span of the block the session of that identity may receive what ``behalf`` may."""
        self._rooms.setdefault(room, {})[identity] = behalf
        self._changed(room)
        try:
            yield
        finally:
            of_room = self._rooms[room]
            del of_room[identity]
            if not of_room:
                del self._rooms[room]
            self._changed(room)

    def of_room(self, room: str) -> Mapping[str, str]:
        """By identity, on whose behalf."""
        return self._rooms.get(room, {})


def admitted(guests: Mapping[str, str], rule: Rule, allowed: Iterable[str]) -> frozenset[str]:
    """The guests that the rule lets in. ``allowed``: the participants that it does."""
    may = rule.identities.union(allowed)
    return frozenset(identity for identity, behalf in guests.items() if behalf in may)
