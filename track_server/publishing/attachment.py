"""The stream to a media worker's session, seen from the publishing side."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from track.media.v1 import media_service_pb2 as media

STOP_TIMEOUT_S: Final = 3.0


class Attachment:
    """Commands on their way to one attached session. ``gone`` is set once the stream is over."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.leaving = False
        """What it still tells of its tracks is of tracks that are to go."""
        self._commands: asyncio.Queue[media.AttachResponse | None] = asyncio.Queue()

    def send(self, command: media.AttachResponse) -> None:
        """Queues a command."""
        self._commands.put_nowait(command)

    async def stop(self) -> None:
        """Tells the session to leave, and waits a while until it is gone."""
        self.leaving = True
        self.send(media.AttachResponse(stop=media.SessionStop()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.gone.wait()

    def close(self) -> None:
        """Ends the stream after what was queued."""
        self._commands.put_nowait(None)

    async def commands(self) -> AsyncIterator[media.AttachResponse]:
        """What is to be sent, until ``close``."""
        while (command := await self._commands.get()) is not None:
            yield command
