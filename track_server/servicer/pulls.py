"""Pulling tracks."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from track.v1 import pull_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceServicer
from track_server.interceptors.context import current_call
from track_server.pulling.pulls import Pulls


class TrackPulls(TrackServiceServicer):
    """See TrackService in the contract."""

    pulls: Pulls

    async def PullMedia(  # type: ignore[override]  # messages are serialised already
        self, request: pb.PullMediaRequest, context: Any
    ) -> AsyncIterator[bytes]:
        async with aclosing(self.pulls.pull(current_call().caller, request)) as messages:
            async for message in messages:
                yield message
