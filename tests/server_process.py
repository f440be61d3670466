"""A command of `track-server` that serves, as a child process: its start, its log, its end, and callers of it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import grpc

from tests.loaded_program import ForkedServer, LoadedProgram

# Of a second and less; the machine may be that busy.
_START_DEADLINE_S: Final = 60.0
_STOP_DEADLINE_S: Final = 40.0
_POLL_S: Final = 0.02


class StartError(Exception):
    """The server ended, or did not say in time that it serves; the text ends with its log."""


class ServerProcess(ABC):
    """`track-server COMMAND` on a loopback port of its own. `async with` starts it and ends it.

    ``log_path``: what it logs; the folder of that is its own, and is made.
    """

    loaded: ClassVar[LoadedProgram | None] = None
    """What servers are forks of, to save the CPU of loading each. None: each is started as a user starts it."""

    def __init__(self, command: str, log_path: Path) -> None:
        self.directory = log_path.parent
        self.log_path = log_path
        self.address = ""
        """Where it listens, as it said when it began to serve."""
        self._command = command
        self._process: subprocess.Popen[bytes] | ForkedServer | None = None

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Its settings, on top of the environment of the tests."""

    def began(self, serving: dict[str, Any]) -> None:
        """It serves. ``serving``: the line of its log that says so."""
        self.address = serving["address"]

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

    def log(self) -> list[dict[str, Any]]:
        """What it has logged, line by line; the last one may still be on its way, and is left out then."""
        lines = self.log_path.read_text().split("\n")[:-1] if self.log_path.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of that event."""
        return [line for line in self.log() if line.get("event") == event]

    async def start(self) -> None:
        """Starts it; returns when it serves. Raises StartError."""
        served = len(self.logged("serving"))
        self._process = self._begin({**os.environ, **self.environment()})
        deadline = time.monotonic() + _START_DEADLINE_S
        while True:
            serving = self.logged("serving")[served:]
            if serving:
                self.began(serving[-1])
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                raise StartError(f"`track-server {self._command}` does not serve:\n{self._tail()}")
            await asyncio.sleep(_POLL_S)

    def _begin(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | ForkedServer:
        if self.loaded is not None:
            return self.loaded.fork(self._command, environment, self.log_path)
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "track_server", self._command], env=environment, stdout=log, stderr=log
            )

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

    async def _end(self, number: int) -> int:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + _STOP_DEADLINE_S
        while (status := process.poll()) is None:
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise TimeoutError(f"`track-server {self._command}` did not end on signal {number}:\n{self._tail()}")
            await asyncio.sleep(_POLL_S)
        return status

    def _tail(self) -> str:
        return self.log_path.read_text()[-4000:]


def bearing_token(token: str | None) -> list[grpc.aio.ClientInterceptor]:
    """Interceptors of a channel whose calls all carry that text as Bearer token; None: no credentials at all."""
    return [] if token is None else [_Unary(token), _Stream(token), _Requests(token), _Streams(token)]


class _Bearer:
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


class _Requests(_Bearer, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self.add(details), requests)


class _Streams(_Bearer, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self.add(details), requests)
