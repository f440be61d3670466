"""The owner of the process that holds metadata against schemas (see checker)."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

import track_server
from track_server.lifetime import Closing, Tasks

log = structlog.get_logger(__name__)

# The answer is a line: a path in the metadata may be as long as that.
_LINE_BYTES: Final = 1024 * 1024
# On top of the processor's time, which ends it first: the machine may be busy.
_WAIT_S: Final = 20.0
_PROGRAM: Final = "track_server.metadata.checker"


class Checking(Closing):
    """Asks the process, which is started for the first question and again after it was ended, `async with`."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Ends the process. May be called twice."""
        await self._tasks.aclose()
        await self._end()

    async def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, see `checker.answer`; None where it takes too much time or memory. Raises Draining."""
        # Whoever is cancelled leaves an answer that the next one must not take for its own: so it is waited for.
        return await asyncio.shield(self._tasks.begin(self._in_turn(orjson.dumps(question)), name="schema question"))

    async def _in_turn(self, question: bytes) -> dict[str, Any] | None:
        async with self._turn:
            process = await self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            raw = b""
            with contextlib.suppress(OSError, ValueError, TimeoutError):
                async with asyncio.timeout(_WAIT_S):
                    process.stdin.write(question + b"\n")
                    await process.stdin.drain()
                    raw = await process.stdout.readline()
            if not raw.endswith(b"\n"):
                await self._end()
                return None
            answer: dict[str, Any] = orjson.loads(raw)
            return answer

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._end()
        root = str(Path(track_server.__file__).parent.parent)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            # Nothing of the folder in which the server was started.
            "-P",
            "-m",
            _PROGRAM,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES,
            # It needs no secret of ours, and Ctrl-C is not for it.
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": root},
            start_new_session=True,
        )
        log.info("schema_checker_started", pid=self._process.pid)
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
