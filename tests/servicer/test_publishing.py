"""Publications through TrackService, on a real LiveKit server."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.track_process import TrackProcess
from track.v1 import event_pb2, publication_pb2, track_pb2, tracks_pb2

LIVE = publication_pb2.PUBLICATION_STATE_LIVE
ENDED = publication_pb2.PUBLICATION_STATE_ENDED


async def test_a_tone_is_published_observed_and_unpublished(track: TrackProcess, room_name: str) -> None:
    async with track.client("admin", room_admin=True, room=room_name) as client:
        spec = publication_pb2.PublicationSpec(tone=publication_pb2.ToneInput())
        answer = await client.PublishTrack(
            publication_pb2.PublishTrackRequest(room=room_name, create_room=True, spec=spec), timeout=20
        )
        assert answer.stage == publication_pb2.STAGE_OBSERVED, answer
        assert answer.publication.state == LIVE
        print(answer)
        listed = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room_name))
        print(listed)
        ended = await client.UnpublishTrack(publication_pb2.UnpublishTrackRequest(room=room_name, publication_id=answer.publication.publication_id), timeout=20)
        print(ended)
        assert ended.stage == publication_pb2.STAGE_OBSERVED
