"""Sessions that a supervisor offers to its worker, past LiveKit's dispatch."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil
import pytest

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room, participants, rooms
from tests.media.peer import DEADLINE_S, MediaPeer, PeerSession, data
from track.media.v1.media_service_pb2 import SessionEndReason
from track_server.agent import Answer, Line, Load, Offer, Over, Registered, Withdraw, line_of, message_in
from track_server.livekit.tokens import TokenMint
from track_server.media.settings import MediaSettings
from track_server.media.worker import MediaWorker

pytestmark = pytest.mark.usefixtures("importable")


class Supervised:
    """A worker, and what it says."""

    def __init__(self, settings: MediaSettings, peer: MediaPeer) -> None:
        self.said: list[Line] = []
        self.worker = MediaWorker(settings, self.said.append)
        self._mint = TokenMint(settings.api_key, settings.api_secret)
        self._peer = peer

    def offer(self, session: PeerSession, offer_id: str, lasts_s: float = 60.0) -> None:
        """Offers it a session."""
        token = self._mint.host(session.room, session.identity, {})
        self.worker.told(Offer(offer_id, self._peer.ticket(session), token, time.monotonic() + lasts_s))

    async def says(self, condition: Callable[[], bool]) -> None:
        """Waits until what it has said makes the condition true."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def supervised(settings: MediaSettings, peer: MediaPeer, places: int) -> AsyncIterator[Supervised]:
    """A worker of the test's own."""
    own = dataclasses.replace(settings, agent_name=f"media-{uuid.uuid4().hex[:8]}", max_sessions=places)
    found = Supervised(own, peer)
    async with found.worker:
        yield found


async def test_an_offer_is_answered_and_the_load_and_the_end_are_told(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with existing_room(livekit, room_name), supervised(settings, peer, places=1) as found:
        await found.says(lambda: found.said[:1] == [Load(0, 1)] and Registered() in found.said)
        found.said.clear()
        late, taken, full = (peer.adopt(room_name, data("d1")) for _ in range(3))
        found.offer(late, "late", lasts_s=-0.001)
        found.offer(taken, "taken")
        found.offer(full, "full")
        assert [message for message in found.said if isinstance(message, Answer)] == [
            Answer("late", taken=False),
            Answer("taken", taken=True),
            Answer("full", taken=False),
        ]
        assert found.said.index(Load(1, 1)) < found.said.index(Answer("taken", taken=True))
        await taken.report_of("d1")
        assert await participants(livekit, room_name) == {taken.identity}
        taken.stop()
        await found.says(lambda: Over("taken") in found.said)
        assert found.said[-1] == Over("taken")
        assert found.said[-2] == Load(0, 1)
        assert not late.hellos + full.hellos


async def test_a_child_that_dies_ends_what_it_was_offered(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with existing_room(livekit, room_name), supervised(settings, peer, places=1) as found:
        (child,) = [psutil.Process(pid) for pid in found.worker.child_pids]
        child.suspend()
        session = peer.adopt(room_name, data("d1"))
        found.offer(session, "first")
        child.kill()
        await found.says(lambda: Over("first") in found.said)
        found.offer(session, "second")
        await session.report_of("d1")


async def test_a_session_that_is_withdrawn_at_once_does_not_even_make_its_room(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with supervised(settings, peer, places=1) as found:
        (child,) = [psutil.Process(pid) for pid in found.worker.child_pids]
        child.suspend()
        session = peer.adopt(room_name, data("d1"))
        found.offer(session, "given up")
        found.worker.told(Withdraw("given up"))
        # It hears of both together.
        child.resume()
        await found.says(lambda: Over("given up") in found.said)
        assert await rooms(livekit, room_name) == []
        assert not session.reports


async def test_a_session_that_finds_another_room_than_was_meant_leaves_it(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with existing_room(livekit, room_name), supervised(settings, peer, places=1) as found:
        session = peer.adopt(room_name, data("d1"))
        session.room_sid = "RM_deleted"
        found.offer(session, "stale")
        await session.until(lambda: session.ended is not None)
        assert session.ended is not None
        assert session.ended.reason == SessionEndReason.SESSION_END_REASON_OTHER_ROOM
        await found.says(lambda: Over("stale") in found.said)
        assert not session.reports
        async with asyncio.timeout(DEADLINE_S):
            while await participants(livekit, room_name):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "message",
    [Offer("1", '{"a": "\\n"}', "token", 1.5), Withdraw("1"), Registered(), Load(1, 2), Answer("1", True), Over("1")],
)
def test_a_message_is_one_line_and_comes_out_as_it_went_in(message: Line) -> None:
    line = line_of(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert message_in(line) == message
