"""MediaService: only the worker that hosts a session speaks for it."""

from collections.abc import Mapping
from typing import Any

import grpc
import jwt
import pytest

from tests.livekit_process import LiveKitProcess
from tests.publications import TONE, publish
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from track.media.v1 import media_service_pb2 as media
from track.media.v1.media_service_pb2_grpc import MediaServiceStub
from track_server.publishing.ids import session_id

# Of any generation that will ever be dispatched: whoever is believed with it has the session for good.
FAR = 2**62


@pytest.mark.parametrize(
    ("identity", "grants"),
    [
        ("alice", {"agent": True}),
        ("SES_0123456789", {"agent": True}),
        ("session", {"agent": True, "room": "ROOM", "roomJoin": True}),
        ("session", {"roomAdmin": True, "room": "ROOM"}),
        ("session", {}),
    ],
    ids=["another worker", "another session", "an agent in the room", "an admin", "nobody in particular"],
)
async def test_who_is_not_the_sessions_worker_learns_and_changes_nothing(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client, identity: str, grants: Mapping[str, Any]
) -> None:
    published = await publish(admin, room, TONE, "studio")
    session = session_id(room, "studio")
    claims = {
        "iss": livekit.api_key,
        "sub": session if identity == "session" else identity,
        "exp": 2**31,
        "video": {name: room if value == "ROOM" else value for name, value in grants.items()},
    }
    token = jwt.encode(claims, livekit.api_secret, algorithm="HS256")
    hello = media.AttachRequest(hello=media.SessionHello(session_id=session, generation=FAR))
    async with grpc.aio.insecure_channel(track.media_address) as channel:
        call: Any = MediaServiceStub(channel).Attach(iter([hello]), metadata=(("authorization", f"Bearer {token}"),))
        refused = await refusal(call.read())
    assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    # The session goes on with the worker that it has.
    again = await publish(admin, room, TONE, "studio")
    assert again.participant_identity == published.participant_identity
