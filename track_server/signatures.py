"""Tokens that an API key has signed (JWT, HS256): what they claim, once the signature is verified."""

import base64
import json
from typing import Any, Final

import jwt

from track_server.errors import Unauthenticated
from track_server.keys import ApiKey, KeyRing

# No key at all verifies what names an unknown one: whether a name is that of a key must not show, in time neither.
_NO_SECRET: Final = "no key of ours: a token signed with this has an unknown issuer"
# The caller compares times with its own clock. LiveKit ignores an audience.
_OPTIONS: Final[jwt.types.Options] = {
    "require": ["exp", "iss"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_sub": False,
    "verify_jti": False,
}


def verified(token: str, keys: KeyRing, kind: str) -> tuple[dict[str, Any], ApiKey]:
    """The claims of a token that one of the keys has signed, and which: HS256 alone, whatever the token's header says.

    The issuer names the key. An expiry (`exp`) is there; of what type it is and whether it has passed is not looked at,
    nor are the other claims. ``kind`` names the token in messages.

    Raises Unauthenticated: malformed, which is also a name that is there twice; of an unknown key, or wrongly signed.
    """
    key: ApiKey | None = None
    try:
        issuer = _issuer(token)
        key = keys.find(issuer) if isinstance(issuer, str) else None
        claims: dict[str, Any] = jwt.decode(
            token, key=_NO_SECRET if key is None else key.secret, algorithms=["HS256"], options=_OPTIONS
        )
    except jwt.InvalidSignatureError as error:
        raise _foreign(kind, "wrong_signature" if key is not None else "unknown_key") from error
    except jwt.MissingRequiredClaimError as error:
        raise Unauthenticated(f"the {kind} lacks an expiry or an issuer", cause="malformed") from error
    except Exception as error:  # whatever a parser makes of hostile input, the caller is nobody
        raise malformed(kind) from error
    if key is None or claims["iss"] != key.key:
        raise _foreign(kind, "unknown_key")
    return claims, key


def malformed(kind: str) -> Unauthenticated:
    """The error for a token that is not of the right form, or whose claims are not of the right types."""
    return Unauthenticated(f"the {kind} is malformed", cause="malformed")


def _issuer(token: str) -> object:
    """Whom the token names as its issuer, unverified: it only chooses the key. Raises anything, also where a name is
    there twice: parsers differ in which of the two counts, LiveKit's and ours included.
    """
    payload = token.split(".")[1]
    raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    return json.loads(raw, object_pairs_hook=_unique).get("iss")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _foreign(kind: str, cause: str) -> Unauthenticated:
    # The same whichever it was: a stranger is not told the names of the keys.
    return Unauthenticated(
        f"the {kind} was issued under another API key, or not signed with this server's secret", cause=cause
    )
