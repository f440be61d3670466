"""A headless Chromium with fake devices, and pages of an app with the companion in it."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import threading
from collections.abc import AsyncIterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

PACKAGE: Final = Path(__file__).resolve().parents[3] / "clients" / "browser"
_START_S: Final = 45.0
_ANSWER_S: Final = 60.0
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream=fps=30", "--autoplay-policy=no-user-gesture-required",
    "--auto-select-desktop-capture-source=companion", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows", "--disable-background-timer-throttling", "--remote-debugging-port=0",
)  # fmt: skip


class BrowserMissingError(Exception):
    """Chromium, or the page that is built for it, is not there; the text says what to do."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Page:
    """One page; `call` runs a function of its harness (clients/browser/test/page.ts)."""

    def __init__(self, browser: "Chromium", target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    async def call(self, name: str, *arguments: Any) -> Any:
        """What `harness.name(...arguments)` gives. Raises RuntimeError with what it throws."""
        given = ", ".join(json.dumps(argument) for argument in arguments)
        return await self.evaluate(f"harness.{name}({given})")

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, as if a user had just clicked."""
        wanted = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = await self._browser.send("Runtime.evaluate", wanted, self._session)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise RuntimeError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    async def reload(self) -> None:
        """Loads it anew: all that it was is gone."""
        await self.evaluate("void (globalThis.harness = undefined)")
        await self._browser.send("Page.reload", {}, self._session)
        await self.ready()

    async def ready(self) -> None:
        """Wait until its script has run."""
        async with asyncio.timeout(_START_S):
            while True:
                with contextlib.suppress(RuntimeError):
                    if await self.evaluate("typeof harness === 'object'"):
                        return
                await asyncio.sleep(0.05)

    async def screenshot(self) -> bytes:
        """How it looks: a PNG."""
        answer = await self._browser.send("Page.captureScreenshot", {"format": "png"}, self._session)
        return base64.b64decode(answer["data"])

    async def close(self) -> None:
        """Closes it."""
        await self._browser.send("Target.closeTarget", {"targetId": self._target})


class Chromium:
    """One browser, spoken to over its DevTools protocol. `async with` starts it and ends it. ``flags``: some more."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self._directory = directory
        self._flags = flags
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if program is None:
            raise BrowserMissingError("Chromium is missing: install it (on Debian: apt-get install chromium)")
        if not (PACKAGE / "build" / "page.js").exists():
            raise BrowserMissingError("clients/browser/build is missing: run `make companion` (it needs node and npm)")
        self._pages = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(PACKAGE / "build")))
        self._serving = threading.Thread(target=self._pages.serve_forever, daemon=True)
        self._serving.start()
        self._log = (self._directory / "chromium.log").open("wb")
        self._process = await asyncio.create_subprocess_exec(
            program, *_FLAGS, *self._flags, f"--user-data-dir={self._directory / 'profile'}", "about:blank",
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        try:
            self._http = aiohttp.ClientSession()
            self._socket = await self._http.ws_connect(await self._address(), max_msg_size=0)
            self._reading = asyncio.create_task(self._read(), name="chromium")
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._socket.close()
        await self._end()

    async def _end(self) -> None:
        await self._http.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._log.close()
        await asyncio.to_thread(self._pages.shutdown)
        self._pages.server_close()

    async def _address(self) -> str:
        file = self._directory / "profile" / "DevToolsActivePort"
        async with asyncio.timeout(_START_S):
            while True:
                if self._process.returncode is not None:
                    raise BrowserMissingError(
                        "Chromium ended:\n" + (self._directory / "chromium.log").read_text()[-2000:]
                    )
                with contextlib.suppress(FileNotFoundError, ValueError):
                    port, path = file.read_text().split("\n")[:2]
                    return f"ws://127.0.0.1:{int(port)}{path}"
                await asyncio.sleep(0.05)

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if (waiting := self._waiting.pop(said.get("id", 0), None)) is not None and not waiting.done():
                waiting.set_result(said)
        for waiting in self._waiting.values():
            waiting.cancel()

    async def send(self, method: str, given: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """One command of the protocol. Raises RuntimeError."""
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        asked = {"id": number, "method": method, "params": given} | ({"sessionId": session} if session else {})
        await self._socket.send_json(asked)
        async with asyncio.timeout(_ANSWER_S):
            answer = await waiting
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        found: dict[str, Any] = answer["result"]
        return found

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """A new page, closed at the end."""
        host, port = self._pages.server_address[:2]
        url = f"http://{host!s}:{port}/page.html"
        target = (await self.send("Target.createTarget", {"url": url}))["targetId"]
        attached = await self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, target, attached["sessionId"])
        try:
            await page.ready()
            yield page
        finally:
            await page.close()
