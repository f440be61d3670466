"""The stream to a media worker's session, seen from the publishing side."""

import asyncio
from collections.abc import AsyncIterator

from track.media.v1 import media_service_pb2 as media


class Attachment:
    """Commands on their way to one attached session. ``gone`` is set once the stream is over."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._commands: asyncio.Queue[media.AttachResponse | None] = asyncio.Queue()

    def send(self, command: media.AttachResponse) -> None:
        """Queues a command."""
        self._commands.put_nowait(command)

    def close(self) -> None:
        """Ends the stream after what was queued."""
        self._commands.put_nowait(None)

    async def commands(self) -> AsyncIterator[media.AttachResponse]:
        """What is to be sent, until ``close``."""
        while (command := await self._commands.get()) is not None:
            yield command
