"""Publications: requests that many tests make, shortly said."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2, tracks_pb2

LIVE = pb.PUBLICATION_STATE_LIVE
ENDED = pb.PUBLICATION_STATE_ENDED
OBSERVED = pb.STAGE_OBSERVED
DEADLINE_S = 45.0

TONE = pb.PublicationSpec(tone=pb.ToneInput())
DATA = pb.PublicationSpec(data=pb.DataInput(frames_per_second=20))


def pattern(width: int = 320, height: int = 180, fps: float = 15, **options: Any) -> pb.PublicationSpec:
    """A test pattern; ``options`` are further ones of VideoOptions."""
    video = pb.VideoOptions(width=width, height=height, frames_per_second=fps, **options)
    return pb.PublicationSpec(test_pattern=pb.TestPatternInput(), video=video)


async def publish(client: Client, room: str, spec: pb.PublicationSpec, identity: str = "") -> pb.Publication:
    """Publishes, and requires that it was seen in the room."""
    request = pb.PublishTrackRequest(room=room, spec=spec, participant_identity=identity)
    answer = await client.PublishTrack(request, timeout=DEADLINE_S)
    assert answer.stage == OBSERVED, answer
    assert answer.publication.state == LIVE
    publication: pb.Publication = answer.publication
    return publication


async def unpublish(client: Client, publication: pb.Publication) -> pb.UnpublishTrackResponse:
    """Ends it."""
    request = pb.UnpublishTrackRequest(room=publication.room, publication_id=publication.publication_id)
    answer: pb.UnpublishTrackResponse = await client.UnpublishTrack(request, timeout=DEADLINE_S)
    return answer


async def publication(client: Client, room: str, publication_id: str) -> pb.Publication:
    """It, as it is now."""
    answer = await client.GetPublication(pb.GetPublicationRequest(room=room, publication_id=publication_id))
    found: pb.Publication = answer.publication
    return found


async def until(client: Client, known: pb.Publication, condition: Callable[[pb.Publication], bool]) -> pb.Publication:
    """Asks for the publication until ``condition`` holds of it."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition(known):
            await asyncio.sleep(0.05)
            known = await publication(client, known.room, known.publication_id)
    return known


async def track_of(client: Client, publication: pb.Publication) -> track_pb2.Track:
    """The track in the room."""
    request = tracks_pb2.GetTrackRequest(room=publication.room, track_sid=publication.track_sid)
    answer = await client.GetTrack(request)
    track: track_pb2.Track = answer.track
    return track


async def until_listed(client: Client, room: str, *sids: str, there: bool = True) -> None:
    """Waits until the room shows all these tracks, or none of them any more."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            shown = {found.sid for found in answer.tracks}
            if all((sid in shown) == there for sid in sids):
                return
            await asyncio.sleep(0.05)
