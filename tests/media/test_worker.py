"""The worker and its child processes: how many sessions they take, and what is left when one of them dies."""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from livekit import api
from livekit.protocol import agent

from tests.livekit_process import LiveKitProcess
from tests.media.peer import MediaPeer, PeerSession, data
from tests.media.viewer import viewer
from track.media.v1.media_service_pb2 import SessionEndReason
from track_server.media.children import Children
from track_server.media.settings import MediaSettings
from track_server.media.wire import StartSession
from track_server.media.worker import MediaWorker

DEADLINE_S = 45.0

PROGRAM = """
import json, pathlib, sys
from track_server.media.settings import MediaSettings
from track_server.media.worker import run_worker
run_worker(MediaSettings(**json.load(open(sys.argv[1]))))
"""


@contextlib.asynccontextmanager
async def own_worker(settings: MediaSettings, **changes: int) -> AsyncIterator[tuple[MediaWorker, MediaSettings]]:
    """A worker of the test's own."""
    own = dataclasses.replace(settings, agent_name=f"media-{uuid.uuid4().hex[:8]}", **changes)  # type: ignore[arg-type]
    async with MediaWorker(own) as worker:
        await worker.registered()
        yield worker, own


async def until_gone(pids: list[int], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            await asyncio.sleep(0.02)


async def jobs_of(livekit: LiveKitProcess, room: str) -> list[agent.JobState]:
    async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as client:
        dispatches = await client.agent_dispatch.list_dispatch(room)
        return [job.state for dispatch in dispatches for job in dispatch.state.jobs]


async def test_a_killed_child_fails_its_jobs_and_the_worker_serves_on(
    livekit: LiveKitProcess, settings: MediaSettings, importable: None, peer: MediaPeer, room_name: str
) -> None:
    async with own_worker(settings) as (worker, own), viewer(livekit, room_name) as seen:
        session = await peer.dispatch(own.agent_name, room_name, data("d1"))
        await session.report_of("d1")
        await seen.until(lambda: session.identity in seen.room.remote_participants)
        (pid,) = worker.child_pids
        os.kill(pid, signal.SIGKILL)
        await session.until(lambda: session.attached == 0)
        async with asyncio.timeout(DEADLINE_S):
            while worker.sessions or worker.child_pids in ([], [pid]):
                await asyncio.sleep(0.02)
        session.generation = 2
        await peer.dispatch_again(own.agent_name, session)
        await session.until(lambda: len(session.hellos) == 2)
        await session.report_of("d1", after=1)
        assert session.hellos[1].tracks == []


async def test_a_killed_worker_leaves_no_child_behind(
    livekit: LiveKitProcess,
    settings: MediaSettings,
    importable: None,
    peer: MediaPeer,
    room_name: str,
    tmp_path: Path,
) -> None:
    own = dataclasses.replace(settings, agent_name=f"media-{uuid.uuid4().hex[:8]}", media_dir=None)
    process = await started(own, tmp_path)
    try:
        session = await hosted(peer, own, room_name)
        children = [child.pid for child in psutil.Process(process.pid).children()]
        assert children
        process.kill()
        await process.wait()
        await until_gone(children, 5)
        await session.until(lambda: session.attached == 0)
    finally:
        await killed(process)


async def test_a_worker_that_is_killed_at_once_leaves_no_child_that_is_still_starting(
    settings: MediaSettings, importable: None, tmp_path: Path
) -> None:
    process = await started(dataclasses.replace(settings, media_dir=None), tmp_path)
    try:
        async with asyncio.timeout(DEADLINE_S):
            # Its child binds itself to it before anything else; see tests/test_lifeline.py.
            while not (children := bound_children(process.pid)):
                await asyncio.sleep(0.005)
        process.kill()
        await process.wait()
        await until_gone(children, DEADLINE_S)
    finally:
        await killed(process)


def bound_children(pid: int) -> list[int]:
    """Those of the process that were started to go with it."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "track_server.lifeline" in child.cmdline():
                found.append(child.pid)
    return found


async def test_a_worker_that_is_told_to_stop_ends_its_sessions_in_order(
    livekit: LiveKitProcess,
    settings: MediaSettings,
    importable: None,
    peer: MediaPeer,
    room_name: str,
    tmp_path: Path,
) -> None:
    own = dataclasses.replace(settings, agent_name=f"media-{uuid.uuid4().hex[:8]}", media_dir=None)
    process = await started(own, tmp_path)
    try:
        session = await hosted(peer, own, room_name)
        children = [child.pid for child in psutil.Process(process.pid).children()]
        process.terminate()
        await session.until(lambda: session.ended is not None)
        assert session.ended is not None
        assert session.ended.reason == SessionEndReason.SESSION_END_REASON_WORKER_STOPPING
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
        await until_gone(children, 1)
    finally:
        await killed(process)


async def started(settings: MediaSettings, directory: Path) -> asyncio.subprocess.Process:
    """A worker as a process of its own."""
    file = directory / "settings.json"
    file.write_text(json.dumps(dataclasses.asdict(settings)))
    return await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(file))


async def killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def hosted(peer: MediaPeer, settings: MediaSettings, room: str, patience_s: float = 1.0) -> PeerSession:
    """A session that publishes."""
    session = peer.adopt(room, data("d1"))
    await offered(peer, settings, session, patience_s)
    await session.report_of("d1")
    return session


async def offered(peer: MediaPeer, settings: MediaSettings, session: PeerSession, patience_s: float) -> None:
    """Has it dispatched, and again until the worker says something: it may not have registered, and LiveKit gives up
    where the machine is slow.
    """
    async with asyncio.timeout(DEADLINE_S):
        while not session.hellos:
            await peer.dispatch_again(settings.agent_name, session)
            with contextlib.suppress(AssertionError):
                await session.until(lambda: session.hellos, patience_s)


async def test_a_full_worker_declines_until_a_place_is_free(
    livekit: LiveKitProcess, settings: MediaSettings, importable: None, peer: MediaPeer, room_name: str
) -> None:
    async with own_worker(settings, max_sessions=3, sessions_per_child=2) as (worker, own):
        # The third would get no offer if the load were reported as it is: LiveKit stops at 0.7.
        sessions = [await hosted(peer, own, room_name, patience_s=5.0) for _ in range(3)]
        assert len(worker.child_pids) == 2
        declined = peer.adopt(room_name, data("d1"))
        # It tells the server, which LiveKit does not.
        await offered(peer, own, declined, patience_s=5.0)
        assert (declined.hellos[0].full_at, declined.hellos[0].generation) == (3, declined.generation)
        assert worker.sessions == 3
        sessions[0].stop()
        await sessions[0].until(lambda: sessions[0].ended is not None)
        async with asyncio.timeout(DEADLINE_S):
            while worker.sessions == 3:
                await asyncio.sleep(0.02)
        declined.hellos.clear()
        await offered(peer, own, declined, patience_s=5.0)
        await declined.report_of("d1")


async def test_a_child_is_replaced_after_its_sessions_and_never_under_one(
    livekit: LiveKitProcess, settings: MediaSettings, importable: None, peer: MediaPeer, room_name: str
) -> None:
    async with own_worker(settings, sessions_before_recycling=2) as (worker, own):
        (first,) = worker.child_pids
        sessions = [await peer.dispatch(own.agent_name, room_name, data("d1")) for _ in range(2)]
        for session in sessions:
            await session.report_of("d1")
        async with asyncio.timeout(DEADLINE_S):
            while len(worker.child_pids) < 2:
                await asyncio.sleep(0.02)
        assert first in worker.child_pids
        sessions[0].stop()
        async with asyncio.timeout(DEADLINE_S):
            while worker.sessions == 2:
                await asyncio.sleep(0.02)
        # The other one is still served.
        sessions[1].desire(data("d1"), data("d2"))
        await sessions[1].report_of("d2")
        assert first in worker.child_pids
        sessions[1].stop()
        async with asyncio.timeout(DEADLINE_S):
            while first in worker.child_pids:
                await asyncio.sleep(0.02)
        third = await peer.dispatch(own.agent_name, room_name, data("d1"))
        await third.report_of("d1")


async def test_a_child_that_does_not_answer_gets_no_sessions_until_it_does(
    livekit: LiveKitProcess, settings: MediaSettings, importable: None, peer: MediaPeer, room_name: str
) -> None:
    async with own_worker(settings) as (worker, own):
        (first,) = worker.child_pids
        session = await peer.dispatch(own.agent_name, room_name, data("d1"))
        await session.report_of("d1")
        os.kill(first, signal.SIGSTOP)
        try:
            async with asyncio.timeout(DEADLINE_S):
                while len(worker.child_pids) < 2:
                    await asyncio.sleep(0.02)
            # Had the first got it, nobody would publish anything.
            other = await peer.dispatch(own.agent_name, room_name, data("d1"))
            await other.report_of("d1")
        finally:
            os.kill(first, signal.SIGCONT)
        session.desire(data("d1"), data("d2"))
        await session.report_of("d2")


async def test_a_child_that_never_answers_again_is_replaced(
    livekit: LiveKitProcess,
    settings: MediaSettings,
    importable: None,
    peer: MediaPeer,
    room_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("track_server.media.children._HUNG", 5)
    async with own_worker(settings) as (worker, own):
        (first,) = worker.child_pids
        session = await peer.dispatch(own.agent_name, room_name, data("d1"))
        await session.report_of("d1")
        os.kill(first, signal.SIGSTOP)
        async with asyncio.timeout(DEADLINE_S):
            while worker.sessions or first in worker.child_pids:
                await asyncio.sleep(0.02)
        session.generation = 2
        await peer.dispatch_again(own.agent_name, session)
        await session.report_of("d1", after=1)


async def test_a_job_without_a_ticket_is_refused_for_good(
    livekit: LiveKitProcess, settings: MediaSettings, worker: MediaWorker, room_name: str
) -> None:
    async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as client:
        await client.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name=settings.agent_name, room=room_name, metadata="{}")
        )
    async with asyncio.timeout(DEADLINE_S):
        while not (states := await jobs_of(livekit, room_name)):
            await asyncio.sleep(0.05)
    assert [state.status for state in states] == [agent.JS_SUCCESS]
    assert worker.sessions == 0


async def test_a_session_that_was_given_to_a_child_just_before_the_worker_stops_is_ended_in_order() -> None:
    left: list[tuple[str, str]] = []
    over: list[str] = []
    settings = MediaSettings(url="ws://127.0.0.1:1", api_key="key", api_secret="secret")
    async with Children(settings, lambda job, error: left.append((job, error)), over.append) as children:
        # The child is still starting: it reads the session and the end of it at one go.
        ticket = json.dumps({"sessionId": "SES_1", "participantIdentity": "host", "serverAddress": "127.0.0.1:1"})
        children.start(StartSession(job_id="AJ_1", worker_id="AW_1", url="", token="token", ticket=ticket))
    assert (left, over) == ([("AJ_1", "")], ["AJ_1"])
