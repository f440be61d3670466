"""The worker's side of LiveKit's job dispatch, against the real server."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from livekit import api
from livekit.protocol import agent

from tests.conftest import StartLiveKit
from tests.livekit_process import LiveKitProcess
from track_server import errors
from track_server.livekit.jobs import Accept, Decline, JobWorker, probe

DEADLINE_S = 45.0


class Recorder:
    """Takes what it is told to take, and keeps what it hears."""

    def __init__(self) -> None:
        self.decision: Accept | Decline = Accept("host", "Host", "about me", {"role": "bot"})
        self.offered: list[str] = []
        self.heard: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    def job_offered(self, job: agent.Job) -> Accept | Decline:
        self.offered.append(job.metadata)
        return self.decision

    def job_assigned(self, job: agent.Job, url: str, token: str) -> None:
        self.heard.put_nowait(("assigned", job.id, token))

    def job_lapsed(self, job_id: str) -> None:
        self.heard.put_nowait(("lapsed", job_id, ""))

    def job_terminated(self, job_id: str) -> None:
        self.heard.put_nowait(("terminated", job_id, ""))

    async def next(self) -> tuple[str, str, str]:
        return await asyncio.wait_for(self.heard.get(), DEADLINE_S)


@pytest.fixture
def name() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


@pytest_asyncio.fixture
async def client(livekit: LiveKitProcess) -> AsyncIterator[api.LiveKitAPI]:
    async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as client:
        yield client


def joined(livekit: LiveKitProcess, handler: Recorder, name: str) -> JobWorker:
    return JobWorker(livekit.url, livekit.api_key, livekit.api_secret, name, handler)


async def dispatch(client: api.LiveKitAPI, name: str, room: str, metadata: str = "") -> str:
    request = api.CreateAgentDispatchRequest(agent_name=name, room=room, metadata=metadata)
    return (await client.agent_dispatch.create_dispatch(request)).id


async def test_the_probe_tells_version_and_node(livekit: LiveKitProcess) -> None:
    for url in (livekit.url, livekit.http_url, livekit.url + "/"):
        info = await probe(url, livekit.api_key, livekit.api_secret)
        assert info.version == livekit.version
        assert info.node_id.startswith("ND_")
        assert info.protocol > 0


async def test_the_probe_works_with_the_oldest_server(livekit_old: LiveKitProcess) -> None:
    assert (await probe(livekit_old.url, livekit_old.api_key, livekit_old.api_secret)).version == livekit_old.version


async def test_the_probe_tells_a_wrong_key_from_a_server_that_is_away(livekit: LiveKitProcess) -> None:
    with pytest.raises(errors.LiveKitCredentials):
        await probe(livekit.url, livekit.api_key, "x" * 48)
    with pytest.raises(errors.LiveKitCredentials):
        await probe(livekit.url, "nobody", livekit.api_secret)
    with pytest.raises(errors.LiveKitUnavailable):
        await probe("ws://127.0.0.1:1", livekit.api_key, livekit.api_secret)


async def test_the_probe_does_not_wait_for_a_server_that_hangs(start_livekit: StartLiveKit) -> None:
    server = await start_livekit()
    server.pause()
    try:
        with pytest.raises(errors.LiveKitUnavailable):
            await probe(server.url, server.api_key, server.api_secret)
    finally:
        server.resume()


async def test_an_accepted_job_comes_with_a_token_for_the_participant(
    livekit: LiveKitProcess, client: api.LiveKitAPI, name: str, room_name: str
) -> None:
    handler = Recorder()
    async with joined(livekit, handler, name) as worker:
        await worker.registered()
        assert worker.worker_id.startswith("AW_")
        assert worker.server_info is not None
        assert worker.server_info.version == livekit.version
        dispatch_id = await dispatch(client, name, room_name, "what to do")
        what, job_id, token = await handler.next()
        assert (what, handler.offered) == ("assigned", ["what to do"])
        claims = api.TokenVerifier(livekit.api_key, livekit.api_secret).verify(token)
        assert (claims.identity, claims.name, claims.metadata, claims.kind) == ("host", "Host", "about me", "agent")
        assert claims.attributes is not None
        assert claims.attributes["role"] == "bot"
        assert claims.video is not None
        grants = claims.video
        assert (grants.room_join, grants.room) == (True, room_name)
        assert (grants.can_publish, grants.can_publish_data, grants.can_subscribe) == (True, True, False)

        await client.agent_dispatch.delete_dispatch(dispatch_id, room_name)
        assert await handler.next() == ("terminated", job_id, "")


async def test_a_job_status_is_told_to_livekit(
    livekit: LiveKitProcess, client: api.LiveKitAPI, name: str, room_name: str
) -> None:
    handler = Recorder()
    async with joined(livekit, handler, name) as worker:
        await worker.registered()
        await dispatch(client, name, room_name)
        _, job_id, _ = await handler.next()
        worker.set_job_status(job_id, agent.JS_FAILED, "it broke badly")
        async with asyncio.timeout(DEADLINE_S):
            while not any(job_id in line and "it broke badly" in line for line in livekit.log().splitlines()):
                await asyncio.sleep(0.02)


async def test_a_declined_job_goes_to_the_next_worker_unless_it_is_final(
    livekit: LiveKitProcess, client: api.LiveKitAPI, name: str, room_name: str
) -> None:
    first, second = Recorder(), Recorder()
    async with joined(livekit, first, name) as one, joined(livekit, second, name) as two:
        await one.registered()
        await two.registered()
        first.decision = Decline()
        for number in range(3):
            await dispatch(client, name, room_name, f"job {number}")
            assert (await second.next())[0] == "assigned"
        first.decision = second.decision = Decline(final=True)
        first.offered.clear()
        second.offered.clear()
        await dispatch(client, name, room_name, "nobody's")
        async with asyncio.timeout(DEADLINE_S):
            while not first.offered + second.offered:
                await asyncio.sleep(0.01)
        # Another one that is taken shows that the refused one is past.
        first.decision = second.decision = Accept("host")
        await dispatch(client, name, room_name, "next")
        async with asyncio.timeout(DEADLINE_S):
            while "next" not in first.offered + second.offered:
                await asyncio.sleep(0.01)
        assert (first.offered + second.offered).count("nobody's") == 1


async def test_offers_come_up_to_the_last_place_and_are_to_be_declined_beyond(
    livekit: LiveKitProcess, client: api.LiveKitAPI, name: str, room_name: str
) -> None:
    handler = Recorder()
    async with joined(livekit, handler, name) as worker:
        await worker.registered()
        for sessions in (0, 7, 8, 9):
            worker.set_load(sessions, 10)
            await dispatch(client, name, room_name)
            assert (await handler.next())[0] == "assigned"
        worker.set_load(10, 10)
        handler.decision = Decline()
        await dispatch(client, name, room_name, "too many")
        async with asyncio.timeout(DEADLINE_S):
            while "too many" not in handler.offered:
                await asyncio.sleep(0.01)
        # What another one takes shows that the declined one is past.
        handler.decision = Accept("host")
        worker.set_load(9, 10)
        await dispatch(client, name, room_name)
        assert (await handler.next())[0] == "assigned"
        assert handler.heard.empty()


async def test_a_draining_worker_gets_nothing_more(
    livekit: LiveKitProcess, client: api.LiveKitAPI, name: str, room_name: str
) -> None:
    draining, other = Recorder(), Recorder()
    async with joined(livekit, draining, name) as one, joined(livekit, other, name) as two:
        await one.registered()
        await two.registered()
        one.drain()
        one.set_load(0, 10)
        for _ in range(3):
            await dispatch(client, name, room_name)
            assert (await other.next())[0] == "assigned"
        assert draining.offered == []


async def test_a_worker_comes_back_after_livekit_was_away(
    start_livekit: StartLiveKit, name: str, room_name: str
) -> None:
    server = await start_livekit()
    handler = Recorder()
    async with joined(server, handler, name) as worker:
        await worker.registered()
        first = worker.worker_id
        await server.restart()
        async with asyncio.timeout(DEADLINE_S):
            while worker.worker_id == first:
                await asyncio.sleep(0.02)
        async with api.LiveKitAPI(server.http_url, server.api_key, server.api_secret) as client:
            await dispatch(client, name, room_name)
            assert (await handler.next())[0] == "assigned"
