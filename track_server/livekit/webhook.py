"""LiveKit's webhooks: whether LiveKit has really sent them, and what is in them."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jwt
from google.protobuf import json_format
from livekit.protocol import webhook

from track_server.errors import InvalidField, Unauthenticated
from track_server.keys import ApiKey, KeyRing

# For a not-before: LiveKit's clock may be ahead of ours. An expiry is taken at its word, LiveKit gives five minutes.
_LEEWAY_S: Final = 60.0
# Nothing that is signed for longer is LiveKit's webhook, and so long are the signatures of what was taken kept.
_MAX_LIFE_S: Final = 900.0
_MAX_TOKEN_BYTES: Final = 4096
# Signatures kept, of 32 bytes each. Beyond, the oldest are forgotten: what is taken twice does no harm.
_KEPT: Final = 50_000
# What names an unknown key is verified too: whether a name is that of a key must not show, in time neither.
_NO_SECRET: Final = "no key of ours: a token signed with this has an unknown issuer"


@dataclass(frozen=True, slots=True)
class Signature:
    """What the header of a request proves: the body that was signed, and until when it counts."""

    body_sha256: bytes
    fingerprint: bytes
    expire_time: float


class WebhookReader:
    """Verifies webhooks by the keys that are good now. ``clock`` gives seconds since 1970 UTC."""

    def __init__(self, keys: KeyRing, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._taken: dict[bytes, float] = {}
        """By fingerprint, until when the signature counts; in the order in which they came."""

    def signature(self, authorization: str | None) -> Signature:
        """What is in the header, which is LiveKit's token with or without `Bearer`: told before the body is read.

        Raises Unauthenticated: no token, malformed, of a key that is not good, expired, or taken before.
        """
        token = (authorization or "").strip()
        scheme, space, rest = token.partition(" ")
        if space and scheme.lower() == "bearer":
            token = rest.strip()
        if not token:
            raise Unauthenticated("a webhook of LiveKit has a token in `Authorization`", cause="missing")
        if len(token) > _MAX_TOKEN_BYTES:
            raise _malformed()
        claims = self._verified(token)
        now = self._clock()
        if now >= claims["exp"]:
            raise Unauthenticated("the token has expired", cause="expired")
        if claims["exp"] - now > _MAX_LIFE_S or now + _LEEWAY_S < claims.get("nbf", 0):
            raise Unauthenticated("the token is not valid yet, or for too long", cause="not_yet_valid")
        fingerprint = hashlib.sha256(token.encode()).digest()
        if fingerprint in self._taken:
            raise Unauthenticated("the request was taken before", cause="replayed")
        try:
            digest = base64.b64decode(claims["sha256"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise _malformed() from error
        return Signature(digest, fingerprint, claims["exp"])

    def event(self, body: bytes, signature: Signature) -> webhook.WebhookEvent:
        """The webhook in the body, which is taken from then on. Raises Unauthenticated where another body was signed,
        InvalidField where it is no webhook.
        """
        if not hmac.compare_digest(hashlib.sha256(body).digest(), signature.body_sha256):
            raise Unauthenticated("the token was made for another body", cause="other_body")
        if signature.fingerprint in self._taken:
            raise Unauthenticated("the request was taken before", cause="replayed")
        try:
            event: webhook.WebhookEvent = json_format.Parse(body, webhook.WebhookEvent(), ignore_unknown_fields=True)
        except (json_format.ParseError, ValueError, RecursionError) as error:
            raise InvalidField("the body is not one of LiveKit's webhooks") from error
        if not event.event:
            raise InvalidField("the body is not one of LiveKit's webhooks")
        self._take(signature)
        return event

    def _take(self, signature: Signature) -> None:
        now = self._clock()
        self._taken[signature.fingerprint] = signature.expire_time
        while (oldest := next(iter(self._taken), None)) is not None:
            if self._taken[oldest] > now and len(self._taken) <= _KEPT:
                break
            del self._taken[oldest]

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token that one of the keys has signed: of the types that are read here."""
        key: ApiKey | None = None
        try:
            issuer = _claims(token).get("iss")
            key = self._keys.find(issuer) if isinstance(issuer, str) else None
            claims: dict[str, Any] = jwt.decode(
                token,
                key=_NO_SECRET if key is None else key.secret,
                algorithms=["HS256"],
                options={
                    "require": ["exp", "iss"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except jwt.InvalidSignatureError as error:
            raise _foreign("wrong_signature" if key is not None else "unknown_key") from error
        except Exception as error:  # whatever a parser makes of hostile input, it is not LiveKit's
            raise _malformed() from error
        if key is None or claims["iss"] != key.key:
            raise _foreign("unknown_key")
        times = claims["exp"], claims.get("nbf", 0)
        if not all(isinstance(value, int | float) and abs(value) < 1e12 for value in times):
            raise _malformed()
        if not isinstance(claims.get("sha256"), str):
            # An access token of somebody else's: whoever has one could send what they like.
            raise Unauthenticated("the token is not that of a webhook", cause="no_body_hash")
        return claims


def _claims(token: str) -> dict[str, Any]:
    """What the token says, unverified: it only chooses the key. Raises anything."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _foreign(cause: str) -> Unauthenticated:
    # The same whichever it was: a stranger is not told the names of the keys.
    return Unauthenticated("the token was not signed with a key of this server", cause=cause)


def _malformed() -> Unauthenticated:
    return Unauthenticated("the token is malformed", cause="malformed")
