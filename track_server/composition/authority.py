"""Who calls, and who decides what they may do: the parts of the auth mode."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from track_server.access.access import Access, Open
from track_server.access.certificates import ClientCertificates
from track_server.access.grants import GrantAccess
from track_server.access.question import Touch
from track_server.access.revocation import Revocation
from track_server.access.service_mode.access import ServiceAccess, service_access
from track_server.access.tokens import Authenticator, TokenAuthenticator, Unguarded, verify
from track_server.access.track_tokens import TrackTokens
from track_server.composition.foundation import Foundation
from track_server.interceptors.context import request_id, time_left
from track_server.listeners import client_certificates


@dataclass(frozen=True, slots=True)
class Authority:
    """The parts. ``permissions``: the permission service's side of mode `service`, None in the other modes."""

    authenticator: Authenticator
    access: Access
    permissions: ServiceAccess | None
    revocation: Revocation
    """Not entered: it looks at what stands, so that must be there first."""
    track_tokens: TrackTokens


@contextlib.asynccontextmanager
async def deciding(ground: Foundation) -> AsyncIterator[Authority]:
    """The authority of the settings' mode for the span of the block. Raises SettingsError."""
    async with contextlib.AsyncExitStack() as stack:
        certificates = await stack.enter_async_context(client_certificates(ground.settings))
        authenticator = _authenticator(ground, certificates)
        followers: list[Callable[[Touch], None]] = []

        def changed(touch: Touch) -> None:
            for follower in followers:
                follower(touch)

        permissions = None
        if ground.settings.auth_mode == "service":
            permissions = await stack.enter_async_context(
                service_access(
                    ground.settings,
                    ground.registry,
                    on_change=changed,
                    time_left=time_left,
                    request_id=request_id,
                )
            )
        access = permissions or _access(ground)
        revocation = Revocation(access, authenticator.vouches)
        followers.append(revocation.changed)
        ground.rooms.listen(revocation.happened)
        tokens = TrackTokens(
            access,
            permissions,
            ground.tokens.sign,
            lambda token: verify(token, ground.keys, time.time())[0],
            control_key=ground.companion.key.public,
        )
        yield Authority(authenticator, access, permissions, revocation, tokens)


def _authenticator(ground: Foundation, certificates: ClientCertificates | None) -> Authenticator:
    if ground.settings.auth_mode == "off":
        return Unguarded()
    return TokenAuthenticator(ground.keys, certificates)


def _access(ground: Foundation) -> Access:
    return Open() if ground.settings.auth_mode == "off" else GrantAccess(ground.reader.participant)
