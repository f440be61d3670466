"""Publications by clients: requests that many tests make, shortly said."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf import struct_pb2

import track_control
from tests.clients.apps import CAMERA, attached
from tests.livekit_process import LiveKitProcess
from tests.participants import Joined, participant
from tests.publications import OBSERVED, publication
from tests.publications import until as until_known
from tests.track_process import Client
from track.v1 import publication_pb2 as pb

RESTARTING = pb.PUBLICATION_STATE_RESTARTING
DEADLINE_S = 45.0
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def request(room: str, spec: pb.PublicationSpec = CAMERA, identity: str = "alice") -> pb.PublishTrackRequest:
    """PublishTrack by a client."""
    return pb.PublishTrackRequest(room=room, participant_identity=identity, spec=spec)


async def publish(client: Client, room: str, spec: pb.PublicationSpec = CAMERA) -> pb.Publication:
    """Publishes, and requires that it was seen in the room."""
    answer = await client.PublishTrack(request(room, spec), timeout=DEADLINE_S)
    assert (answer.stage, answer.evidence) == (OBSERVED, pb.EVIDENCE_ROOM), answer
    found: pb.Publication = answer.publication
    return found


async def until(client: Client, known: pb.Publication, condition: Callable[[pb.Publication], bool]) -> pb.Publication:
    """Asks for the publication, from now on, until ``condition`` holds of it."""
    now = await publication(client, known.room, known.publication_id)
    return await until_known(client, now, condition)


@contextlib.asynccontextmanager
async def while_asked(
    client: Client, room: str, spec: pb.PublicationSpec = CAMERA
) -> AsyncIterator[tuple[pb.Publication, "asyncio.Task[pb.PublishTrackResponse]"]]:
    """A call of PublishTrack that waits for the client's user, and its publication; given up at the end."""

    async def call() -> pb.PublishTrackResponse:
        answer: pb.PublishTrackResponse = await client.PublishTrack(request(room, spec), timeout=60)
        return answer

    calling = asyncio.create_task(call())
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                listed = await client.ListPublications(pb.ListPublicationsRequest(room=room))
                asked = [found for found in listed.publications if found.consent == pb.CONSENT_ASKED]
                if asked:
                    break
                await asyncio.sleep(0.05)
        yield asked[0], calling
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)


@contextlib.asynccontextmanager
async def rejoined(
    livekit: LiveKitProcess, room: str, key: bytes, **options: Any
) -> AsyncIterator[tuple[Joined, track_control.TrackControl]]:
    """Alice, in another connection with a new companion."""
    async with participant(livekit, room, "alice") as joined, attached(joined, key, **options) as companion:
        yield joined, companion


def struct_metadata(**values: str) -> struct_pb2.Struct:
    """A Struct."""
    made = struct_pb2.Struct()
    made.update(values)
    return made
