"""Who calls, by LiveKit access token or client certificate: all auth modes behind one `Authenticator`."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from track_server.access.certificates import ClientCertificates
from track_server.access.operation import narrowed
from track_server.access.principal import Principal, anonymous
from track_server.access.video_grants import grants_of, text_of
from track_server.errors import Unauthenticated
from track_server.keys import KeyRing
from track_server.signatures import malformed, verified

_KIND: Final = "access token"
# For a not-before, between the clocks of who signs and who verifies. An expiry is taken at its word: LiveKit allows a
# minute beyond it, for a connection that is being made; here it would be a minute of commands.
_LEEWAY_S: Final = 5.0
# Verified tokens kept: about 2 KiB each.
_CACHE: Final = 4096
# Longer than any token of LiveKit's SDKs with 4 KiB of attributes; verifying costs in proportion.
_MAX_TOKEN_BYTES: Final = 16_384


class Authenticator(Protocol):
    """Tells who calls."""

    def known(self, authorization: str | None, certificate: bytes | None = None) -> Principal | None:
        """The principal of credentials that were taken before and are still good; None: ask `authenticate`."""

    async def authenticate(self, authorization: str | None, certificate: bytes | None = None) -> Principal:
        """Who calls with these credentials; raises Unauthenticated.

        ``authorization``: the call's metadata of that name, None where it has none. Then ``certificate`` counts: the
        client certificate that TLS has verified, as PEM.
        """

    def vouches(self, principal: Principal) -> bool:
        """Whether what the principal is known by still counts: its key, or its certificate; expiry apart."""


class Unguarded:
    """Mode `off`: everybody may do everything."""

    def __init__(self) -> None:
        self._principal = anonymous()

    def known(self, authorization: str | None, certificate: bytes | None = None) -> Principal:
        """See Authenticator."""
        return self._principal

    async def authenticate(self, authorization: str | None, certificate: bytes | None = None) -> Principal:
        """See Authenticator; never raises."""
        return self._principal

    def vouches(self, principal: Principal) -> bool:
        """See Authenticator."""
        return True


class TokenAuthenticator:
    """Modes `token` and `service`: `Bearer` and a LiveKit access token, signed with one of ``keys``; without one, the
    client certificate, where ``certificates`` maps any.

    A token is verified once and kept until it expires, or the keys change. ``clock`` gives seconds since 1970 UTC.
    """

    def __init__(
        self,
        keys: KeyRing,
        certificates: ClientCertificates | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._certificates = certificates
        self._clock = clock
        self._principals: dict[str | None, tuple[Principal, float]] = {}
        keys.follow(self._principals.clear)

    def known(self, authorization: str | None, certificate: bytes | None = None) -> Principal | None:
        """See Authenticator."""
        entry = self._principals.get(authorization)
        if entry is None:
            if authorization is not None or certificate is None or self._certificates is None:
                return None
            return self._certificates.known(certificate, self._clock())
        if self._clock() >= entry[1]:
            return None
        return entry[0]

    async def authenticate(self, authorization: str | None, certificate: bytes | None = None) -> Principal:
        """See Authenticator."""
        if authorization is None:
            if certificate is None or self._certificates is None:
                raise Unauthenticated(
                    "send a LiveKit access token in the metadata: `authorization: Bearer TOKEN`", cause="missing"
                )
            return self._certificates.principal(certificate, self._clock())
        if (principal := self.known(authorization)) is not None:
            return principal
        self._principals.pop(authorization, None)
        principal, good_until = verify(bearer(authorization), self._keys, self._clock())
        self._principals[authorization] = (principal, good_until)
        if len(self._principals) > _CACHE:
            # The oldest, though it may be in use: to verify it again is cheaper than to keep the order of use.
            del self._principals[next(iter(self._principals))]
        return principal

    def vouches(self, principal: Principal) -> bool:
        """See Authenticator."""
        if principal.key is not None:
            return self._keys.good(principal.key)
        return self._certificates is not None and self._certificates.maps(principal)


def bearer(authorization: str) -> str:
    """The token of an `authorization` value; the scheme's case does not matter. Raises Unauthenticated."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "the metadata `authorization` must be `Bearer` and a LiveKit access token", cause="malformed"
        )
    return token.strip()


def verify(token: str, keys: KeyRing, now: float) -> tuple[Principal, float]:
    """The principal of a LiveKit access token, and the time until which it is good; raises Unauthenticated.

    HS256 alone, whatever the token's header says; the issuer names the key; an expiry, and a not-before where the token
    has one, the latter with a few seconds of leeway. ``now``: seconds since 1970 UTC.
    """
    if len(token) > _MAX_TOKEN_BYTES:
        raise Unauthenticated("the access token is too long", cause="malformed")
    claims, key = verified(token, keys, _KIND)
    try:
        good_until = _time(claims["exp"])
        good_from = _time(claims.get("nbf", 0)) - _LEEWAY_S
        operation, bounds = narrowed(claims)
        principal = Principal(
            # LiveKit takes the token's id for the identity where it names none.
            identity=text_of(claims, "sub") or text_of(claims, "jti"),
            grants=grants_of(claims.get("video")),
            expire_time=good_until,
            operation=operation,
            bounds=bounds,
            key=key,
        )
    except (ValueError, OverflowError) as error:
        raise malformed(_KIND) from error
    if now >= good_until:
        raise Unauthenticated("the access token has expired", cause="expired")
    if now < good_from:
        raise Unauthenticated("the access token is not valid yet", cause="not_yet_valid")
    return principal, good_until


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        raise ValueError("not a time")
    return float(value)
