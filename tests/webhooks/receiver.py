"""A receiver of webhooks: a real HTTP server in the process of the tests, which verifies as LiveKit's receivers do."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from livekit import api

from tests.livekit_process import LiveKitProcess

# Longer than a busy machine takes for a few tries, whose pauses double.
DEADLINE_S = 45.0

Answer = Callable[[dict[str, Any]], Awaitable[web.Response]]


async def take(body: dict[str, Any]) -> web.Response:
    """Takes everything."""
    return web.Response(status=204)


def refuse(status: int, **headers: str) -> Answer:
    """Answers everything with that status."""

    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(status=status, headers=headers)

    return answer


async def hang(body: dict[str, Any]) -> web.Response:
    """Answers nothing."""
    await asyncio.Event().wait()
    raise AssertionError


class Receiver:
    """`async with`; ``answer`` may be exchanged at any time. What is signed by somebody else fails the test at its end.

    A receiver that is closed may be opened again at the same port.
    """

    def __init__(self, livekit: LiveKitProcess, answer: Answer = take) -> None:
        self.answer = answer
        self.tried: list[dict[str, Any]] = []
        """All bodies that came, in order."""
        self.taken: list[dict[str, Any]] = []
        """Those that were answered with 2xx."""
        self.most_at_once = 0
        self._verifier = api.WebhookReceiver(api.TokenVerifier(livekit.api_key, livekit.api_secret))
        self._faults: list[str] = []
        self._now = 0
        self._port = 0
        self._runner: web.ServerRunner | None = None
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it is found."""
        return f"http://127.0.0.1:{self._port}/hooks?key=hush"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        assert not self._faults, self._faults

    async def open(self) -> None:
        """Listens."""
        self._runner = web.ServerRunner(
            # Who hangs is let go when the sender has given up.
            web.Server(self._handle, handler_cancellation=True),
            shutdown_timeout=0.1,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Is away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits until the condition holds; looks whenever something came."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            told = [(body["event"], body["cursor"]) for body in self.tried]
            raise AssertionError(f"never: {what}; it was sent {told}") from None

    async def event(self, kind: str) -> dict[str, Any]:
        """The first of that kind that was taken."""
        await self.until(lambda: kind in self.kinds(), kind)
        return next(body for body in self.taken if body["event"] == kind)

    def kinds(self, room: str | None = None) -> list[str]:
        """What was taken, of that room or of all."""
        return [body["event"] for body in self.taken if room in (None, body["roomName"])]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        text = await request.text()
        try:
            received = self._verifier.receive(text, request.headers["Authorization"])
            assert request.headers["Content-Type"] == "application/webhook+json"
            body: dict[str, Any] = json.loads(text)
            assert (received.id, received.event) == (body["id"], body["event"])
        except Exception as error:
            self._faults.append(repr(error))
            raise
        self.tried.append(body)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        self._changed.set()
        try:
            answer = await self.answer(body)
        finally:
            self._now -= 1
        if 200 <= answer.status < 300:
            self.taken.append(body)
            self._changed.set()
        return answer
