"""Consistency tokens: a revision of the store, in a form that callers do not make up. Pure."""

import base64
import hashlib
import struct
from typing import Final

from track_server.errors import InvalidConsistencyToken

_VERSION: Final = 1
_BODY: Final = struct.Struct(">BQ")
_DIGEST_BYTES: Final = 6


def token_of(room: str, revision: int) -> str:
    """The token of a revision, for requests about that room."""
    body = _BODY.pack(_VERSION, revision)
    return base64.urlsafe_b64encode(body + _digest(room, body)).decode()


def revision_of(token: str, room: str) -> int:
    """The revision that the token demands; 0 for the empty token. Raises InvalidConsistencyToken."""
    if not token:
        return 0
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError as error:
        raise _invalid() from error
    body, digest = raw[: _BODY.size], raw[_BODY.size :]
    if len(body) != _BODY.size or digest != _digest(room, body) or token_of(room, _BODY.unpack(body)[1]) != token:
        raise _invalid()
    revision: int = _BODY.unpack(body)[1]
    return revision


def _digest(room: str, body: bytes) -> bytes:
    # Against mistakes: a token grants nothing, so nothing is gained by forging one.
    return hashlib.blake2b(body + room.encode(), digest_size=_DIGEST_BYTES, person=b"track-revision").digest()


def _invalid() -> InvalidConsistencyToken:
    return InvalidConsistencyToken(
        "the consistency token is not one that this service gave for the room", field="consistency_token"
    )
