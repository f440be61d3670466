"""Who calls, by LiveKit access token: the modes `token` and `off` behind one `Authenticator`."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import jwt

from track.v1.track_pb2 import TrackSource
from track_server.access.principal import Grants, Principal, anonymous
from track_server.errors import Unauthenticated

# For a not-before, between the clocks of who signs and who verifies. An expiry is taken at its word: LiveKit allows a
# minute beyond it, for a connection that is being made; here it would be a minute of commands.
_LEEWAY_S: Final = 5.0
# Verified tokens kept: about 2 KiB each.
_CACHE: Final = 4096
# Longer than any token of LiveKit's SDKs with 4 KiB of attributes; verifying costs in proportion.
_MAX_TOKEN_BYTES: Final = 16_384

_SOURCES: Final = {
    "camera": TrackSource.TRACK_SOURCE_CAMERA,
    "microphone": TrackSource.TRACK_SOURCE_MICROPHONE,
    "screen_share": TrackSource.TRACK_SOURCE_SCREEN_SHARE,
    "screen_share_audio": TrackSource.TRACK_SOURCE_SCREEN_SHARE_AUDIO,
}


class Authenticator(Protocol):
    """Tells who calls."""

    def known(self, authorization: str | None) -> Principal | None:
        """The principal of an `authorization` that was taken before and is still good; None: ask `authenticate`."""

    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal behind the call's `authorization` metadata, None where it has none; raises Unauthenticated."""


class Unguarded:
    """Mode `off`: everybody may do everything."""

    def __init__(self) -> None:
        self._principal = anonymous()

    def known(self, authorization: str | None) -> Principal:
        """See Authenticator."""
        return self._principal

    async def authenticate(self, authorization: str | None) -> Principal:
        """See Authenticator; never raises."""
        return self._principal


class TokenAuthenticator:
    """Mode `token`: `Bearer` and a LiveKit access token, signed with ``api_secret`` under the name ``api_key``.

    A token is verified once and kept until it expires. ``clock`` gives seconds since 1970 UTC.
    """

    def __init__(self, api_key: str, api_secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self._api_key = api_key
        self._api_secret = api_secret
        self._clock = clock
        self._principals: dict[str | None, tuple[Principal, float]] = {}

    def known(self, authorization: str | None) -> Principal | None:
        """See Authenticator."""
        entry = self._principals.get(authorization)
        if entry is None or self._clock() >= entry[1]:
            return None
        return entry[0]

    async def authenticate(self, authorization: str | None) -> Principal:
        """See Authenticator."""
        if authorization is None:
            raise Unauthenticated("Send a LiveKit access token in the metadata: `authorization: Bearer TOKEN`.")
        if (principal := self.known(authorization)) is not None:
            return principal
        self._principals.pop(authorization, None)
        principal, good_until = verify(bearer(authorization), self._api_key, self._api_secret, self._clock())
        self._principals[authorization] = (principal, good_until)
        if len(self._principals) > _CACHE:
            # The oldest, though it may be in use: to verify it again is cheaper than to keep the order of use.
            del self._principals[next(iter(self._principals))]
        return principal


def bearer(authorization: str) -> str:
    """The token of an `authorization` value; the scheme's case does not matter. Raises Unauthenticated."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("The metadata `authorization` must be `Bearer` and a LiveKit access token.")
    return token.strip()


def verify(token: str, api_key: str, api_secret: str, now: float) -> tuple[Principal, float]:
    """The principal of a LiveKit access token, and the time until which it is good; raises Unauthenticated.

    HS256 alone, whatever the token's header says; issuer ``api_key``; an expiry, and a not-before where the token has
    one, the latter with a few seconds of leeway. ``now``: seconds since 1970 UTC.
    """
    if len(token) > _MAX_TOKEN_BYTES:
        raise Unauthenticated("The access token is too long.")
    try:
        claims = jwt.decode(
            token,
            key=api_secret,
            algorithms=["HS256"],
            issuer=api_key,
            # Times are compared below, with our clock. LiveKit ignores an audience.
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
        raise Unauthenticated("The access token was not signed with this server's API secret.") from error
    except jwt.InvalidIssuerError as error:
        raise Unauthenticated("The access token was issued under another API key.") from error
    except jwt.MissingRequiredClaimError as error:
        raise Unauthenticated("The access token lacks an expiry or an issuer.") from error
    except Exception as error:  # whatever a parser makes of hostile input, the caller is nobody
        raise Unauthenticated("The access token is malformed.") from error
    try:
        good_until = _time(claims["exp"])
        good_from = _time(claims.get("nbf", 0)) - _LEEWAY_S
        principal = Principal(
            # LiveKit takes the token's id for the identity where it names none.
            identity=_text(claims, "sub") or _text(claims, "jti"),
            grants=_grants(claims.get("video")),
            expire_time=good_until,
        )
    except (ValueError, OverflowError) as error:
        raise Unauthenticated("The access token is malformed.") from error
    if now >= good_until:
        raise Unauthenticated("The access token has expired.")
    if now < good_from:
        raise Unauthenticated("The access token is not valid yet.")
    return principal, good_until


def _grants(video: object) -> Grants:
    if video is None:
        return Grants()
    if not isinstance(video, Mapping):
        raise ValueError("video is no object")
    join = _flag(video, "roomJoin", default=False)
    # LiveKit's defaults for who may join: absent is allowed, for data where media are.
    publish = _flag(video, "canPublish", default=join)
    return Grants(
        room=_text(video, "room"),
        room_join=join,
        room_admin=_flag(video, "roomAdmin", default=False),
        room_list=_flag(video, "roomList", default=False),
        can_publish=publish,
        can_publish_sources=_sources(video.get("canPublishSources")),
        can_publish_data=_flag(video, "canPublishData", default=publish),
        can_subscribe=_flag(video, "canSubscribe", default=join),
        agent=_flag(video, "agent", default=False),
    )


def _sources(names: object) -> "frozenset[TrackSource.ValueType]":
    if names is None:
        return frozenset()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("canPublishSources is no list of names")
    # A name that LiveKit does not know is the unknown source to it, never "all sources", which the empty set means.
    return frozenset(_SOURCES.get(name.lower(), TrackSource.TRACK_SOURCE_UNSPECIFIED) for name in names)


def _flag(claims: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = claims.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ValueError(f"{name} is no bool")
    return value


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    value.encode()  # JSON can escape what is no Unicode text; names go into logs and keys
    return value


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        raise ValueError("not a time")
    return float(value)
