"""How often and how much the metadata of a participant's tracks may change. Pure: the clock is given."""

from collections.abc import Hashable
from typing import Protocol

from track_server.errors import LimitExceeded
from track_server.limits.rates import Rates

_CHANGES = "max_metadata_changes_per_second_per_participant"
_BYTES = "max_metadata_change_bytes_per_second_per_participant"
_KEPT = 10_000


class PaceLimits(Protocol):
    """Settings of the limits: see LimitSettings."""

    max_metadata_changes_per_second_per_participant: int
    max_metadata_change_bytes_per_second_per_participant: int


class Pace:
    """Counts changes by participant. One second's worth may come at once."""

    def __init__(self, limits: PaceLimits) -> None:
        self._changes = limits.max_metadata_changes_per_second_per_participant
        self._bytes = limits.max_metadata_change_bytes_per_second_per_participant
        self._rates = Rates(self._changes)
        self._spent_until: dict[Hashable, float] = {}
        """When all that was spent of a second's worth of bytes is there again."""

    def admit(self, room: str, identity: str, size: int, now: float) -> None:
        """Counts one change, after which the participant has ``size`` bytes of attributes.

        ``now``: seconds of a monotonic clock. Raises LimitExceeded with the time after which there is room for it.
        """
        key, subject = (room, identity), f"participant {identity} of room {room}"
        until = max(self._spent_until.get(key, now), now)
        cost_s = size / self._bytes
        # More than a second's worth needs all of it.
        if (missing := until + min(cost_s, 1.0) - (now + 1.0)) > 0:
            raise LimitExceeded(
                _BYTES,
                self._bytes,
                subject,
                advice=f"each change sends all {size} bytes of attributes to everybody in the room: change less often,"
                " or keep what is large elsewhere",
                retry_delay_s=missing,
            )
        if (wait_s := self._rates.take(key, now)) > 0:
            raise LimitExceeded(
                _CHANGES,
                self._changes,
                subject,
                advice="put several changes into one, or send what changes all the time as data",
                retry_delay_s=wait_s,
            )
        if len(self._spent_until) >= _KEPT:
            self._spent_until = {key: at for key, at in self._spent_until.items() if at > now}
        self._spent_until[key] = until + cost_s
