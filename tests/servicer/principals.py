"""Callers, by the token that they bring, and what the README says that they may do."""

import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Set
from typing import Any, Final, NamedTuple

import grpc
import jwt
from livekit import api

from tests.livekit_process import LiveKitProcess
from tests.server_process import bearing_token
from tests.servicer.contract import RULES
from tests.track_process import Client, TrackProcess
from track.v1 import access_pb2, token_pb2, track_pb2
from track.v1.access_pb2 import Permission

IDENTITY: Final = "alice"
"""Of all of them."""

EVERYTHING: Final = frozenset(rule.permission for rule in RULES.values())
SERVER: Final = frozenset({Permission.PERMISSION_READ_SERVER})
READING: Final = SERVER | {Permission.PERMISSION_READ_TRACKS}
SENDING: Final = frozenset(
    {
        Permission.PERMISSION_PUBLISH,
        Permission.PERMISSION_MUTE,
        Permission.PERMISSION_RESTRICT_TRACK,
        Permission.PERMISSION_WRITE_METADATA,
    }
)
RECEIVING: Final = frozenset({Permission.PERMISSION_SUBSCRIBE})
JOINING: Final = frozenset({Permission.PERMISSION_CREATE_TOKEN, Permission.PERMISSION_REPORT_STATS})
"""What takes no more than to be in the room, with a token that is not for one operation."""
AUDITING: Final = frozenset({Permission.PERMISSION_READ_AUDIT})
RECORDING: Final = frozenset({Permission.PERMISSION_RECORD})

Permissions = Set["Permission.ValueType"]


@contextlib.asynccontextmanager
async def bearing(track: TrackProcess, token: str | None) -> AsyncIterator[Client]:
    """A stub whose calls carry that text as Bearer token; None: no credentials at all."""
    async with grpc.aio.insecure_channel(track.address, interceptors=bearing_token(token)) as channel:
        yield Client(channel)


class May(NamedTuple):
    """What a principal may do in the room that its token is made for."""

    own: Permissions
    """With its own microphone and camera, and as regards itself."""
    data: Permissions
    """With its own data tracks."""
    others: Permissions
    """With others', and what does not exist."""
    moderates: bool = False
    """Whether it may do to its own participant what moderators do, and is told what is not there."""


Make = Callable[[LiveKitProcess, str], str | None]


class Principal(NamedTuple):
    """A caller. ``token``: of a LiveKit and a room. ``may``: None: it is nobody."""

    token: Make
    may: May | None
    elsewhere: bool = False
    """Whether its token is for another room."""
    everywhere: bool = False
    """Whether its token is about every room."""
    operation: "access_pb2.TrackOperation.ValueType" = access_pb2.TRACK_OPERATION_UNSPECIFIED
    """The one that its token is for. Such tokens are made by the service itself: ``token`` gives None."""


def granted(*, within: str = "", **grants: Any) -> Make:
    """A token with those grants, for the room or for another."""

    def make(livekit: LiveKitProcess, room: str) -> str:
        token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity(IDENTITY)
        return token.with_grants(api.VideoGrants(room=within or room, **grants)).to_jwt()

    return make


def forged(*, key: str = "", secret: str = "", **times: int) -> Make:
    """An admin's token with another key or secret, or `exp` and `nbf` that many seconds from now."""

    def make(livekit: LiveKitProcess, room: str) -> str:
        now = int(time.time())
        claims = {"sub": IDENTITY, "exp": now + 600, "nbf": now - 600, "video": {"roomAdmin": True, "room": room}}
        claims |= {"iss": key or livekit.api_key} | {name: now + value for name, value in times.items()}
        return jwt.encode(claims, secret or livekit.api_secret, algorithm="HS256")

    return make


def unsigned(livekit: LiveKitProcess, room: str) -> str:
    """An admin's token with `alg: none`."""
    claims = {"sub": IDENTITY, "exp": int(time.time()) + 600, "video": {"roomAdmin": True, "room": room}}
    parts = [{"alg": "none", "typ": "JWT"}, {"iss": livekit.api_key} | claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def _nothing(livekit: LiveKitProcess, room: str) -> None:
    return None


def _all_alike(permissions: Permissions) -> May:
    return May(permissions, permissions, permissions)


def _own(permissions: Permissions) -> May:
    """Own tracks of any kind; of others, what everybody in the room may."""
    return May(permissions, permissions, permissions & READING)


PRINCIPALS: Final = {
    "none": Principal(_nothing, None),
    "malformed": Principal(lambda *_: "not.a.token", None),
    "expired": Principal(forged(exp=-3600), None),
    "not yet valid": Principal(forged(nbf=3600), None),
    "wrong secret": Principal(forged(secret="x" * 40), None),
    "wrong key": Principal(forged(key="APIother"), None),
    "alg none": Principal(unsigned, None),
    "no grants": Principal(granted(), _all_alike(SERVER)),
    "another room": Principal(
        granted(within="elsewhere", room_join=True, room_admin=True), _all_alike(SERVER), elsewhere=True
    ),
    "subscriber": Principal(
        granted(room_join=True, can_publish=False, can_publish_data=False), _own(READING | RECEIVING | JOINING)
    ),
    "publisher": Principal(granted(room_join=True), _own(READING | SENDING | RECEIVING | JOINING)),
    "deaf publisher": Principal(granted(room_join=True, can_subscribe=False), _own(READING | SENDING | JOINING)),
    "publisher of other sources": Principal(
        granted(room_join=True, can_publish_sources=["screen_share_audio"], can_publish_data=False),
        _own(READING | RECEIVING | JOINING),
    ),
    "data publisher": Principal(
        granted(room_join=True, can_publish=False, can_publish_data=True, can_subscribe=False),
        May(READING | JOINING, READING | JOINING | SENDING, READING),
    ),
    "room admin": Principal(granted(room_admin=True), _all_alike(EVERYTHING - RECORDING)._replace(moderates=True)),
    "recorder": Principal(granted(room_record=True), _all_alike(SERVER | RECORDING)),
    "recording admin": Principal(
        granted(room_admin=True, room_record=True), _all_alike(EVERYTHING)._replace(moderates=True)
    ),
    "service": Principal(
        granted(within="elsewhere", room_list=True), _all_alike(READING | AUDITING), elsewhere=True, everywhere=True
    ),
    "publish token": Principal(
        _nothing,
        _own(SERVER | {Permission.PERMISSION_PUBLISH}),
        operation=access_pb2.TRACK_OPERATION_PUBLISH,
    ),
    "subscribe token": Principal(_nothing, _own(SERVER | RECEIVING), operation=access_pb2.TRACK_OPERATION_SUBSCRIBE),
    "observe token": Principal(_nothing, _all_alike(READING), operation=access_pb2.TRACK_OPERATION_OBSERVE),
}


def whatever_the_token_is_about(principal: Principal) -> May | None:
    """What it may where everything is allowed: within the room and the operation of its token still."""
    if principal.may is None:
        return None
    if principal.operation:
        # The one operation; on others as well.
        return _all_alike(principal.may.own)
    everything = _all_alike(SERVER if principal.elsewhere and not principal.everywhere else EVERYTHING)
    # Blocks hold against whom they are about, whoever decides: who is of the room needs roomAdmin to lift its own.
    return everything._replace(moderates=principal.may.moderates or principal.everywhere)


def nothing(principal: Principal) -> May | None:
    """What it may where everything is denied."""
    return principal.may and _all_alike(frozenset())


async def operation_token(admin: Client, room: str, operation: "access_pb2.TrackOperation.ValueType") -> str:
    """A token of the service's own for one operation, with all that it can be for."""
    request = token_pb2.CreateTrackTokenRequest(room=room, operation=operation, participant_identity=IDENTITY)
    if operation == access_pb2.TRACK_OPERATION_PUBLISH:
        request.sources.extend(source for source in track_pb2.TrackSource.values() if source)
        request.data = True
    token: str = (await admin.CreateTrackToken(request, timeout=45)).token
    return token
