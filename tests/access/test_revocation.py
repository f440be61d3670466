"""What rests on a permission, while permissions change and parts fail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from track.v1 import event_pb2, track_pb2
from track.v1.access_pb2 import Permission
from track_server.access import revocation as module
from track_server.access.access import Open
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.principal import Grants, Principal
from track_server.access.question import EVERYTHING, Question, Touch
from track_server.access.revocation import Revocation, StandingEffect
from track_server.errors import PermissionDenied, PermissionsChanging, TrackError
from track_server.store.records import StoreError

READ, MUTE = Permission.PERMISSION_READ_TRACKS, Permission.PERMISSION_MUTE


def caller(number: int) -> Principal:
    """One of many."""
    return Principal(f"caller {number}", Grants(room="a", room_join=True))


class Deciding(Open):
    """Answers each review with ``answer``, once ``answering`` is set, and keeps how much was asked in each."""

    def __init__(self) -> None:
        self.answer: Callable[[], Bounds | TrackError] = lambda: UNBOUNDED
        self.answering = asyncio.Event()
        self.answering.set()
        self.reviews: list[int] = []

    def admitted(self, principal: Principal, permission: "Permission.ValueType", room: str) -> bool:
        """Nothing is known."""
        return False

    async def review(self, asked: Sequence[tuple[Principal, Question]]) -> list[Bounds | TrackError]:
        """See Access."""
        if asked:
            self.reviews.append(len(asked))
            await self.answering.wait()
        return [self.answer() for _ in asked]


@asynccontextmanager
async def looking(access: Deciding) -> AsyncIterator[Revocation]:
    """Revocation over it."""
    async with Revocation(access) as revocation:
        yield revocation


async def until(condition: Callable[[], Any]) -> None:
    """Waits for it."""
    async with asyncio.timeout(45):
        while not condition():
            await asyncio.sleep(0.01)


async def test_all_streams_are_asked_about_at_once() -> None:
    access, ended = Deciding(), list[TrackError]()
    async with looking(access) as revocation:
        with ExitStack() as streams:
            for number in range(300):
                streams.enter_context(revocation.stream(caller(number), READ, "a", ended.append))
            revocation.changed(EVERYTHING)
            await until(lambda: access.reviews)
            access.answer = lambda: PermissionDenied("no longer")
            revocation.changed(EVERYTHING)
            await until(lambda: len(ended) >= 300)
    assert set(access.reviews) == {300}


async def test_changes_that_come_faster_than_answers_are_looked_at_together() -> None:
    access = Deciding()
    question = Question(MUTE, "a", "bob")
    async with looking(access) as revocation:
        revocation.add(lambda: [StandingEffect(caller(0), question, _nothing)])
        access.answering.clear()
        revocation.changed(EVERYTHING)
        await until(lambda: access.reviews)
        for number in range(500):
            revocation.changed(Touch(principal_identity="caller 0", track_sid="", room="a" if number % 2 else ""))
            revocation.changed(Touch(principal_identity=f"somebody {number}"))
        access.answering.set()
        await until(lambda: len(access.reviews) == 2)
        # Nothing is left over.
        access.answering.clear()
        revocation.changed(Touch(room="a"))
        await until(lambda: len(access.reviews) == 3)
    assert access.reviews == [1, 1, 1]


async def test_a_stream_outlasts_answers_that_changes_overtake_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access, ended = Deciding(), list[TrackError]()
    overtaken = PermissionsChanging("permissions change faster than they can be asked for")
    async with looking(access) as revocation:
        with revocation.stream(caller(0), READ, "a", ended.append):
            monkeypatch.setattr(module, "_DOUBT_S", 3600.0)
            access.answer = lambda: overtaken
            for count in range(1, 4):
                revocation.changed(EVERYTHING)
                await until(lambda count=count: len(access.reviews) >= count)  # type: ignore[misc]
            assert not ended
            monkeypatch.setattr(module, "_DOUBT_S", 0.0)
            revocation.changed(EVERYTHING)
            await until(lambda: ended)
    assert ended[0] is overtaken


async def test_what_cannot_be_ended_does_not_keep_the_rest() -> None:
    access, ended = Deciding(), list[str]()

    async def broken(_: PermissionDenied) -> None:
        raise StoreError("the store failed: disk I/O error")

    async def sound(error: PermissionDenied) -> None:
        ended.append(error.message)

    access.answer = lambda: PermissionDenied("no longer")
    question = Question(MUTE, "a", "bob")
    async with looking(access) as revocation:
        revocation.add(
            lambda: [StandingEffect(caller(0), question, broken), StandingEffect(caller(1), question, sound)]
        )
        revocation.changed(EVERYTHING)
        await until(lambda: ended)
    assert ended[0] == "no longer"


async def _nothing(_: PermissionDenied) -> None:
    pass


def test_updates_that_leave_the_permission_as_it_was_cause_no_look() -> None:
    touched: list[Touch] = []

    class Noting(Revocation):
        def changed(self, touch: Touch) -> None:
            touched.append(touch)

    revocation = Noting(Open())

    def updated(can_publish: bool, **attributes: str) -> None:
        alice = track_pb2.Participant(sid="PA_1", identity="alice", attributes=attributes)
        alice.permission.can_publish = can_publish
        revocation.happened("a", event_pb2.RoomEvent(participant_updated=alice))

    updated(True)
    updated(True, hand="up")
    updated(True, hand="down")
    assert touched == [Touch(principal_identity="alice", room="a")]
    updated(False, hand="down")
    updated(True, hand="down")
    assert len(touched) == 3
