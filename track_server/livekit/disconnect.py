"""How a signalling session fails or ends.

    SignalError
    |- SignalUnreachable    no connection, or no JoinResponse in time
    |- SignalRefused        LiveKit refused the connection, with an HTTP status
    `- SignalClosed         the session has ended

They stay between this package and the rooms above it; no caller of the service sees them.
"""

from dataclasses import dataclass
from typing import Final

from livekit.protocol import models, rtc

# Goodbyes that mean us or the room. LiveKit says DISCONNECT with others too, SERVER_SHUTDOWN for one.
_FINAL: Final = frozenset(
    {
        models.CLIENT_INITIATED,
        models.DUPLICATE_IDENTITY,
        models.PARTICIPANT_REMOVED,
        models.ROOM_DELETED,
        models.ROOM_CLOSED,
    }
)


@dataclass(frozen=True, slots=True)
class SignalEnd:
    """Why a session ended.

    ``by_server``: LiveKit said goodbye, and ``reason`` is its own; otherwise the reason is SIGNAL_CLOSE (the connection
    broke or went silent) or CLIENT_INITIATED (we closed it). ``can_reconnect``: a new session makes sense; not where we
    were sent away or replaced, nor where the room is gone. ``detail`` is for logs.
    """

    reason: models.DisconnectReason
    by_server: bool
    can_reconnect: bool
    detail: str


class SignalError(Exception):
    """Base of what can go wrong with a signalling session."""


class SignalUnreachable(SignalError):
    """No connection, or no JoinResponse in time."""


class SignalRefused(SignalError):
    """LiveKit refused the connection: ``status`` is the HTTP status (401 bad token, 404 no such room)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status} {detail}")
        self.status = status
        self.detail = detail


class SignalClosed(SignalError):
    """The session has ended; the attributes are those of SignalEnd."""

    def __init__(self, end: SignalEnd) -> None:
        super().__init__(f"{models.DisconnectReason.Name(end.reason)}: {end.detail}")
        self.reason = end.reason
        self.by_server = end.by_server
        self.can_reconnect = end.can_reconnect
        self.detail = end.detail


def sent_away(leave: rtc.LeaveRequest) -> SignalEnd:
    """The end that LiveKit's goodbye means."""
    asked = leave.can_reconnect or leave.action in (rtc.LeaveRequest.RESUME, rtc.LeaveRequest.RECONNECT)
    return SignalEnd(
        leave.reason,
        by_server=True,
        can_reconnect=asked or leave.reason not in _FINAL,
        detail=f"LiveKit says {rtc.LeaveRequest.Action.Name(leave.action)}",
    )


def broken(detail: str) -> SignalEnd:
    """The end of a connection that was lost or went silent."""
    return SignalEnd(models.SIGNAL_CLOSE, by_server=False, can_reconnect=True, detail=detail)


def closed_by_us() -> SignalEnd:
    """The end that we made ourselves."""
    return SignalEnd(models.CLIENT_INITIATED, by_server=False, can_reconnect=False, detail="closed by us")
