"""What the server and its media workers agree on: names, and what `serve` and the workers that it starts say.

They speak over the worker's standard input and output: one JSON array a line, the message's name and its fields.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

AGENT_NAME: Final = "track-media"
"""Under which workers register with LiveKit, and jobs are dispatched."""

SESSION_ATTRIBUTE: Final = "track.session_id"
"""Attribute of a hosted participant: the id of its session. It tells ours from another of the same identity."""

LINE_LIMIT: Final = 256 * 1024
"""Longest line in bytes: an offer has a ticket and a token in it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """To the worker: host this session, and answer. LiveKit's own dispatch takes 200 ms to choose a worker, also where
    there is but one (psrpc waits so long for better bids).

    ``ticket``: a SessionTicket as proto JSON. ``token`` joins the room as its participant. ``expire``: seconds of this
    machine's monotonic clock, after which nobody waits for the answer any more and it is not to be taken.
    """

    offer_id: str
    ticket: str
    token: str = field(repr=False)
    expire: float


@dataclass(frozen=True, slots=True)
class Withdraw:
    """To the worker: the session of that offer is not wanted any more."""

    offer_id: str


@dataclass(frozen=True, slots=True)
class Registered:
    """From the worker: LiveKit knows it. Said again after every registration."""


@dataclass(frozen=True, slots=True)
class Load:
    """From the worker: how many sessions it hosts, and how many it takes. The first one says that it takes offers."""

    sessions: int
    max_sessions: int


@dataclass(frozen=True, slots=True)
class Answer:
    """From the worker: whether it takes the offer."""

    offer_id: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Over:
    """From the worker: the session of an offer that it took is over, however it ended."""

    offer_id: str


Line = Offer | Withdraw | Registered | Load | Answer | Over

_LINES: Final[dict[str, Any]] = {kind.__name__: kind for kind in (Offer, Withdraw, Registered, Load, Answer, Over)}


def line_of(message: Line) -> bytes:
    """The message as a line."""
    return json.dumps([type(message).__name__, asdict(message)]).encode() + b"\n"


def message_in(line: bytes) -> Line:
    """The message in a line. Raises ValueError, KeyError or TypeError where it is none."""
    name, fields = json.loads(line)
    message: Line = _LINES[name](**fields)
    return message
