"""What every test may use: real LiveKit servers, the tools beside them, and a check that nothing is left running."""

import asyncio
import functools
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
import pytest_asyncio
import uvloop

from tests.livekit_process import LiveKitProcess, ToolMissingError, tool
from tests.livekit_rooms import existing_room
from tests.loaded_program import LoadedProgram
from tests.participants import participant
from tests.permission_process import PermissionProcess
from tests.server_process import ServerProcess
from tests.track_process import Client, TrackProcess

_LEAK_GRACE_S = 2.0

# How long an example takes tells of the machine, not of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
_TEST_DEADLINE_S = 90.0


class StartLiveKit(Protocol):
    """Starts one more server; `binary` is a name in `.tools/bin`, `config` is merged over the defaults."""

    def __call__(
        self, config: Mapping[str, Any] | None = None, *, binary: str = "livekit-server"
    ) -> Awaitable[LiveKitProcess]: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound every async test, by the marker `deadline` or the default."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("deadline")
            item.obj = _bounded(item.obj, float(marker.args[0]) if marker else _TEST_DEADLINE_S)


def pytest_sessionstart() -> None:
    """The servers of tests are forks of one that has loaded its modules. It is started with the first of them."""
    ServerProcess.loaded = LoadedProgram()


def pytest_sessionfinish() -> None:
    """No server is started any more."""
    if ServerProcess.loaded is not None:
        ServerProcess.loaded.close()


def _bounded(test: Callable[..., Awaitable[None]], seconds: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                await test(*args, **kwargs)
        except TimeoutError as error:
            if scope.expired():
                raise AssertionError(f"not finished after {seconds:g} s") from error
            raise

    return bounded


class StartTrack(Protocol):
    """Starts one more TrackService in front of ``livekit``; `settings` are environment variables."""

    def __call__(
        self, livekit: LiveKitProcess, settings: Mapping[str, str] | None = None
    ) -> Awaitable[TrackProcess]: ...


class StartPermissions(Protocol):
    """Starts one more permission service; `rules` is the text of its file, `settings` are environment variables."""

    def __call__(
        self, rules: str | None = None, settings: Mapping[str, str] | None = None
    ) -> Awaitable[PermissionProcess]: ...


def _tool(name: str) -> Path:
    try:
        return tool(name)
    except ToolMissingError as error:
        reason = str(error)
    pytest.fail(reason, pytrace=False)


@pytest.fixture(scope="session")
def _asyncio_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    # pytest-asyncio's own hook for this parametrizes async tests only: a sync test that uses an async session fixture
    # would then get a second loop, and tear down what the session holds. Overriding the fixture serves both kinds.
    return uvloop.new_event_loop


@pytest_asyncio.fixture(autouse=True)
async def _nothing_left_running() -> AsyncIterator[None]:
    """Fail a test that leaves an asyncio task, or an exception that nobody retrieved, behind.

    Fixtures of the test are closed before this looks. Tasks of session fixtures that were there before are not counted.
    """
    loop = asyncio.get_running_loop()
    lost: list[str] = []

    def keep(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        lost.append("; ".join(f"{key}: {value!r}" for key, value in context.items()))

    loop.set_exception_handler(keep)
    before = asyncio.all_tasks()
    yield
    deadline = time.monotonic() + _LEAK_GRACE_S
    while (leaked := _unfinished(before)) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    loop.set_exception_handler(None)
    names = sorted(f"{task.get_name()}: {task.get_coro()!r}" for task in leaked)
    for task in leaked:
        task.cancel()
    await asyncio.gather(*leaked, return_exceptions=True)
    if names:
        pytest.fail("the test left tasks running:\n" + "\n".join(names), pytrace=False)
    if lost:
        pytest.fail("the event loop reported:\n" + "\n".join(lost), pytrace=False)


def _unfinished(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() - before if task is not current}


@pytest_asyncio.fixture(scope="session")
async def livekit(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveKitProcess]:
    """LiveKit at the pinned version, shared by all tests of this worker: never stop or pause this one."""
    async with LiveKitProcess(_tool("livekit-server"), tmp_path_factory.mktemp("livekit")) as server:
        # Kept, though it is left: participants of this process would hear nothing some day (media/joins.py).
        async with existing_room(server, "first"), participant(server, "first", "first") as first:
            pass
        yield server
        del first


@pytest_asyncio.fixture(scope="session")
async def livekit_old(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveKitProcess]:
    """LiveKit 1.11.0, the oldest version we serve; shared like `livekit`."""
    async with LiveKitProcess(_tool("livekit-server-1.11.0"), tmp_path_factory.mktemp("livekit-old")) as server:
        yield server


@pytest_asyncio.fixture
async def start_livekit(tmp_path: Path) -> AsyncIterator[StartLiveKit]:
    """Servers of this test alone, to be stopped, killed, paused or configured at will; all ended with the test."""
    async with AsyncExitStack() as stack:

        async def start(config: Mapping[str, Any] | None = None, *, binary: str = "livekit-server") -> LiveKitProcess:
            directory = tmp_path / f"livekit-{uuid.uuid4().hex[:8]}"
            return await stack.enter_async_context(LiveKitProcess(_tool(binary), directory, config))

        yield start


@pytest_asyncio.fixture(scope="session")
async def track(livekit: LiveKitProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackProcess]:
    """TrackService with its media worker, shared by all tests of this worker: never stop or kill this one."""
    directory = tmp_path_factory.mktemp("track")
    (directory / "media").mkdir()
    async with TrackProcess(
        livekit,
        directory,
        # The host is nobody's: subscriptions can be made, and nothing is sent.
        {"TRACK_MEDIA_DIR": str(directory / "media"), "TRACK_WEBHOOK_HOSTS": "hooks.example.com"},
    ) as server:
        yield server


@pytest_asyncio.fixture
async def start_track(tmp_path: Path) -> AsyncIterator[StartTrack]:
    """TrackServices of this test alone, to be stopped, killed or configured at will; all ended with the test."""
    async with AsyncExitStack() as stack:

        async def start(livekit: LiveKitProcess, settings: Mapping[str, str] | None = None) -> TrackProcess:
            directory = tmp_path / f"track-{uuid.uuid4().hex[:8]}"
            return await stack.enter_async_context(TrackProcess(livekit, directory, settings))

        yield start


@pytest_asyncio.fixture
async def start_permissions(tmp_path: Path) -> AsyncIterator[StartPermissions]:
    """Permission services of this test alone, to be stopped, killed, paused or rewritten at will."""
    async with AsyncExitStack() as stack:

        async def start(rules: str | None = None, settings: Mapping[str, str] | None = None) -> PermissionProcess:
            directory = tmp_path / f"permissions-{uuid.uuid4().hex[:8]}"
            return await stack.enter_async_context(PermissionProcess(directory, rules, settings))

        yield start


@pytest.fixture
def room_name() -> str:
    """A room name that no other test uses."""
    return f"room-{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def room(livekit: LiveKitProcess, room_name: str) -> AsyncIterator[str]:
    """A room of the shared LiveKit that exists; deleted with all that is in it."""
    async with existing_room(livekit, room_name):
        yield room_name


@pytest_asyncio.fixture
async def admin(track: TrackProcess, room_name: str) -> AsyncIterator[Client]:
    """A caller with `roomAdmin` of this test's room, whether that exists or not."""
    async with track.client("admin", room_admin=True, room=room_name) as client:
        yield client


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """The grpcurl program."""
    return _tool("grpcurl")
