"""The stand-in for LiveKit Egress (tests/egress_worker) as a child process, beside LiveKit and its Redis."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from tests.livekit_process import dying_with_parent, tool

_DEADLINE_S: Final = 45.0

Start = Literal["accept", "decline", "unavailable", "fail"]


class EgressProcess:
    """One worker on the bus of LiveKit. `async with` starts it and kills it.

    ``directory``: where it writes files that go to Egress' own disk. What it was asked is in ``heard``, in order:
    `asked` with LiveKit's request, `stopped`, `pinged`.
    """

    def __init__(self, redis_address: str, directory: Path | None = None) -> None:
        self.heard: list[dict[str, Any]] = []
        self._arguments = ["-redis", redis_address, *(("-dir", str(directory)) if directory is not None else ())]
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *dying_with_parent(str(tool("egress-worker")), *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda told: told["event"] == "ready")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.die()

    async def die(self) -> None:
        """Kills it, so that it says goodbye to nobody. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        assert self._reading is not None
        await self._reading

    async def mode(self, start: Start = "accept", *, auto: bool = True, delay_ms: int = 0, late_ms: int = 0) -> None:
        """What it does from now on; see `command` in its source. Returns once it does."""
        heard = len(self.heard)
        await self._tell({"do": "mode", "start": start, "auto": auto, "delay_ms": delay_ms, "late_ms": late_ms})
        await self.until(lambda told: told["event"] == "mode", since=heard)

    async def update(self, egress_id: str, **info: Any) -> None:
        """Tells LiveKit that a recording has changed: fields of EgressInfo as protojson; returns once it has."""
        heard = len(self.heard)
        await self._tell({"do": "update", "egress_id": egress_id, "info": info})
        told = await self.until(lambda told: told["event"] == "updated" and told["egress_id"] == egress_id, since=heard)
        assert not told.get("error"), told

    def asked(self) -> list[Mapping[str, Any]]:
        """The requests that it was asked to record, as LiveKit handed them on."""
        return [told["request"] for told in self.heard if told["event"] == "asked"]

    def stopped(self) -> list[str]:
        """LiveKit's ids of the recordings that it was told to stop."""
        return [told["egress_id"] for told in self.heard if told["event"] == "stopped"]

    async def until(self, holds: Callable[[dict[str, Any]], bool], *, since: int = 0) -> dict[str, Any]:
        """The first line of it that ``holds``; waits for it."""
        async with asyncio.timeout(_DEADLINE_S):
            while True:
                for told in self.heard[since:]:
                    if holds(told):
                        return told
                await self._grown.wait()

    async def _tell(self, command: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.heard.append(json.loads(line))
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()
