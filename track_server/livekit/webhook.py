"""LiveKit's webhooks: whether LiveKit has really sent them, and what is in them."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from livekit.protocol import webhook

from track_server.errors import InvalidField, Unauthenticated
from track_server.keys import KeyRing
from track_server.signatures import malformed, verified

_KIND: Final = "token"
# For a not-before: LiveKit's clock may be ahead of ours. An expiry is taken at its word, LiveKit gives five minutes.
_LEEWAY_S: Final = 60.0
# Nothing that is signed for longer is LiveKit's webhook, and so long are the signatures of what was taken kept.
_MAX_LIFE_S: Final = 900.0
_MAX_TOKEN_BYTES: Final = 4096
# Signatures kept, of 32 bytes each. Beyond, the oldest are forgotten: what is taken twice does no harm.
_KEPT: Final = 50_000


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
            raise malformed(_KIND)
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
            raise malformed(_KIND) from error
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
        claims, _ = verified(token, self._keys, _KIND)
        times = claims["exp"], claims.get("nbf", 0)
        if not all(isinstance(value, int | float) and abs(value) < 1e12 for value in times):
            raise malformed(_KIND)
        if not isinstance(claims.get("sha256"), str):
            # An access token of somebody else's: whoever has one could send what they like.
            raise Unauthenticated("the token is not that of a webhook", cause="no_body_hash")
        return claims
