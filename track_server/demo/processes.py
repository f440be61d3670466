"""The demo's child processes: each logs into a file, is asked to end first and killed after, and dies with the demo."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from track_server.lifetime import Closing

# The kernel signals the child when this process dies, however it dies; the pid check closes the race before prctl.
_DIE_WITH_PARENT: Final = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(sys.argv[2]))
    if os.getppid() != int(sys.argv[1]):
        sys.exit("parent is gone")
os.execv(sys.argv[3], sys.argv[3:])
"""
_STOP_S: Final = 10.0
_TAIL_LINES: Final = 15
# One message of the viewer: a few hundred bytes a track.
_LINE_LIMIT: Final = 1024 * 1024


class DemoError(Exception):
    """The demo cannot go on; the text says why, and what to do where something can be done."""


class ChildProcess(Closing):
    """A program that runs while the context lasts. ``death_signal`` is what it gets when the demo itself is killed.

    With ``pipes``, `stdin` and `stdout` are the demo's; else standard output goes into the log with standard error.
    Sessions of their own keep Ctrl-C in a terminal from ending all children at once, in no order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        pipes: bool = False,
        impatient: bool = False,
    ) -> None:
        """``impatient``: livekit-server waits for participants to leave after one SIGTERM, and ends on the second."""
        self.name = name
        self._command = [str(part) for part in command]
        self._log = log
        self._environment = environment
        self._death_signal = death_signal
        self._pipes = pipes
        self._impatient = impatient
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        launcher = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), str(int(self._death_signal))]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *launcher,
                *self._command,
                stdin=asyncio.subprocess.PIPE if self._pipes else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._pipes else log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                limit=_LINE_LIMIT,
            )
        return self

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def stdin(self) -> asyncio.StreamWriter:
        """Its standard input; with ``pipes`` only."""
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        """Its standard output; with ``pipes`` only."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    async def ended(self) -> DemoError:
        """Wait until it ends by itself; the error that tells of it."""
        assert self._process is not None
        status = await self._process.wait()
        return DemoError(f"{self.name} ended with status {status}. Its last words:\n{self.tail()}")

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log().splitlines()[-_TAIL_LINES:])

    async def aclose(self) -> None:
        """End it: asked first, killed after 10 s, or at once where this is cancelled. May be called twice."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            _signal(process, signal.SIGTERM)
            async with asyncio.timeout(_STOP_S):
                if self._impatient:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), 0.1)
                    _signal(process, signal.SIGTERM)
                await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                _signal(process, signal.SIGKILL)
                await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
