"""Who may ask the permission service: TrackService alone."""

import hmac
import time
from collections.abc import Callable
from typing import Final

from track_server.access.certificates import read_certificate
from track_server.access.principal import Principal
from track_server.errors import Unauthenticated

_SCHEME: Final = "bearer "
_NAME: Final = "track-service"


class CallerAuthenticator:
    """Knows TrackService by ``token``, as `Bearer`, or, where it sends none, by the client certificate that TLS has
    verified, where ``certificates`` are asked for.

    With neither (``token`` "" and ``certificates`` False) it takes everybody: the listener is on loopback then.
    ``clock`` gives seconds since 1970 UTC.
    """

    def __init__(self, token: str, *, certificates: bool, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._certificates = certificates
        self._clock = clock
        self._caller = Principal(identity=_NAME)
        self._certified: tuple[bytes, Principal] | None = None

    def known(self, authorization: str | None, certificate: bytes | None = None) -> Principal | None:
        """See Authenticator."""
        if not self._token and not self._certificates:
            return self._caller
        if authorization is not None:
            return self._caller if self._token and self._is_token(authorization) else None
        # There is one caller: its certificate is nearly always that of the call before.
        if self._certified is None or self._certified[0] != certificate or self._expired(self._certified[1]):
            return None
        return self._certified[1]

    async def authenticate(self, authorization: str | None, certificate: bytes | None = None) -> Principal:
        """See Authenticator."""
        if (caller := self.known(authorization, certificate)) is not None:
            return caller
        if authorization is not None:
            raise Unauthenticated("the bearer token is not that of this permission service", cause="wrong_signature")
        if not self._certificates or certificate is None:
            raise Unauthenticated(
                "send this permission service's token: `authorization: Bearer TOKEN`", cause="missing"
            )
        names, end = read_certificate(certificate)
        principal = Principal(identity=_NAME, expire_time=end, certificate=names[0] if names else "")
        if self._expired(principal):
            raise Unauthenticated("the client certificate has expired", cause="expired_certificate")
        self._certified = certificate, principal
        return principal

    def vouches(self, principal: Principal) -> bool:
        """See Authenticator. The token and the CAs stay as they are while the process lives."""
        return True

    def _is_token(self, authorization: str) -> bool:
        scheme, token = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :]
        return scheme.lower() == _SCHEME and hmac.compare_digest(token.strip().encode(), self._token)

    def _expired(self, principal: Principal) -> bool:
        return principal.expire_time is not None and self._clock() >= principal.expire_time
