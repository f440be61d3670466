"""The demo's TrackService: `track-server serve` as a child process, and the token that its callers use."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from livekit.api import VideoGrants

from track_server.demo.livekit_server import LiveKitServer
from track_server.demo.processes import ChildProcess, DemoError
from track_server.livekit.tokens import TokenMint

ROOM: Final = "demo"
_START_S: Final = 30.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Service:
    """A TrackService that runs."""

    process: ChildProcess
    address: str
    """host:port of its gRPC."""
    token: str = field(repr=False)
    """An admin's token for the demo's room."""
    token_file: Path
    """A file with that token, for people to call with."""


@asynccontextmanager
async def track_service(
    livekit: LiveKitServer, directory: Path, media_dir: Path, *, port: int, media_workers: int
) -> AsyncIterator[Service]:
    """Run it for the span of the block; it answers when the block begins. Raises DemoError."""
    # What was set for another server must not reach this one.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TRACK_", "LIVEKIT_"))}
    settings = {
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret,
        "TRACK_LISTEN": f"127.0.0.1:{port}",
        "TRACK_AUTH_MODE": "token",
        "TRACK_STORE": str(directory / "track-server.sqlite3"),
        "TRACK_MEDIA_DIR": str(media_dir),
        "TRACK_MEDIA_WORKERS": str(media_workers),
        "TRACK_LIVEKIT_DEBUG_URL": livekit.debug_url,
        "TRACK_DRAIN_SECONDS": "2",
        "TRACK_LOG_FORMAT": "json",
    }
    process = ChildProcess(
        "TrackService",
        [sys.executable, "-m", "track_server", "serve"],
        directory / "track-server.log",
        environment=inherited | settings,
        # It takes its media workers along.
        death_signal=signal.SIGTERM,
    )
    token = TokenMint(livekit.api_key, livekit.api_secret).user(
        VideoGrants(room_admin=True, room_join=True, room_list=True, room=ROOM), identity="operator"
    )
    token_file = directory / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    async with process:
        yield Service(process, await _address(process), token, token_file)


async def _address(process: ChildProcess) -> str:
    try:
        async with asyncio.timeout(_START_S):
            while process.running:
                for entry in _entries(process.log()):
                    if entry.get("event") == "serving":
                        return str(entry["address"])
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise DemoError(
            f"TrackService did not serve within {_START_S:.0f} s. Its last words:\n{process.tail()}"
        ) from None
    raise await process.ended()


def _entries(log: str) -> list[dict[str, Any]]:
    """The complete JSON lines of a log."""
    entries: list[dict[str, Any]] = []
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
