"""Tracks: get and list."""

from typing import Any

from track.v1 import tracks_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.rooms.reading import Reader


class Tracks(TrackServiceServicer):
    """See TrackService in the contract."""

    reader: Reader

    async def GetTrack(self, request: pb.GetTrackRequest, context: Any) -> pb.GetTrackResponse:
        return await self.reader.get_track(request)

    async def ListTracks(  # type: ignore[override]  # serialised already
        self, request: pb.ListTracksRequest, context: Any
    ) -> bytes:
        return await self.reader.list_tracks(request)
