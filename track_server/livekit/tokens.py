"""LiveKit access tokens of this service's own, and for people at the command line."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

import jwt
from livekit.api import AccessToken, VideoGrants

# A token that leaks is of use for so long; LiveKit checks it when a request or a connection begins.
_TTL_S: Final = 3600.0
# Minted again while that much is left: more than any request takes, and than clocks differ.
_MARGIN_S: Final = 600.0
# Tokens kept: several a room, about 1 KiB each.
_CACHE: Final = 4096

# No LiveKit has a room configuration of this name, which it looks up when it makes a room, and only then.
_EXISTING_ROOMS_ONLY: Final = "track-existing-rooms-only"

Kind = Literal["standard", "agent"]


@dataclass(frozen=True, slots=True)
class _Purpose:
    """What a token is for: the key under which it is kept."""

    name: str
    room: str = ""
    identity: str = ""


class TokenMint:
    """Signs access tokens. Signing costs as much as a whole API call otherwise, so each is kept until shortly before it
    expires. ``clock`` gives seconds that pass as those of the wall clock do.
    """

    def __init__(self, api_key: str, api_secret: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api_key = api_key
        self._api_secret = api_secret
        self._clock = clock
        self._kept: OrderedDict[_Purpose, tuple[str, float]] = OrderedDict()

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """From now on, sign with this key."""
        self._api_key, self._api_secret = api_key, api_secret
        self._kept.clear()

    def server(self) -> str:
        """For API calls that are about no one room: list rooms, and create them."""
        return self._keep(_Purpose("server"), VideoGrants(room_list=True, room_create=True))

    def room_admin(self, room: str) -> str:
        """For API calls about a room: participants, tracks, subscriptions, dispatches, and creating it."""
        return self._keep(
            _Purpose("admin", room), VideoGrants(room_admin=True, room_create=True, room_list=True, room=room)
        )

    def watcher(self, room: str, identity: str) -> str:
        """For the hidden participant that watches a room: of kind agent, may subscribe, publishes nothing.

        It joins a room that exists, and LiveKit refuses it (status 500) where joining would make one.
        """
        grants = VideoGrants(
            room_join=True,
            room=room,
            hidden=True,
            can_subscribe=True,
            can_publish=False,
            can_publish_data=False,
        )
        return self._keep(_Purpose("watcher", room, identity), grants, kind="agent", preset=_EXISTING_ROOMS_ONLY)

    def host(self, room: str, identity: str, attributes: Mapping[str, str]) -> str:
        """For a participant that a media worker hosts: with the rights that LiveKit's job dispatch gives it
        (`BuildAgentToken` in its protocol). Kept nowhere.
        """
        grants = VideoGrants(
            room_join=True,
            room=room,
            agent=True,
            hidden=False,
            can_subscribe=False,
            can_publish=True,
            can_publish_data=True,
            can_update_own_metadata=False,
            can_subscribe_metrics=False,
        )
        return self._mint(grants, identity, "agent", timedelta(seconds=_TTL_S), attributes=attributes)

    def puller(self, room: str, identity: str) -> str:
        """For a hidden participant that receives tracks in a media worker: as the watcher, and as that one only where
        the room exists. Kept nowhere.
        """
        grants = _receiving(room)
        return self._mint(grants, identity, "agent", timedelta(seconds=_TTL_S), preset=_EXISTING_ROOMS_ONLY)

    def ear(self, room: str, identity: str) -> str:
        """For the hidden participant with which a hosted session hears the room: as the puller. Good for ten minutes at
        least."""
        return self._keep(_Purpose("ear", room, identity), _receiving(room), kind="agent", preset=_EXISTING_ROOMS_ONLY)

    def ingress(self) -> str:
        """For API calls about ingresses."""
        return self._keep(_Purpose("ingress"), VideoGrants(ingress_admin=True))

    def egress(self) -> str:
        """For API calls about recordings."""
        return self._keep(_Purpose("egress"), VideoGrants(room_record=True))

    def worker(self) -> str:
        """For a media worker: registers with LiveKit's job dispatch, and attaches to MediaService."""
        return self._keep(_Purpose("worker"), VideoGrants(agent=True))

    def user(self, grants: VideoGrants, *, identity: str = "", ttl: timedelta = timedelta(hours=6)) -> str:
        """A new token for somebody else, with the grants given; kept nowhere."""
        return self._mint(grants, identity, "standard", ttl)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token of those claims, as ours; kept nowhere."""
        return jwt.encode({**claims, "iss": self._api_key}, self._api_secret, algorithm="HS256")

    def _keep(
        self, purpose: _Purpose, grants: VideoGrants, *, kind: Kind = "standard", preset: str | None = None
    ) -> str:
        now = self._clock()
        kept = self._kept.get(purpose)
        if kept is not None and now < kept[1]:
            self._kept.move_to_end(purpose)
            return kept[0]
        token = self._mint(grants, purpose.identity, kind, timedelta(seconds=_TTL_S), preset=preset)
        self._kept[purpose] = (token, now + _TTL_S - _MARGIN_S)
        self._kept.move_to_end(purpose)
        if len(self._kept) > _CACHE:
            self._kept.popitem(last=False)
        return token

    def _mint(
        self,
        grants: VideoGrants,
        identity: str,
        kind: Kind,
        ttl: timedelta,
        *,
        preset: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> str:
        token = AccessToken(self._api_key, self._api_secret).with_grants(grants).with_kind(kind).with_ttl(ttl)
        if preset is not None:
            token.with_room_preset(preset)
        if attributes:
            token.with_attributes(dict(attributes))
        return token.with_identity(identity).to_jwt()


def _receiving(room: str) -> VideoGrants:
    return VideoGrants(
        room_join=True,
        room=room,
        hidden=True,
        can_subscribe=True,
        can_publish=False,
        can_publish_data=False,
        can_update_own_metadata=False,
    )
