"""Processes of the bench: each does one job, on the core that it is given, and is told what to do line by line."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

Command = Callable[..., Awaitable[Any]]

_START_S: Final = 30.0
_ANSWER_S: Final = 180.0
_END_S: Final = 10.0
_LINE_LIMIT: Final = 16 * 1024 * 1024
# What `track-server serve` sets for itself: the floors run on the same gRPC.
_ENVIRONMENT: Final = {
    "GRPC_EXPERIMENTS": "-event_engine_listener,-event_engine_client",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}


class HelperFailedError(Exception):
    """A process of the bench broke; its own words are on standard error."""


def cores() -> tuple[set[int], set[int]]:
    """A core for servers and one for clients; the same twice where there is but one."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


@contextlib.contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Processes that are started in the block run on these cores, with all their threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, in seconds, user and system."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def tree_cpu_s(pid: int) -> float:
    """The same of a process and all below it."""
    process = psutil.Process(pid)
    return sum(cpu_s(each.pid) for each in (process, *process.children(recursive=True)))


class Helper:
    """`python -m MODULE` as a child, `async with`; ``ask`` runs one of its commands. It ends when we do.

    ``path``: a folder that it imports from as well.
    """

    def __init__(self, module: str, *arguments: str, cpus: set[int] | None = None, path: Path | None = None) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._cpus = cpus
        self._path = {} if path is None else {"PYTHONPATH": str(path)}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        with pinned(self._cpus or os.sched_getaffinity(0)):
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_LIMIT,
                env={**_ENVIRONMENT, **os.environ, **self._path},
            )
        async with asyncio.timeout(_START_S):
            await self._answer("start")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def pause(self) -> None:
        """Stops it by SIGSTOP: its connections stay, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on, where it lives."""
        assert self._process is not None
        if self._process.returncode is None:
            os.kill(self.pid, signal.SIGCONT)

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Runs the command and returns what it answers. Raises HelperFailedError, TimeoutError."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(_ANSWER_S):
            return await self._answer(command)

    async def _answer(self, command: str) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise HelperFailedError(f"{' '.join(self._command[2:])} ended during {command!r}")
        return json.loads(line)


async def obey(commands: Mapping[str, Command]) -> None:
    """The child's side: runs commands, one at a time, until the parent closes the pipe or is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    answers.write(b"true\n")
    while line := await reader.readline():
        name, arguments = json.loads(line)
        answers.write(json.dumps(await commands[name](**arguments)).encode() + b"\n")
