"""How long a publication by a client is waited for: without its participant, and without its track. In seconds."""

import random
from typing import Final

VANISHED_GRACE_S: Final = 2.0
"""LiveKit may tell that a track is gone before it tells that its participant's connection is another one."""
UNSEEN_S: Final = 5.0
"""A track is in the room with its first packet: one that the client has published and that stays away has no media, or
has another SID since the client's connection was made anew."""
RETRY_FIRST_S: Final = 0.25
RETRY_LAST_S: Final = 2.0


class Patience:
    """``return_s``: how long a participant may stay away."""

    def __init__(self, return_s: float) -> None:
        self._return_s = return_s
        self.seen = False
        """Whether the track that is published now was in the room."""
        self._gone_at: float | None = None
        self._without_at: float | None = None
        self._waits = 0

    def answered(self) -> None:
        """The client is there."""
        self._without_at = None

    def published(self) -> None:
        """Another track is published."""
        self.seen, self._gone_at, self._waits = False, None, 0

    def there(self) -> None:
        """The track is in the room."""
        self.seen, self._gone_at = True, None

    def ask_again(self) -> None:
        """The track is given its time once more."""
        self._gone_at = None

    def gone(self, now: float) -> float:
        """For how long the track may still be missing; 0 or less: no longer."""
        self._gone_at = now if self._gone_at is None else self._gone_at
        return self._gone_at + (VANISHED_GRACE_S if self.seen else UNSEEN_S) - now

    def without(self, now: float) -> float:
        """For how long there may still be nobody to publish it; 0 or less: no longer."""
        self._without_at = now if self._without_at is None else self._without_at
        return self._without_at + self._return_s - now

    def newcomer(self) -> None:
        """Somebody came who was not asked yet."""
        self._waits = 0

    def pause(self) -> float:
        """Until the next try, longer each time."""
        self._waits += 1
        return min(RETRY_FIRST_S * 2.0**self._waits, RETRY_LAST_S) * random.uniform(0.5, 1.0)
