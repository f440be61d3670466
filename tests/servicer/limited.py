"""Servers with limits, what is asked of them, and the refusal of what is beyond."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.refusals import Refusal
from tests.track_process import Client
from track.v1 import publication_pb2

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
Pub = publication_pb2
Spec = publication_pb2.PublicationSpec
SHORT_S = 6.0
"""Enough to be stored: without a media worker nothing more comes of it. A tenth of it is for the answer to arrive."""


@contextlib.asynccontextmanager
async def admin_of(
    start_track: StartTrack, livekit: LiveKitProcess, room: str, workers: int = 0, **settings: int
) -> AsyncIterator[Client]:
    """An admin of the room at a server of its own with those limits; without a media worker."""
    environment = {f"TRACK_{name.upper()}": str(value) for name, value in settings.items()}
    track = await start_track(livekit, {**environment, "TRACK_MEDIA_WORKERS": str(workers)})
    async with track.client("op", room_admin=True, room=room) as client:
        yield client


def asked(room: str, identity: str, spec: Spec, **fields: Any) -> Pub.PublishTrackRequest:
    return Pub.PublishTrackRequest(room=room, participant_identity=identity, spec=spec, **fields)


async def ask(client: Client, request: Pub.PublishTrackRequest) -> Pub.PublishTrackResponse:
    answer: Pub.PublishTrackResponse = await client.PublishTrack(request, timeout=SHORT_S)
    return answer


def full(refused: Refusal, limit: str, value: int, subject: str) -> None:
    """It is the refusal of that limit, which waiting does not lift."""
    assert (refused.code, refused.reason, refused.retry_s) == (EXHAUSTED, "LIMIT_EXCEEDED", None), refused
    assert refused.quota == (limit, value, subject)
    assert limit in refused.message
