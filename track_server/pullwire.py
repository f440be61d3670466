"""What a server and a child of its media worker tell each other about a track that is pulled. See localwire."""

from enum import IntEnum
from typing import Final

WINDOW_BYTES: Final = 4 * 1024 * 1024
"""So much may be on its way from the child to the caller, and one frame more: beyond it frames are left out."""


class Kind(IntEnum):
    """Kinds of messages. ``number`` is 0 and the payload empty where nothing else is said."""

    WANT = 1
    """To the child: what is to be pulled. First, and again where it changes. Payload: PullDesired."""
    CREDIT = 2
    """To the child: the caller has taken so much. Number: bytes."""
    FINISH = 3
    """To the child: send what is left, and end. Payload: PullEnded with the reason."""
    MEASURE = 4
    """To the child: statistics are wanted. Number: how often, in microseconds; 0: not at all, as in the beginning."""
    FRAME = 17
    """To the server: for the caller. Number: where the stream is, in microseconds. Payload: a PullMediaResponse."""
    NOTE = 18
    """To the server: for the caller, besides the frames. Payload: a PullMediaResponse that says how it goes."""
    ENDED = 19
    """To the server, last: for the caller. Payload: a PullMediaResponse with `ended`."""
    FAILED = 20
    """To the server, last: it cannot be pulled. Payload: a Problem."""
    LEFT = 21
    """To the server, last: LiveKit ended the connection. Payload: PullStats."""
    STARTED = 22
    """To the server: the track is subscribed. Payload: a PullMediaResponse with `started`."""
    STATS = 23
    """To the server: what is received. Payload: PullSessionStats."""
