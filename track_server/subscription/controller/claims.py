"""Which subscriptions a call is at work on: nobody else asks LiveKit for those meanwhile. Without I/O."""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator


class Claims:
    """Owner of them, in memory."""

    def __init__(self) -> None:
        self._held: Counter[tuple[str, str, str]] = Counter()
        """How many calls are at work, by room, identity and SID."""

    @contextlib.contextmanager
    def claimed(self, room: str, pairs: Collection[tuple[str, str]]) -> Iterator[None]:
        """A call is at work on those pairs (identity, track SID) for the span of the block. Several may be."""
        places = [(room, *pair) for pair in pairs]
        self._held.update(places)
        try:
            yield
        finally:
            self._held.subtract(places)
            for place in places:
                if not self._held[place]:
                    del self._held[place]

    def holds(self, room: str, identity: str, track_sid: str) -> bool:
        """Whether a call is at work on that."""
        return (room, identity, track_sid) in self._held
