"""A real TrackService as a child process: `track-server serve`, on loopback ports of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import psutil
from livekit import api

from tests.livekit_process import LiveKitProcess

if TYPE_CHECKING:
    # The stubs know two classes, the program one.
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub as Client
else:
    from track.v1.track_service_pb2_grpc import TrackServiceStub as Client

__all__ = ["Client", "TrackProcess", "TrackStartError"]

_START_DEADLINE_S: Final = 30.0
_STOP_DEADLINE_S: Final = 20.0
_POLL_S: Final = 0.02


class TrackStartError(Exception):
    """The server ended, or did not say in time that it serves; the text ends with its log."""


class TrackProcess:
    """One TrackService with its media worker, in front of ``livekit``. `async with` starts it and ends it.

    ``settings`` are environment variables on top of the usual ones.
    """

    def __init__(self, livekit: LiveKitProcess, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.livekit = livekit
        self.directory = directory
        self.log_path = directory / "track.log"
        self.address = ""
        self.media_address = ""
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    @property
    def worker(self) -> psutil.Process:
        """The media worker that the server has started."""
        (worker,) = [child for child in psutil.Process(self.pid).children() if "worker" in child.cmdline()]
        return worker

    def log(self) -> list[dict[str, Any]]:
        """What it has logged, line by line."""
        lines = self.log_path.read_text().split("\n") if self.log_path.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def start(self) -> None:
        """Starts it; returns when it serves."""
        environment = {
            **os.environ,
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
        served = len([entry for entry in self.log() if entry.get("event") == "serving"])
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes a few ms
                [sys.executable, "-m", "track_server", "serve"], env=environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_DEADLINE_S
        while True:
            serving = [entry for entry in self.log() if entry.get("event") == "serving"][served:]
            if serving:
                self.address = serving[-1]["address"]
                self.media_address = serving[-1]["media_address"]
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                raise TrackStartError(f"TrackService does not serve:\n{self.log_path.read_text()[-4000:]}")
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> int:
        """Ends it by SIGTERM; returns its exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Ends it by SIGKILL."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: int) -> int:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
        deadline = time.monotonic() + _STOP_DEADLINE_S
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise TimeoutError(f"TrackService did not end on signal {number}:\n{self.log_path.read_text()[-4000:]}")
            await asyncio.sleep(_POLL_S)
        return process.returncode

    def token(self, identity: str = "", **grants: Any) -> str:
        """A LiveKit access token with the grants given."""
        made = api.AccessToken(self.livekit.api_key, self.livekit.api_secret).with_identity(identity or "somebody")
        return made.with_grants(api.VideoGrants(**grants)).to_jwt()

    @asynccontextmanager
    async def client(self, identity: str = "", **grants: Any) -> AsyncIterator[Client]:
        """A stub whose calls carry a token with those grants; without any, that of no one."""
        interceptors = [_Bearer(self.token(identity, **grants))] if grants else []
        async with grpc.aio.insecure_channel(
            self.address, interceptors=[kind for made in interceptors for kind in made.kinds()]
        ) as channel:
            yield Client(channel)


class _Bearer:
    """Puts the token into the metadata of every call."""

    def __init__(self, token: str) -> None:
        self._metadata = ("authorization", f"Bearer {token}")

    def kinds(self) -> list[Any]:
        """An interceptor for each kind of call that TrackService has."""
        add = self._add

        class Unary(grpc.aio.UnaryUnaryClientInterceptor):
            async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
                return await continuation(add(details), request)

        class Stream(grpc.aio.UnaryStreamClientInterceptor):
            async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
                return await continuation(add(details), request)

        return [Unary(), Stream()]

    def _add(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add(*self._metadata)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )
