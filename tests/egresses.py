"""A LiveKit cluster with an Egress that a test plays, and requests for recordings."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from livekit import api
from livekit.protocol import egress

from tests.egress_process import EgressProcess
from tests.livekit_process import LiveKitProcess, ToolMissingError, tool
from tests.livekit_rooms import livekit_api
from tests.redis_process import Redis, redis
from tests.track_process import Client, TrackProcess
from track.v1 import egress_pb2 as pb

DEADLINE_S = 45.0

STARTING = pb.EGRESS_STATE_STARTING
ACTIVE = pb.EGRESS_STATE_ACTIVE
WAITING = pb.EGRESS_STATE_WAITING
ENDING = pb.EGRESS_STATE_ENDING
COMPLETE = pb.EGRESS_STATE_COMPLETE
FAILED = pb.EGRESS_STATE_FAILED
ABORTED = pb.EGRESS_STATE_ABORTED

# A worker that is there is given the time that a busy machine may take.
PATIENT = {"TRACK_EGRESS_START_SECONDS": "20"}
PLACES = {
    "TRACK_EGRESS_FILE_PREFIXES": "recordings/,/out/",
    "TRACK_EGRESS_BUCKETS": "s3:tapes,s3:minio.example:9000/tapes,gcs:tapes,azure:acme/tapes,azure:own",
    "TRACK_EGRESS_WEBSOCKET_HOSTS": "ears.example,ws://ears.example:8080",
}


class EgressCluster:
    """LiveKit with Redis, an Egress, and TrackService in front of it. ``disk``: of the Egress."""

    def __init__(self, livekit: LiveKitProcess, store: Redis, worker: EgressProcess, track: TrackProcess) -> None:
        self.livekit = livekit
        self.redis = store
        self.worker = worker
        self.track = track

    @property
    def disk(self) -> Path:
        """The disk of the Egress, which TrackService reaches."""
        return self.track.directory.parent / "disk"

    @contextlib.asynccontextmanager
    async def recorder(self, room: str, track: TrackProcess | None = None) -> AsyncIterator[Client]:
        """Who may record in the room, administer and read it."""
        grants: dict[str, Any] = {"room_record": True, "room_admin": True, "room_join": True, "room": room}
        async with (track or self.track).client("recorder", **grants) as client:
            yield client

    async def listed(self, room: str) -> list[egress.EgressInfo]:
        """All that LiveKit knows of in the room."""
        async with livekit_api(self.livekit) as client:
            return list((await client.egress.list_egress(api.ListEgressRequest(room_name=room))).items)


@contextlib.asynccontextmanager
async def egress_cluster(directory: Path, **settings: str) -> AsyncIterator[EgressCluster]:
    """Runs for the span of the block."""
    for part in ("redis", "track", "disk"):
        (directory / part).mkdir()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        try:
            store = await enter(redis(directory / "redis"))
            binary = tool("livekit-server")
            tool("egress-worker")
        except ToolMissingError as error:
            pytest.fail(str(error), pytrace=False)
        config = {"redis": {"address": store.address}}
        livekit = await enter(LiveKitProcess(binary, directory / "livekit", config))
        worker = await enter(EgressProcess(store.address, directory / "disk"))
        everything = {**PATIENT, **PLACES, "TRACK_EGRESS_DIR": str(directory / "disk"), **settings}
        track = await enter(TrackProcess(livekit, directory / "track", everything))
        yield EgressCluster(livekit, store, worker, track)


def to_file(filepath: str, **storage: Any) -> pb.EgressOutput:
    """Records to a file."""
    return pb.EgressOutput(file=pb.EgressFile(filepath=filepath, **storage))


async def start(client: Client, room: str, output: pb.EgressOutput, **target: Any) -> pb.TrackEgress:
    """Starts a recording."""
    request = pb.StartTrackEgressRequest(room=room, output=output, **target)
    answer = await client.StartTrackEgress(request, timeout=DEADLINE_S)
    found: pb.TrackEgress = answer.egress
    return found


async def stop(client: Client, egress: pb.TrackEgress) -> pb.TrackEgress:
    """Stops it."""
    request = pb.StopTrackEgressRequest(room=egress.room, egress_id=egress.egress_id)
    answer = await client.StopTrackEgress(request, timeout=DEADLINE_S)
    found: pb.TrackEgress = answer.egress
    return found


async def get(client: Client, egress: pb.TrackEgress) -> pb.TrackEgress:
    """It, as it is now."""
    request = pb.GetTrackEgressRequest(room=egress.room, egress_id=egress.egress_id)
    found: pb.TrackEgress = (await client.GetTrackEgress(request, timeout=DEADLINE_S)).egress
    return found


async def until(client: Client, known: pb.TrackEgress, condition: Callable[[pb.TrackEgress], bool]) -> pb.TrackEgress:
    """Asks for it until ``condition`` holds of it."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition(known):
            await asyncio.sleep(0.05)
            known = await get(client, known)
    return known


async def until_state(client: Client, known: pb.TrackEgress, *states: int) -> pb.TrackEgress:
    """Asks for it until it is in one of the states."""
    return await until(client, known, lambda now: now.state in states)


async def listed(client: Client, room: str, filter: str = "") -> list[pb.TrackEgress]:  # noqa: A002 - the field's name
    """All recordings of the room."""
    request = pb.ListTrackEgressRequest(room=room, filter=filter)
    return list((await client.ListTrackEgress(request, timeout=DEADLINE_S)).egress)
