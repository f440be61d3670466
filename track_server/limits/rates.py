"""Token buckets: how many calls a second, per key. Pure: the clock is given."""

from collections.abc import Hashable
from typing import Final

BUCKETS: Final = 10_000
"""Buckets kept at most; about 150 bytes each."""


class Rates:
    """A bucket of tokens for each key, filled with ``per_second`` tokens a second up to the worth of ``burst_s``.

    Kept as one number a key, the time at which the bucket will be full again (the generic cell rate algorithm, ITU-T
    I.371): a full bucket is the same as none, so that a bucket need not be kept once it is full. Beyond ``most``
    buckets the fullest are forgotten.
    """

    def __init__(self, per_second: float, *, burst_s: float = 1.0, most: int = BUCKETS) -> None:
        self._token_s = 1.0 / per_second
        # The one taken now is counted as well; a thousandth of it for the rounding of what is added up.
        self._slack_s = max(burst_s, self._token_s) - 0.999 * self._token_s
        self._most = most
        self._full_at: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float) -> float:
        """Takes a token. Returns 0, or where there is none, how many seconds until there is one.

        ``now``: seconds of a monotonic clock.
        """
        full_at = self._full_at.get(key, now)
        if full_at <= now:
            if len(self._full_at) >= self._most and key not in self._full_at:
                self._forget(now)
            self._full_at[key] = now + self._token_s
            return 0.0
        missing = full_at - now - self._slack_s
        if missing > 0:
            return missing
        self._full_at[key] = full_at + self._token_s
        return 0.0

    def _forget(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        excess = len(self._full_at) - self._most // 2
        if excess > 0 and len(self._full_at) >= self._most:
            for key in sorted(self._full_at, key=self._full_at.__getitem__)[:excess]:
                del self._full_at[key]
