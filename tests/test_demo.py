"""The demo as people run it: a program of its own, with a terminal and without one."""

import asyncio
import contextlib
import fcntl
import itertools
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, Self

import psutil
import pytest
import pytest_asyncio

from tests.livekit_process import tool

_FLOW_S: Final = 90.0
"""For five processes to start and media to flow, on a machine that is busy."""
_GONE_S: Final = 30.0
_COLUMNS, _LINES = 100, 30
_HOME: Final = b"\x1b[H"


class DemoProcess:
    """One demo. Its temporary folder is its own, which all of its processes have in their environment."""

    def __init__(self, folder: Path, *arguments: str, path: str = "") -> None:
        folder.mkdir()
        self.folder = folder
        self.arguments = arguments
        self.output = b""
        self._environment = {**os.environ, "TMPDIR": str(folder), "TERM": "xterm-256color"}
        # pytest and its plug-ins may have set a size of their own.
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            self._environment.pop(name, None)
        if path:
            self._environment["PATH"] = path

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # A test that failed leaves nothing running either.
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        await self._process.wait()

    async def start(self, terminal: int | None = None) -> None:
        """Start it, with its output captured, or on ``terminal``."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "track_server", "demo", *self.arguments),
            stdin=asyncio.subprocess.DEVNULL if terminal is None else terminal,
            stdout=asyncio.subprocess.PIPE if terminal is None else terminal,
            stderr=asyncio.subprocess.STDOUT if terminal is None else terminal,
            env=self._environment,
            start_new_session=True,
        )

    async def finish(self) -> tuple[int, str]:
        """Wait for its end; status and output."""
        output, _ = await self._process.communicate()
        self.output += output or b""
        status = self._process.returncode
        assert status is not None
        return status, self.output.decode()

    async def until_it_says(self, text: str) -> None:
        """Read its output up to a line with the text."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_FLOW_S):
            while text not in self.output.decode():
                line = await self._process.stdout.readline()
                assert line, self.output.decode()
                self.output += line

    def send(self, number: signal.Signals) -> None:
        """Signal the demo itself, not its children."""
        self._process.send_signal(number)

    def processes(self) -> list[psutil.Process]:
        """All of its processes that live, also those that lost their parent."""
        mine = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    mine.append(process)
            except psutil.Error:
                continue
        return mine

    async def leaves_no_process(self) -> None:
        """Fail if one of them lives on."""
        await _until(lambda: not self.processes(), f"processes live on: {self.processes()}")


async def _until(holds: Callable[[], object], otherwise: str, within_s: float = _GONE_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[DemoProcess]]]:
    """Starts demos without a terminal."""

    numbers = itertools.count()

    async def start(*arguments: str) -> DemoProcess:
        made = DemoProcess(tmp_path / f"tmp-{next(numbers)}", *_livekit(), *arguments)
        await made.start()
        return await stack.enter_async_context(made)

    async with contextlib.AsyncExitStack() as stack:
        yield start


def _livekit() -> tuple[str, str]:
    return "--livekit-server", str(tool("livekit-server"))


_CHECKS: Final = ("pattern", "tone", "picture", "sound", "readings", "quality reports", "events")


@pytest.mark.deadline(200)
async def test_two_demos_at_once_end_with_0_when_media_flowed_and_leave_nothing_behind(
    demo: Callable[..., Awaitable[DemoProcess]],
) -> None:
    # The encoder needs a while to reach the full size on a busy machine.
    both = [await demo("--seconds", "20"), await demo("--seconds", "20")]
    for running in both:
        status, output = await running.finish()
        assert status == 0, output
        for name in _CHECKS:
            assert re.search(rf"^  ok +{name} ", output, re.MULTILINE), output
        assert "FAILED" not in output
        assert re.search(r"^pattern +\d+ +1280×720 ", output, re.MULTILINE), output  # noqa: RUF001 - as it is printed
        assert re.search(r"publication_moved +camera/pattern: live", output)
        assert "Traceback" not in output
        await running.leaves_no_process()
        assert not list(running.folder.glob("track-demo-*")), "it cleans up after itself"


@pytest.mark.deadline(200)
async def test_without_a_media_worker_it_ends_with_1_and_says_what_did_not_flow(
    demo: Callable[..., Awaitable[DemoProcess]],
) -> None:
    running = await demo("--seconds", "2", "--media-workers", "0", "--wait-seconds", "4")
    status, output = await running.finish()
    assert status == 1, output
    for name in _CHECKS:
        assert re.search(rf"^  FAILED +{name} ", output, re.MULTILINE), output
    assert "did not flow on every track" in output
    await running.leaves_no_process()


@pytest.mark.deadline(200)
async def test_media_that_stops_during_the_demo_ends_it_with_1(
    demo: Callable[..., Awaitable[DemoProcess]],
) -> None:
    running = await demo("--seconds", "6")
    await running.until_it_says("media flows on all 5 tracks")
    for process in running.processes():
        # One that has not loaded the SDK yet is not bound to its parent's life either, and would stay stopped for ever.
        hosts = "track_server.media.child" in process.cmdline() and any(
            "livekit_ffi" in mapped.path for mapped in process.memory_maps()
        )
        if hosts or "worker" in process.cmdline():
            process.suspend()
    status, output = await running.finish()
    assert status == 1, output
    for name in ("pattern", "tone", "picture", "sound", "readings"):
        assert re.search(rf"^  FAILED +{name} ", output, re.MULTILINE), output
    await running.leaves_no_process()


@pytest.mark.deadline(200)
async def test_a_killed_media_worker_comes_back_and_so_does_what_the_viewer_receives(
    demo: Callable[..., Awaitable[DemoProcess]],
) -> None:
    running = await demo("--seconds", "20")
    await running.until_it_says("media flows on all 5 tracks")
    (worker,) = [process for process in running.processes() if "worker" in process.cmdline()]
    worker.kill()
    status, output = await running.finish()
    assert status == 0, output
    assert output.count("track_unpublished") > len(_CHECKS[:5]), "every track was away"
    await running.leaves_no_process()


@pytest.mark.deadline(200)
async def test_sigterm_ends_it_with_a_summary_and_leaves_no_process(
    demo: Callable[..., Awaitable[DemoProcess]],
) -> None:
    running = await demo()
    await running.until_it_says("media flows on all 5 tracks")
    running.send(signal.SIGTERM)
    status, output = await running.finish()
    assert status == 0, output
    assert "What the viewer received" in output
    await running.leaves_no_process()


@pytest.mark.deadline(200)
async def test_a_kill_of_the_demo_takes_every_process_along(demo: Callable[..., Awaitable[DemoProcess]]) -> None:
    running = await demo()
    await running.until_it_says("media flows on all 5 tracks")
    assert len(running.processes()) >= 6, "the demo, LiveKit, TrackService, its worker, a media process, the viewer"
    running.send(signal.SIGKILL)
    await running.finish()
    await running.leaves_no_process()


@pytest.mark.deadline(200)
async def test_sigint_while_it_starts_takes_down_what_was_started(
    demo: Callable[..., Awaitable[DemoProcess]],
) -> None:
    running = await demo()
    await running.until_it_says("starting TrackService")
    running.send(signal.SIGINT)
    status, output = await running.finish()
    assert status == 130, output
    assert "Traceback" not in output
    await running.leaves_no_process()


async def test_a_missing_livekit_server_is_told_in_a_sentence(tmp_path: Path) -> None:
    for arguments in ([], ["--livekit-server", str(tmp_path / "nothing")]):
        running = DemoProcess(tmp_path / f"tmp-{len(arguments)}", *arguments, path="/nowhere")
        await running.start()
        status, output = await running.finish()
        assert status == 1
        assert "livekit-server" in output
        assert "make demo" in output
        assert "Traceback" not in output


@pytest.mark.deadline(200)
async def test_in_a_terminal_it_draws_a_screen_until_ctrl_c_and_gives_the_terminal_back(tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    shown = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(terminal, lambda: shown.extend(os.read(terminal, 65536)))
    running = DemoProcess(tmp_path / "tmp", *_livekit())
    await running.start(theirs)
    try:
        # A screen begins at the upper left corner: once the next one does, it is there as a whole.
        await _until(lambda: b"media flows since" in shown.rpartition(_HOME)[0], "media does not flow", _FLOW_S)
        text = shown.rpartition(_HOME)[0].decode()
        assert "\x1b[?1049h" in text, "it draws on the terminal's second screen"
        for title in ("Tracks of the room", "Quality reports", "Events", "Call it from another terminal"):
            assert title in text
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.rpartition(_HOME.decode())[2])
        assert max(map(len, last.splitlines())) <= _COLUMNS
        assert last.count("\n") < _LINES
        running.send(signal.SIGINT)
        status, _ = await running.finish()
        await _until(lambda: b"What the viewer received" in shown, "no summary")
    finally:
        await running.__aexit__()
        loop.remove_reader(terminal)
        os.close(terminal)
        os.close(theirs)
    assert status == 0
    assert b"\x1b[?1049l" in shown, "the first screen is back"
    assert b"\x1b[?25h" in shown, "the cursor is back"
    await running.leaves_no_process()
