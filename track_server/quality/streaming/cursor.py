"""Positions in the stream of one choice, as text. Pure."""

import re
import secrets
from typing import Final

from track_server.errors import InvalidCursor

_TEXT: Final = re.compile(r"([0-9a-f]{12})-([1-9][0-9]{0,17})")
_LIFE_BYTES: Final = 6


def new_life() -> str:
    """Names a board, whose positions nobody else's are."""
    return secrets.token_hex(_LIFE_BYTES)


def cursor_text(life: str, position: int) -> str:
    """The cursor as callers get it; empty for the position before all."""
    return f"{life}-{position}" if position else ""


def read_cursor(text: str) -> tuple[str, int]:
    """The board's life and the position. Raises InvalidCursor where it is no cursor at all."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise InvalidCursor("the cursor is not one that this service gave", field="cursor")
    return match[1], int(match[2])
