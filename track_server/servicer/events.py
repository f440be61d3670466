"""Events: watch a room."""

from collections.abc import AsyncIterator
from typing import Any

from track.v1 import event_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.publishing.publishing import Publishing
from track_server.rooms.log import Cursor
from track_server.rooms.rooms import Rooms
from track_server.rooms.stream import follow


class Events(TrackServiceServicer):
    """See TrackService in the contract."""

    rooms: Rooms
    publishing: Publishing

    async def WatchEvents(  # type: ignore[override]  # messages are serialised already
        self, request: pb.WatchEventsRequest, context: Any
    ) -> AsyncIterator[bytes]:
        resume = Cursor.parse(request.cursor) if request.cursor else None
        async with self.rooms.watch(request.room) as live:
            async for message in follow(live, resume, lambda: self.publishing.active(request.room)):
                yield message
