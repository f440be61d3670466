"""The demo's end of the viewer: starts it, and hears what it receives."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from livekit.api import VideoGrants

from track_server.demo.livekit_server import LiveKitServer
from track_server.demo.processes import ChildProcess, DemoError
from track_server.demo.reception import Reception
from track_server.demo.service import ROOM
from track_server.livekit.tokens import TokenMint

VIEWER: Final = "viewer"
"""Its identity."""
_JOIN_S: Final = 30.0


class ViewerProcess:
    """A viewer that is in the room."""

    def __init__(self, process: ChildProcess) -> None:
        self.process = process

    async def follow(self, heard: Callable[[Sequence[Reception]], None]) -> None:
        """Pass on what it receives, twice a second, until it ends."""
        while line := await self.process.stdout.readline():
            heard([Reception.decode(values) for values in json.loads(line)["tracks"]])


@asynccontextmanager
async def viewer(livekit: LiveKitServer, directory: Path) -> AsyncIterator[ViewerProcess]:
    """Have it in the room, which LiveKit makes for it, for the span of the block. Raises DemoError."""
    token = TokenMint(livekit.api_key, livekit.api_secret).user(
        VideoGrants(room_join=True, room=ROOM, can_publish=False, can_publish_data=False), identity=VIEWER
    )
    command = [sys.executable, "-m", "track_server.demo.viewer"]
    async with ChildProcess("The viewer", command, directory / "viewer.log", pipes=True) as process:
        setup: dict[str, Any] = {"url": livekit.url, "token": token}
        process.stdin.write(json.dumps(setup).encode() + b"\n")
        try:
            async with asyncio.timeout(_JOIN_S):
                line = await process.stdout.readline()
        except TimeoutError:
            raise DemoError(f"The viewer did not join within {_JOIN_S:.0f} s.\n{process.tail()}") from None
        if not line:
            raise await process.ended()
        yield ViewerProcess(process)
