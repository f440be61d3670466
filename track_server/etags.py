"""Compare-and-set: etags name the state that something is in."""

import secrets
from typing import Final

from track_server.errors import EtagMismatch

ABSENT: Final = "*"
"""The etag of what is not there."""
_BYTES: Final = 6


def new_etag() -> str:
    """Of a state that was not there before."""
    return secrets.token_hex(_BYTES)


def compare(current: str, given: str, what: str, *, absent: str = ABSENT) -> None:
    """Raises EtagMismatch where ``given`` names another state than ``current``; an empty one names none. ``what``: that
    is to be changed; ``absent``: the etag it has where it is not there."""
    if given and given != current:
        said = f"the {what} is there already" if given == absent else f"the {what} was changed since"
        raise EtagMismatch(said, field="etag", metadata={"etag": current})
