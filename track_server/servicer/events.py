"""Events: watch a room."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from track.v1 import event_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.rooms.watching import Watching


class Events(TrackServiceServicer):
    """See TrackService in the contract."""

    watching: Watching

    async def WatchEvents(  # type: ignore[override]  # messages are serialised already
        self, request: pb.WatchEventsRequest, context: Any
    ) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(self.watching.watch(request)) as messages:
            async for message in messages:
                yield message
