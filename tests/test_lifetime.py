"""What is closed at the end of a block, and the tasks that somebody owns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from track_server.errors import Draining, RoomNotFound
from track_server.lifetime import Closing, Tasks


class Door(Closing):
    """Counts how often it is closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


class Work:
    """Runs until it is cancelled, and then cleans up until it ``may_end``."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = 0
        self.cleaned_up = False
        self.may_end = asyncio.Event()

    async def run(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
            self.cleaned_up = True
            raise


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    async with Tasks() as tasks:
        yield tasks


@pytest.fixture
async def work(tasks: Tasks) -> AsyncIterator[Work]:
    """Work that runs."""
    work = Work()
    tasks.spawn(work.run(), name="work")
    await work.begun.wait()
    yield work
    work.may_end.set()


async def idle() -> None:
    pass


async def fail(error: Exception) -> None:
    raise error


async def test_a_block_gives_what_it_closes_and_closes_it_once() -> None:
    async with Door() as door:
        assert isinstance(door, Door)
        assert door.closed == 0
    assert door.closed == 1


async def test_a_block_that_raises_closes_too_and_hides_nothing() -> None:
    door = Door()
    with pytest.raises(KeyError):
        async with door:
            raise KeyError
    assert door.closed == 1


async def test_what_cannot_be_closed_is_not_made() -> None:
    class Endless(Closing):
        pass

    with pytest.raises(TypeError, match="aclose"):
        Endless()  # type: ignore[abstract]


async def test_a_task_runs_under_its_name_and_is_let_go_of_when_it_ends(tasks: Tasks) -> None:
    async def answer() -> int:
        return 42

    task = tasks.begin(answer(), name="the answer")
    assert task.get_name() == "the answer"
    assert len(tasks) == 1
    assert await task == 42
    await tasks.settle(20.0)
    assert len(tasks) == 0


async def test_closing_waits_until_cancelled_tasks_have_cleaned_up(tasks: Tasks, work: Work) -> None:
    closing = asyncio.create_task(tasks.aclose())
    done, _ = await asyncio.wait([closing], timeout=0.05)
    assert not done
    work.may_end.set()
    await closing
    assert work.cleaned_up
    assert len(tasks) == 0


async def test_closing_twice_disturbs_no_cleaning_up(tasks: Tasks, work: Work) -> None:
    first, second = asyncio.create_task(tasks.aclose()), asyncio.create_task(tasks.aclose())
    await asyncio.wait([first, second], timeout=0.05)
    work.may_end.set()
    await asyncio.gather(first, second)
    await tasks.aclose()
    assert work.cancelled == 1
    assert work.cleaned_up


async def test_who_is_cancelled_while_closing_learns_of_it_and_another_may_wait(tasks: Tasks, work: Work) -> None:
    closing = asyncio.create_task(tasks.aclose())
    await asyncio.wait([closing], timeout=0.05)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not work.cleaned_up
    work.may_end.set()
    await tasks.aclose()
    assert work.cancelled == 1
    assert work.cleaned_up


async def test_nothing_begins_after_closing(tasks: Tasks) -> None:
    await tasks.aclose()
    # Coroutines that are left lying would warn, and warnings fail.
    with pytest.raises(Draining):
        tasks.spawn(idle(), name="late")
    with pytest.raises(Draining):
        _ = tasks.begin(idle(), name="late")
    assert len(tasks) == 0


async def test_tasks_cannot_be_followed_by_others_while_they_are_closed(tasks: Tasks) -> None:
    refused = False
    begun = asyncio.Event()

    async def run() -> None:
        nonlocal refused
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                tasks.spawn(idle(), name="follower")
            except Draining:
                refused = True

    tasks.spawn(run(), name="first")
    await begun.wait()
    await tasks.aclose()
    assert refused
    assert len(tasks) == 0


async def test_an_exception_is_told_with_its_traceback_and_harms_no_other(tasks: Tasks, work: Work) -> None:
    error = ValueError("broken")
    with capture_logs() as logged:
        task = tasks.begin(fail(error), name="faulty")
        await asyncio.wait([task], timeout=20.0)
    assert logged == [{"event": "task_failed", "log_level": "error", "task": "faulty", "exc_info": error}]
    assert not work.cancelled
    assert len(tasks) == 1


async def test_an_exception_while_cleaning_up_is_told_and_not_raised_by_closing(tasks: Tasks) -> None:
    begun = asyncio.Event()
    error = ValueError("broken")

    async def run() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    tasks.spawn(run(), name="faulty")
    await begun.wait()
    with capture_logs() as logged:
        await tasks.aclose()
    assert [entry["exc_info"] for entry in logged] == [error]


async def test_what_a_caller_may_see_is_a_line_and_reaches_who_waits(tasks: Tasks) -> None:
    with capture_logs() as logged:
        task = tasks.begin(fail(RoomNotFound("no such room")), name="refused")
        with pytest.raises(RoomNotFound):
            await task
        await tasks.settle(20.0)
    assert logged == [{"event": "task_refused", "log_level": "info", "task": "refused", "reason": "no such room"}]


async def test_a_task_that_is_cancelled_alone_is_no_fault(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as logged:
        task = tasks.begin(asyncio.Event().wait(), name="cancelled")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await tasks.settle(20.0)
    assert logged == []
    # Here the loop tells of callbacks that raise.
    assert caplog.messages == []
    assert len(tasks) == 0


async def test_settling_waits_no_longer_than_it_is_told_and_cancels_nothing(tasks: Tasks, work: Work) -> None:
    await tasks.settle(0.05)
    assert not work.cancelled
    assert len(tasks) == 1


async def test_settling_waits_for_all_that_run(tasks: Tasks) -> None:
    turn = asyncio.Event()
    task = tasks.begin(turn.wait(), name="waits")
    settling = asyncio.create_task(tasks.settle(20.0))
    await asyncio.wait([settling], timeout=0.05)
    assert not settling.done()
    turn.set()
    await settling
    assert task.done()
