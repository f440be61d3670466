"""A real permission service as a child process: `track-server permissions`, on a loopback port of its own."""

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

from track.permission.v1 import permission_service_pb2 as pb

if TYPE_CHECKING:
    # The stubs know two classes, the program one.
    from track.permission.v1.permission_service_pb2_grpc import PermissionServiceAsyncStub as PermissionClient
else:
    from track.permission.v1.permission_service_pb2_grpc import PermissionServiceStub as PermissionClient

__all__ = ["EXAMPLE", "PermissionClient", "PermissionProcess", "PermissionStartError"]

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "examples" / "permissions.toml"
"""Rules that decide as mode `token` does."""
_START_DEADLINE_S: Final = 30.0
_STOP_DEADLINE_S: Final = 20.0
_RELOAD_DEADLINE_S: Final = 10.0
_POLL_S: Final = 0.02


class PermissionStartError(Exception):
    """The service ended, or did not say in time that it serves; the text ends with its log."""


class PermissionProcess:
    """One permission service. `async with` starts it and ends it.

    ``rules``: the text of its rules file, that of the example by default. ``settings`` are environment variables on top
    of the usual ones. Started again, it has the same address.
    """

    def __init__(self, directory: Path, rules: str | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.log_path = directory / "permissions.log"
        self.rules_path = directory / "permissions.toml"
        self.token = "token-of-the-permission-service"
        self.address = ""
        self.metrics_address = ""
        self._rules = EXAMPLE.read_text() if rules is None else rules
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.write_rules(self._rules)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Process id of the service."""
        assert self._process is not None
        return self._process.pid

    @property
    def track_settings(self) -> dict[str, str]:
        """The environment of a TrackService in mode `service` that asks this one."""
        return {
            "TRACK_AUTH_MODE": "service",
            "TRACK_PERMISSION_ADDRESS": self.address,
            "TRACK_PERMISSION_TOKEN": self.token,
        }

    def log(self) -> list[dict[str, Any]]:
        """What it has logged, line by line."""
        lines = self.log_path.read_text().split("\n") if self.log_path.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of that event."""
        return [entry for entry in self.log() if entry.get("event") == event]

    async def start(self) -> None:
        """Starts it; returns when it serves."""
        environment = {
            **os.environ,
            "TRACK_PERMISSION_LISTEN": self.address or "127.0.0.1:0",
            "TRACK_PERMISSION_RULES": str(self.rules_path),
            "TRACK_PERMISSION_TOKEN": self.token,
            **self._settings,
        }
        served = len(self.logged("serving"))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes a few ms
                [sys.executable, "-m", "track_server", "permissions"], env=environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_DEADLINE_S
        while True:
            serving = self.logged("serving")[served:]
            if serving:
                self.address = serving[-1]["address"]
                self.metrics_address = serving[-1]["metrics_address"] or ""
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                raise PermissionStartError(f"it does not serve:\n{self.log_path.read_text()[-4000:]}")
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> int:
        """Ends it by SIGTERM, also where it is paused; returns its exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Ends it by SIGKILL."""
        await self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stops it by SIGSTOP: connections stay, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def write_rules(self, rules: str) -> None:
        """Writes the rules file, at one go."""
        written = self.rules_path.with_suffix(".new")
        written.write_text(rules)
        written.replace(self.rules_path)
        self._rules = rules

    async def rewrite(self, rules: str) -> pb.WatchPermissionsResponse | None:
        """Writes the rules file; returns what the watch stream says when it is taken, None where it is the same."""
        if rules == self._rules:
            return None
        async with self.client() as client:
            watching = client.WatchPermissions(pb.WatchPermissionsRequest(), timeout=_RELOAD_DEADLINE_S)
            messages = aiter(watching)
            await anext(messages)
            self.write_rules(rules)
            return await anext(messages)

    @asynccontextmanager
    async def client(self, token: str | None = None) -> AsyncIterator[PermissionClient]:
        """A stub whose calls carry the token, or ``token`` instead; "": none."""
        bearer = self.token if token is None else token
        interceptors: list[grpc.aio.ClientInterceptor] = [_Unary(bearer), _Stream(bearer)] if bearer else []
        async with grpc.aio.insecure_channel(self.address, interceptors=interceptors) as channel:
            yield PermissionClient(channel)

    async def _end(self, number: int) -> int:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + _STOP_DEADLINE_S
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise TimeoutError(f"it did not end on signal {number}:\n{self.log_path.read_text()[-4000:]}")
            await asyncio.sleep(_POLL_S)
        return process.returncode


class _Bearer:
    """Puts the token into the metadata of every call."""

    def __init__(self, token: str) -> None:
        self._token = token

    def add(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        """The details with it."""
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {self._token}")
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _Unary(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.add(details), request)


class _Stream(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.add(details), request)
