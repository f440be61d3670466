"""Positions in the events of a room, and their text, which nobody but this service can make.

An epoch is one unbroken watch. A new one begins when the watch was away, so a cursor of an old epoch cannot hide a gap.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final, Self

from track_server.errors import InvalidCursor
from track_server.store.records import Store
from track_server.store.secrets import kept_secret

_TEXT: Final = re.compile(r"([0-9a-f]{12})([0-9a-f]{12})?-([0-9]{1,18})")
_SEAL_BYTES: Final = 6
_EPOCH_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_KIND: Final = "event_log"
_KEY: Final = "secret"


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A position: after message ``sequence`` of ``epoch``. 0 is the snapshot with which an epoch begins."""

    epoch: str
    sequence: int

    @classmethod
    def first(cls) -> Self:
        """Of a new epoch."""
        return cls(secrets.token_hex(_EPOCH_BYTES), 0)

    def next(self) -> Self:
        """The one after it in its epoch."""
        return type(self)(self.epoch, self.sequence + 1)


class Seal:
    """Writes cursors and knows its own again: which room, epoch and sequence a text was made for. ``secret``: 32 bytes.

    So one that is not kept any more is told from one that never was, and a position that was told and then lost in a
    crash from one that lies in the future.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(_SECRET_BYTES)

    @classmethod
    async def of(cls, store: Store) -> Self:
        """With the store's secret, made where there is none. Raises StoreError."""
        return cls(await kept_secret(store, _KIND, _KEY, lambda: secrets.token_bytes(_SECRET_BYTES)))

    def text(self, room: str, cursor: Cursor) -> str:
        """The cursor as callers get it."""
        return f"{cursor.epoch}{self._mark(room, cursor)}-{cursor.sequence}"

    def read(self, room: str, text: str) -> Cursor | None:
        """What `text` wrote for that room; None where it did not. Raises InvalidCursor where it is no cursor at all."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidCursor("the cursor is not one that this service gave", field="cursor")
        cursor = Cursor(match[1], int(match[3]))
        genuine = match[2] is not None and secrets.compare_digest(match[2], self._mark(room, cursor))
        return cursor if genuine and str(cursor.sequence) == match[3] else None

    def _mark(self, room: str, cursor: Cursor) -> str:
        what = f"{cursor.epoch}-{cursor.sequence}-{room}".encode()
        return hashlib.blake2b(what, key=self._secret, digest_size=_SEAL_BYTES).hexdigest()
