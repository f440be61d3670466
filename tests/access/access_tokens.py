"""LiveKit access tokens, signed as they should be or not, and what becomes of them."""

from typing import Any

import jwt
import pytest

from track_server.access.principal import Principal
from track_server.access.tokens import verify
from track_server.errors import Unauthenticated
from track_server.keys import ApiKey, KeyRing, parse_keys

KEY = "APIkey"
SECRET = "secret-of-the-tests-with-more-than-32-bytes"
OTHER_KEY = "APInext"
OTHER_SECRET = "the-other-secret-of-the-tests-also-32-bytes"
NOW = 1_700_000_000.0


def ring(text: str = f"{KEY}: {SECRET}\n{OTHER_KEY}: {OTHER_SECRET}") -> KeyRing:
    """Keys as a file with that text has them."""
    keys = KeyRing(ApiKey("", ""))
    keys._take(parse_keys(text))
    return keys


RING = ring()


def signed(
    claims: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None
) -> str:
    """A token of alice's, good at NOW, with those claims; `...` leaves one out."""
    base = {"iss": KEY, "exp": int(NOW) + 600, "nbf": int(NOW), "sub": "alice"}
    merged = {name: value for name, value in (base | claims).items() if value is not ...}
    return jwt.encode(merged, secret, algorithm=algorithm, headers=headers)


def principal_of(claims: dict[str, Any], now: float = NOW) -> Principal:
    """Who is known by a token with those claims."""
    return verify(signed(claims), RING, now)[0]


def refused(token: str, now: float = NOW) -> Unauthenticated:
    """The error for a token that is not taken."""
    with pytest.raises(Unauthenticated) as raised:
        verify(token, RING, now)
    return raised.value


def refusal(token: str, now: float = NOW) -> str:
    """Its message."""
    return refused(token, now).message
