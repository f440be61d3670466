"""Who caused what LiveKit tells of: a command says so before it is issued, and the event that follows carries it.

The cause that a call is, is made by `access.causes.cause_of`.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from google.protobuf.message import Message

from track.v1 import event_pb2

# Seconds. LiveKit tells of a command's effect within milliseconds; a client that must do it itself takes longer.
EXPECTED_S: Final = 10.0


PERMISSION_REVOKED: Final = "permission_revoked"
"""Rule: what rests on a permission ends with it."""
PRIVATE_TRACK: Final = "private_track"
"""Rule: who may not subscribe to a track is unsubscribed."""
SUBSCRIPTIONS_CARRIED: Final = "subscriptions_carried"
"""Rule: who was subscribed to a publication's track is subscribed to the one that comes after it."""
SUBSCRIPTION_POLICY: Final = "subscription_policy"
"""Rule: subscriptions are as the policies say."""
SUBSCRIPTION_CHOICE: Final = "subscription_choice"
"""Rule: subscriptions are as a call of UpdateSubscriptions chose, also after a reconnect."""
SUBSCRIPTION_GIVEN_BACK: Final = "subscription_given_back"
"""Rule: what a policy or a choice took away is subscribed again once they are gone."""


def rule_cause(rule: str, reason: str = "") -> event_pb2.EventCause:
    """A rule of this service, with what the caller said who set it."""
    return event_pb2.EventCause(rule=rule, reason=reason)


Holds: TypeAlias = Callable[[event_pb2.RoomEvent], bool]


class _Expected(NamedTuple):
    """A cause that waits for its event. ``until``: by the clock."""

    until: float
    cause: event_pb2.EventCause
    holds: Holds | None


class Causes:
    """What was commanded in a room and not yet seen. ``clock``: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected: dict[tuple[str, str], _Expected] = {}

    def expect(
        self,
        change: str,
        subject: str,
        cause: event_pb2.EventCause,
        holds: Holds | None = None,
        *,
        within_s: float = EXPECTED_S,
    ) -> None:
        """The next event of that ``change`` about that subject, in time, and for which ``holds`` holds, has that cause.
        ``subject``: SID of a track or participant, or id of a publication, its tracks included."""
        now = self._clock()
        self._expected = {key: value for key, value in self._expected.items() if value.until > now}
        self._expected[change, subject] = _Expected(now + within_s, cause, holds)

    def forget(self, change: str, subject: str) -> None:
        """The next such event is somebody else's."""
        self._expected.pop((change, subject), None)

    def attribute(self, event: event_pb2.RoomEvent) -> None:
        """Writes the cause into an event that has none, where one is expected, once."""
        if not self._expected or event.HasField("cause"):
            return
        change = event.WhichOneof("change")
        if change is None:
            return
        about: Message = getattr(event, change)
        for name in ("sid", "publication_id"):
            key = (change, getattr(about, name, ""))
            found = self._expected.get(key)
            if found is None or not (found.holds is None or found.holds(event)):
                continue
            del self._expected[key]
            if found.until > self._clock():
                event.cause.CopyFrom(found.cause)
                return
