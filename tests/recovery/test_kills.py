"""A worker, or the child that hosts, dies in the middle of every state: live again, and not twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import psutil
import pytest
import pytest_asyncio
from livekit.api import ListParticipantsRequest

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room, livekit_api
from tests.recovery.test_recovery import DATA, LIVE, events, publish, until
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2

PENDING = publication_pb2.PUBLICATION_STATE_PENDING
STARTING = publication_pb2.PUBLICATION_STATE_STARTING
RESTARTING = publication_pb2.PUBLICATION_STATE_RESTARTING
DEADLINE_S = 45.0

Kill = Callable[[TrackProcess], None]


def kill_worker(track: TrackProcess) -> None:
    """Its children die with it."""
    track.worker.kill()


def kill_children(track: TrackProcess) -> None:
    """Those that there are, also where they are stopped."""
    for child in children(track):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


class Own(NamedTuple):
    """Servers of one test alone, and an admin of its room, which exists."""

    livekit: LiveKitProcess
    track: TrackProcess
    client: Client


@pytest_asyncio.fixture
async def own(start_livekit: StartLiveKit, start_track: StartTrack, room_name: str) -> AsyncIterator[Own]:
    """They."""
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client, existing_room(livekit, room_name):
        yield Own(livekit, track, client)


either = pytest.mark.parametrize("kill", [kill_worker, kill_children])


def children(track: TrackProcess) -> list[psutil.Process]:
    """The processes that load the SDK."""
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        found: list[psutil.Process] = track.worker.children()
        return found
    return []


@contextlib.asynccontextmanager
async def asked(client: Client, room: str) -> AsyncIterator[publication_pb2.Publication]:
    """A publication that cannot become live in the block, after which its caller sees it live."""
    request = publication_pb2.PublishTrackRequest(room=room, spec=DATA)
    publishing = asyncio.ensure_future(client.PublishTrack(request, timeout=60))
    try:
        async with asyncio.timeout(DEADLINE_S):
            listing = publication_pb2.ListPublicationsRequest(room=room)
            while not (found := (await client.ListPublications(listing)).publications):
                await asyncio.sleep(0.02)
        yield found[0]
        assert (await publishing).publication.state == LIVE
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


async def live_and_alone(client: Client, livekit: LiveKitProcess, publication: Any) -> None:
    """It becomes live, and LiveKit has that one track and no other in the room."""
    back = await until(client, publication, lambda found: found.state == LIVE)
    assert back.participant_identity == publication.participant_identity
    async with livekit_api(livekit) as api, asyncio.timeout(DEADLINE_S):
        while True:
            # What died stays in the room for a moment, until the one that takes its place throws it out.
            listed = (await api.room.list_participants(ListParticipantsRequest(room=back.room))).participants
            tracks = {
                participant.identity: [
                    *(track.sid for track in participant.tracks),
                    *(track.sid for track in participant.data_tracks),
                ]
                for participant in listed
                if not participant.permission.hidden
            }
            back = await until(client, publication, lambda found: found.state == LIVE)
            if tracks == {back.participant_identity: [back.track_sid]}:
                return
            await asyncio.sleep(0.05)


async def logged(track: TrackProcess, event: str, times: int = 1) -> None:
    """Waits until the server has logged it."""
    async with asyncio.timeout(DEADLINE_S):
        while len(track.logged(event)) < times:
            await asyncio.sleep(0.02)


@either
async def test_killed_while_a_publication_is_pending(own: Own, room_name: str, kill: Kill) -> None:
    livekit, track, client = own
    await logged(track, "media_worker_ready")
    worker = track.worker
    worker.suspend()
    async with asked(client, room_name) as pending:
        assert pending.state == PENDING
        kill(track)
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()
    await live_and_alone(client, livekit, pending)


@either
async def test_killed_between_the_offer_and_the_attachment(own: Own, room_name: str, kill: Kill) -> None:
    livekit, track, client = own
    await logged(track, "media_worker_ready")
    for child in children(track):
        child.suspend()
    async with asked(client, room_name) as pending:
        await logged(track, "session_placed")
        kill(track)
    await live_and_alone(client, livekit, pending)


@either
async def test_killed_while_a_publication_is_starting(own: Own, room_name: str, kill: Kill) -> None:
    livekit, track, client = own
    async with events(client, room_name) as got:
        await logged(track, "media_worker_ready")
        async with asyncio.timeout(DEADLINE_S):
            while not got:
                await asyncio.sleep(0.02)
        # The session attaches to the server, and cannot join.
        livekit.pause()
        try:
            async with asked(client, room_name) as starting:
                await until(client, starting, lambda found: found.state == STARTING)
                kill(track)
                await until(client, starting, lambda found: found.state != STARTING)
                livekit.resume()
        finally:
            livekit.resume()
        await live_and_alone(client, livekit, starting)


@either
async def test_killed_while_a_publication_is_live(own: Own, room_name: str, kill: Kill) -> None:
    livekit, track, client = own
    live = await publish(client, room_name, DATA, "host")
    kill(track)
    back = await until(client, live, lambda found: found.state == LIVE and len(found.lineage) > 1)
    await live_and_alone(client, livekit, back)


@either
async def test_killed_while_a_publication_is_restarting(own: Own, room_name: str, kill: Kill) -> None:
    livekit, track, client = own
    live = await publish(client, room_name, DATA, "host")
    first = track.worker.pid
    track.worker.kill()
    async with asyncio.timeout(DEADLINE_S):
        while not (workers := replacement(track, first)) or (kill is kill_children and not children(track)):
            await asyncio.sleep(0.005)
    kill(track)
    assert workers
    restarting = await until(client, live, lambda found: len(found.lineage) > 1 or found.state == RESTARTING)
    assert RESTARTING in [move.state for move in restarting.moves]
    await until(client, live, lambda found: found.state == LIVE and len(found.lineage) > 1)
    await live_and_alone(client, livekit, live)


def replacement(track: TrackProcess, first: int) -> list[int]:
    """The worker that has taken the place of the first one, if it is there."""
    with contextlib.suppress(ValueError, psutil.NoSuchProcess):
        return [pid for pid in [track.worker.pid] if pid != first]
    return []
