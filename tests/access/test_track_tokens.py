"""Tokens that a permission service makes in our place: none is handed out that gives more than was asked for."""

import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest

from track.permission.v1 import permission_service_pb2 as pb
from track.v1.access_pb2 import TrackOperation
from track.v1.token_pb2 import CreateTrackTokenRequest, PublishBounds
from track.v1.track_pb2 import TrackSource
from track_server.access.access import Open
from track_server.access.bounds import Bounds
from track_server.access.operation import narrowing
from track_server.access.principal import Grants, Principal
from track_server.access.tokens import verify
from track_server.access.track_tokens import TrackTokens
from track_server.errors import PermissionServiceUnavailable
from track_server.keys import ApiKey, KeyRing

KEY = ApiKey("APIkey", "secret-of-the-tests-with-more-than-32-bytes")
RING = KeyRing(KEY)
CAMERA = TrackSource.TRACK_SOURCE_CAMERA
WANTED = CreateTrackTokenRequest(
    room="demo",
    operation=TrackOperation.TRACK_OPERATION_PUBLISH,
    sources=[CAMERA],
    bounds=PublishBounds(max_width=640),
)
VIDEO = {
    "room": "demo",
    "roomJoin": True,
    "canPublish": True,
    "canPublishSources": ["camera"],
    "canPublishData": False,
    "canSubscribe": False,
}
NARROWED = narrowing(TrackOperation.TRACK_OPERATION_PUBLISH, Bounds(max_width=640))


def signed(claims: Mapping[str, Any]) -> str:
    return jwt.encode({"iss": KEY.key, **claims}, KEY.secret, algorithm="HS256")


class _Issuer:
    """Makes the token that it was given, whatever is asked for."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def issue(self, *asked: object) -> pb.IssueTrackTokenResponse:
        return pb.IssueTrackTokenResponse(decision=pb.DECISION_ALLOWED, token=self._token)


async def handed_out(claims: Mapping[str, Any]) -> str:
    """The token that a caller gets where the permission service makes one of those claims."""
    made = {"sub": "alice", "exp": int(time.time()) + 60, "video": VIDEO, **NARROWED, **claims}
    issuer = _Issuer(signed(made))
    tokens = TrackTokens(Open(), issuer, signed, lambda token: verify(token, RING, time.time())[0])
    alice = Principal("alice", Grants(room="demo", room_join=True, can_publish=True))
    answer = await tokens.create(alice, WANTED)
    return answer.token


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"nbf": 1, "iat": 1, "jti": "x", "name": "Alice", "metadata": "{}", "kind": "standard", "sha256": ""},
        {"video": VIDEO | {"hidden": False, "roomCreate": None, "destinationRoom": ""}},
    ],
)
async def test_a_token_that_gives_what_was_asked_for_is_handed_out(claims: Mapping[str, Any]) -> None:
    assert jwt.decode(await handed_out(claims), KEY.secret, algorithms=["HS256"])["sub"] == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "bob"},
        {"exp": 2**31},
        {"track": {"operation": "subscribe"}},
        {"track": {"operation": "publish"}},
        {"track": {"operation": "publish", "bounds": {"max_width": 641}}},
        {"video": VIDEO | {"room": "other"}},
        {"video": VIDEO | {"roomAdmin": True}},
        {"video": VIDEO | {"canSubscribe": True}},
        {"video": VIDEO | {"canPublishSources": []}},
        {"video": VIDEO | {"canPublishSources": ["camera", "microphone"]}},
        # What this service does not read, LiveKit does.
        {"video": VIDEO | {"roomCreate": True}},
        {"video": VIDEO | {"roomRecord": True}},
        {"video": VIDEO | {"ingressAdmin": True}},
        {"video": VIDEO | {"hidden": True}},
        {"video": VIDEO | {"recorder": True}},
        {"video": VIDEO | {"destinationRoom": "other"}},
        # With it the holder could take the bounds out of the token that LiveKit renews.
        {"video": VIDEO | {"canUpdateOwnMetadata": True}},
        {"sip": {"admin": True}},
        {"roomConfig": {"agents": [{"agentName": "x"}]}},
        {"roomPreset": "wide"},
        {"kind": "agent"},
        {"something": "new"},
    ],
    ids=str,
)
async def test_a_token_that_gives_more_is_not_handed_out(claims: Mapping[str, Any]) -> None:
    with pytest.raises(PermissionServiceUnavailable):
        await handed_out(claims)
