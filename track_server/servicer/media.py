"""MediaService: where media workers' sessions report. Served on a listener of its own."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from track.media.v1 import media_service_pb2 as pb
from track.media.v1.media_service_pb2_grpc import MediaServiceServicer
from track_server.interceptors.context import current_call
from track_server.publishing.hosting import Sessions


class MediaSessions(MediaServiceServicer):
    """See MediaService in its contract."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def Attach(
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Any
    ) -> AsyncIterator[pb.AttachResponse]:
        async with aclosing(self._sessions.attach(current_call().caller, request_iterator)) as commands:
            async for command in commands:
                yield command
