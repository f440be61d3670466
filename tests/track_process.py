"""A real TrackService as a child process: `track-server serve`, on loopback ports of its own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import psutil
from livekit import api

from tests.livekit_process import LiveKitProcess
from tests.server_process import ServerProcess, bearing_token

if TYPE_CHECKING:
    # The stubs know two classes, the program one.
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub as Client
else:
    from track.v1.track_service_pb2_grpc import TrackServiceStub as Client

__all__ = ["Client", "TrackProcess"]


class TrackProcess(ServerProcess):
    """One TrackService with its media worker, in front of ``livekit``. `async with` starts it and ends it.

    ``settings`` are environment variables on top of the usual ones.
    """

    def __init__(self, livekit: LiveKitProcess, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__("serve", directory / "track.log")
        self.livekit = livekit
        self.media_address = ""
        self.metrics_address = ""
        """Empty where its settings name none."""
        self._settings = settings or {}

    def environment(self) -> dict[str, str]:
        """Those of a server whose commands and rooms end soon."""
        return {
            "LIVEKIT_URL": self.livekit.url,
            "LIVEKIT_API_KEY": self.livekit.api_key,
            "LIVEKIT_API_SECRET": self.livekit.api_secret,
            "TRACK_LISTEN": "127.0.0.1:0",
            "TRACK_STORE": str(self.directory / "track.sqlite3"),
            "TRACK_LIVEKIT_DEBUG_URL": self.livekit.debug_url,
            "TRACK_ROOM_LINGER_SECONDS": "1",
            "TRACK_DRAIN_SECONDS": "1",
            **self._settings,
        }

    def began(self, serving: dict[str, Any]) -> None:
        """It serves."""
        super().began(serving)
        self.media_address = serving["media_address"]
        self.metrics_address = serving["metrics_address"] or ""

    @property
    def worker(self) -> psutil.Process:
        """The media worker that the server has started."""
        (worker,) = [child for child in psutil.Process(self.pid).children() if "worker" in child.cmdline()]
        return worker

    def token(self, identity: str = "", **grants: Any) -> str:
        """A LiveKit access token with the grants given."""
        made = api.AccessToken(self.livekit.api_key, self.livekit.api_secret).with_identity(identity or "somebody")
        return made.with_grants(api.VideoGrants(**grants)).to_jwt()

    @asynccontextmanager
    async def client(self, identity: str = "", **grants: Any) -> AsyncIterator[Client]:
        """A stub whose calls carry a token with those grants; without any, that of no one."""
        token = self.token(identity, **grants) if grants else None
        async with grpc.aio.insecure_channel(self.address, interceptors=bearing_token(token)) as channel:
            yield Client(channel)
