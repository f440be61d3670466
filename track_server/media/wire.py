"""What a worker and its child processes tell each other: one JSON array a line, the message's name and its fields."""

import dataclasses
import json
from typing import Any, Final

LINE_LIMIT: Final = 4 * 1024 * 1024
"""Longest line in bytes: a job's metadata and its token are in one."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """To the child, first: what is the same for all its sessions. `media_dir` is "" for none."""

    url: str
    api_key: str
    api_secret: str
    media_dir: str
    url_hosts: list[str]
    orphan_timeout_s: float
    log_level: str
    log_json: bool


@dataclasses.dataclass(frozen=True)
class SignWith:
    """To the child: the key in Setup was exchanged for this one."""

    api_key: str
    api_secret: str


@dataclasses.dataclass(frozen=True)
class StartSession:
    """To the child: host a session. `ticket` is a SessionTicket as proto JSON; `url` is "" for Setup's."""

    job_id: str
    worker_id: str
    url: str
    token: str
    ticket: str


@dataclasses.dataclass(frozen=True)
class TerminateSession:
    """To the child: LiveKit regards the job as over."""

    job_id: str


@dataclasses.dataclass(frozen=True)
class WithdrawSession:
    """To the child: whoever asked for the session does not want it any more."""

    job_id: str


@dataclasses.dataclass(frozen=True)
class Stop:
    """To the child: leave all rooms and end."""


@dataclasses.dataclass(frozen=True)
class Ping:
    """To the child: answer with Pong, as soon as you get to it."""


@dataclasses.dataclass(frozen=True)
class Pong:
    """From the child: the answer to Ping."""


@dataclasses.dataclass(frozen=True)
class Ready:
    """From the child: the SDK is loaded."""


@dataclasses.dataclass(frozen=True)
class SessionLeaving:
    """From the child: the session is over, `error` tells why where it failed, and now leaves its room."""

    job_id: str
    error: str


@dataclasses.dataclass(frozen=True)
class SessionOver:
    """From the child: the session has left its room; its place is free."""

    job_id: str


Message = (
    Setup
    | SignWith
    | StartSession
    | TerminateSession
    | WithdrawSession
    | Stop
    | Ping
    | Pong
    | Ready
    | SessionLeaving
    | SessionOver
)

_MESSAGES: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (
        *(Setup, SignWith, StartSession, TerminateSession, WithdrawSession, Stop, Ping),
        *(Pong, Ready, SessionLeaving, SessionOver),
    )
}


def encode(message: Message) -> bytes:
    """The message as a line."""
    return json.dumps([type(message).__name__, dataclasses.asdict(message)]).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line. Raises ValueError, KeyError or TypeError where it is none."""
    name, fields = json.loads(line)
    message: Message = _MESSAGES[name](**fields)
    return message
