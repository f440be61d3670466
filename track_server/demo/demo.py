"""The demo: a real room with LiveKit, TrackService, publications and a viewer, shown live until it is ended."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import uvloop
from rich.console import Console
from rich.text import Text

from track_server.demo.activities import Activities
from track_server.demo.board import Board
from track_server.demo.client import Client, client, reason_of
from track_server.demo.film import make_film
from track_server.demo.introduction import Introduction, introduction
from track_server.demo.livekit_server import find_livekit_server, livekit_server
from track_server.demo.processes import ChildProcess, DemoError
from track_server.demo.programme import NAMES
from track_server.demo.reception import Reception
from track_server.demo.screen import Screen
from track_server.demo.service import ROOM, track_service
from track_server.demo.summary import Lines, print_summary
from track_server.demo.verdict import checks, flow, flowing
from track_server.demo.viewing import ViewerProcess, viewer

DEFAULT_WAIT_S: Final = 60.0
_LEAST_S: Final = 1.0
"""Below that, what is measured once a second is not there yet."""
_PUBLISH_S: Final = 20.0
_DRAW_S: Final = 0.3
_TABLES_S: Final = 5.0
_TICK_S: Final = 0.1
_PLAIN_COLUMNS: Final = 150
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    *,
    livekit_server: str | None = None,
    seconds: float | None = None,
    port: int = 0,
    media_workers: int = 1,
    wait_seconds: float = DEFAULT_WAIT_S,
) -> int:
    """Run the demo; the exit status of the program.

    ``seconds``: end after so much flowing media, with 0 if it flowed on every track and 1 if not. None: until a signal.
    ``wait_seconds``: with ``seconds``, how long media may take to begin to flow. ``port``: TrackService's, 0 for a free
    one. ``livekit_server``: the program; None for the one on PATH.
    """
    console = Console(highlight=False)
    if not _can_draw(console):
        console = Console(highlight=False, width=_PLAIN_COLUMNS)
    demo = Demo(console, seconds=seconds, port=port, media_workers=media_workers, wait_s=wait_seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(demo.run(livekit_server))


class Demo:
    """One run of the demo."""

    def __init__(
        self, console: Console, *, seconds: float | None, port: int, media_workers: int, wait_s: float
    ) -> None:
        self._console = console
        self._seconds = seconds
        self._port = port
        self._media_workers = media_workers
        self._wait_s = wait_s
        self._board = Board()
        self._stop = asyncio.Event()
        self._showing = False
        self._flowing_since: float | None = None
        self._before: dict[str, Reception] = {}
        self._begun = self._before_s = time.monotonic()

    async def run(self, program: str | None) -> int:
        """See `run`."""
        task = asyncio.current_task()
        assert task is not None
        received: list[int] = []

        def interrupt(number: int) -> None:
            received.append(number)
            # The first one in the show ends it as it should; else it is taken down as far as it got.
            if self._showing and len(received) == 1:
                self._stop.set()
            else:
                task.cancel()

        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
        directory = Path(tempfile.mkdtemp(prefix="track-demo-"))
        keep = False
        try:
            if self._seconds is not None and not self._seconds >= _LEAST_S:
                raise DemoError(f"--seconds must be at least {_LEAST_S:g}.")
            holds = await self._run(find_livekit_server(program), directory)
            keep = not holds
            if received and self._seconds is not None:
                return 128 + received[0]
            return 0 if holds or self._seconds is None else 1
        except DemoError as error:
            keep = True
            self._console.print(Text(f"\n{error}", "red"), soft_wrap=True)
            return 1
        except asyncio.CancelledError:
            return 128 + received[0] if received else 1
        finally:
            if keep and (directory / "livekit-server.log").exists():
                self._console.print(Text(f"The logs are kept in {directory}", "dim"), soft_wrap=True)
            else:
                shutil.rmtree(directory, ignore_errors=True)

    async def _run(self, program: str, directory: Path) -> bool:
        """Start everything, show it, take it down. Whether media flowed."""
        media_dir = directory / "media"
        media_dir.mkdir()
        async with contextlib.AsyncExitStack() as stack:
            self._step("making a media file")
            await asyncio.to_thread(make_film, media_dir)
            self._step("starting LiveKit")
            livekit = await stack.enter_async_context(livekit_server(program, directory))
            self._step("starting TrackService")
            service = await stack.enter_async_context(
                track_service(livekit, directory, media_dir, port=self._port, media_workers=self._media_workers)
            )
            self._step("joining as the viewer")
            view = await stack.enter_async_context(viewer(livekit, directory))
            calls = await stack.enter_async_context(client(service))
            about = introduction(service, livekit.url, program)
            self._introduce(about)
            try:
                await self._show(calls, view, about, [livekit.process, service.process, view.process])
            except* DemoError as group:
                raise _first(group) from group
            except* grpc.aio.AioRpcError as group:
                error = _first(group)
                raise DemoError(f"A call failed: {reason_of(error)}\n{service.process.tail()}") from group
            return self._conclude()

    def _step(self, what: str) -> None:
        self._console.print(Text(f"{what} …", "dim"))

    def _introduce(self, about: Introduction) -> None:
        self._console.print()
        for what, text in (
            ("TrackService", about.address),
            ("LiveKit", about.livekit_url),
            ("Token", f"in {about.token_file}, of an admin of the room {ROOM}"),
        ):
            self._console.print(Text.assemble((f"{what:14}", "bold"), text), soft_wrap=True)
        self._console.print(
            about.calls(self._board, self._console.width)[0], style="cyan", markup=False, soft_wrap=True
        )
        self._console.print()

    async def _show(
        self, calls: Client, view: ViewerProcess, about: Introduction, processes: list[ChildProcess]
    ) -> None:
        self._board.info = await calls.server_info()
        self._begun = self._before_s = time.monotonic()
        self._showing = True
        async with asyncio.TaskGroup() as group:
            jobs: list[Coroutine[Any, Any, None]] = [
                self._draw(about),
                *Activities(self._board, calls, min(_PUBLISH_S, self._wait_s)).all(),
                view.follow(self._board.hear_viewer),
                *(_guard(process) for process in processes),
            ]
            tasks = [group.create_task(job) for job in jobs]
            await self._until_over()
            for task in tasks:
                task.cancel()

    async def _until_over(self) -> None:
        while not self._stop.is_set():
            # Not wait_for: in Python 3.11 that can lose a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stop.wait()
            now = time.monotonic()
            if self._flowing_since is None and flowing(self._board):
                self._flowing_since = now
                self._before, self._before_s = self._board.all_receptions(), self._board.viewer_heard_s
                self._board.note("flowing", f"media flows on all {len(NAMES)} tracks")
            if self._seconds is None:
                continue
            if self._flowing_since is not None and now - self._flowing_since >= self._seconds:
                return
            if self._flowing_since is None and (self._board.problems or now - self._begun >= self._wait_s):
                self._board.problems.append(f"media did not flow on every track after {now - self._begun:.0f} s")
                return

    # What is shown

    async def _draw(self, about: Introduction) -> None:
        if _can_draw(self._console):
            with contextlib.suppress(OSError), Screen(self._console, self._board, about, self._status) as screen:
                while _can_draw(self._console):
                    screen.draw()
                    await asyncio.sleep(_DRAW_S)
            # The terminal is gone without a word (SIGHUP is the usual one).
            self._stop.set()
            return
        lines = Lines(self._console, self._board)
        next_tables = time.monotonic() + _TABLES_S
        try:
            while True:
                lines.draw()
                if time.monotonic() >= next_tables:
                    lines.tables()
                    next_tables += _TABLES_S
                await asyncio.sleep(_DRAW_S)
        finally:
            lines.draw()

    def _status(self) -> str:
        if self._flowing_since is None:
            return f"media begins to flow … {time.monotonic() - self._begun:.0f} s"
        span = time.monotonic() - self._flowing_since
        limit = f" of {self._seconds:g}" if self._seconds is not None else ""
        return f"media flows since {span:.0f}{limit} s"

    def _conclude(self) -> bool:
        # From what the viewer told then to what it told last.
        span_s = max(_TICK_S, self._board.viewer_heard_s - self._before_s)
        flows = {name: flow(self._board, name, self._before, span_s) for name in NAMES}
        found = checks(self._board, flows, time.time())
        print_summary(self._console, self._board, list(flows.values()), found, span_s, self._flowing_since is not None)
        return all(check.holds for check in found)


def _can_draw(console: Console) -> bool:
    """Whether there is a terminal to draw on; FORCE_COLOR makes rich say so of any output."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


async def _guard(process: ChildProcess) -> None:
    raise await process.ended()


_Error = TypeVar("_Error", bound=BaseException)


def _first(group: BaseExceptionGroup[_Error]) -> _Error:
    """The first error of a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error  # type: ignore[return-value]  # a group of errors holds such errors and groups of them
