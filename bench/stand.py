"""What the figures are measured on: a real LiveKit, a real TrackService, and rooms with tracks in them."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from livekit import api

from bench.processes import Helper, cores, pinned
from tests.livekit_process import LiveKitProcess, tool
from tests.track_process import TrackProcess

PARTICIPANTS: Final = 5
TRACKS: Final = 2 * PARTICIPANTS
UNLIMITED: Final = {
    "max_requests_per_second": 1_000_000,
    "max_requests_per_second_per_principal": 1_000_000,
    "max_requests_per_second_per_room": 1_000_000,
}
"""Settings with which no call comes too often: one caller of one room is all that most figures have."""
LONG_S: Final = 3600
"""Rooms outlive the bench, also empty ones."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure. ``rounds``: of each side of a ratio; ``seconds``: each; ``events``: latencies of each."""

    rounds: int
    seconds: float
    events: int
    publications: int
    skews: int
    gaps: int
    idle_rooms: int
    kills: int
    worker_rooms: int

    @classmethod
    def full(cls) -> Self:
        """What the committed figures are measured with."""
        return cls(
            rounds=5,
            seconds=3.0,
            events=500,
            publications=10,
            skews=30,
            gaps=20,
            idle_rooms=100,
            kills=20,
            worker_rooms=200,
        )

    @classmethod
    def quick(cls) -> Self:
        """To see that it works."""
        return cls(
            rounds=2, seconds=1.0, events=60, publications=3, skews=5, gaps=3, idle_rooms=20, kills=3, worker_rooms=20
        )


class Stand:
    """Servers on one core, clients on the other; ``server_cpus`` and ``client_cpus`` say which."""

    def __init__(self, livekit: LiveKitProcess, directory: Path, effort: Effort) -> None:
        self.livekit = livekit
        self.directory = directory
        self.effort = effort
        self.server_cpus, self.client_cpus = cores()

    @contextlib.asynccontextmanager
    async def track_service(
        self, settings: Mapping[str, str], *, cpus: set[int] | None = None
    ) -> AsyncIterator[TrackProcess]:
        """TrackService as `track-server serve` runs it, in token mode with JSON log lines, on the servers' core."""
        directory = self.directory / f"track-{uuid.uuid4().hex[:8]}"
        unlimited = {f"TRACK_{name.upper()}": str(value) for name, value in UNLIMITED.items()}
        track = TrackProcess(self.livekit, directory, {"TRACK_ROOM_LINGER_SECONDS": "30", **unlimited, **settings})
        directory.mkdir()
        with pinned(cpus or self.server_cpus):
            await track.start()
        try:
            yield track
        finally:
            await track.stop()

    def client(self, module: str, *arguments: str) -> Helper:
        """A process on the clients' core."""
        return Helper(module, *arguments, cpus=self.client_cpus)

    def server(self, module: str, *arguments: str) -> Helper:
        """A process on the servers' core."""
        return Helper(module, *arguments, cpus=self.server_cpus)

    def token(self, identity: str, **grants: Any) -> str:
        """A LiveKit access token."""
        made = api.AccessToken(self.livekit.api_key, self.livekit.api_secret).with_identity(identity)
        return made.with_grants(api.VideoGrants(**grants)).to_jwt()

    def api(self) -> api.LiveKitAPI:
        """LiveKit's API."""
        return api.LiveKitAPI(self.livekit.http_url, self.livekit.api_key, self.livekit.api_secret)

    async def room(self) -> str:
        """A new room, empty."""
        return (await self.rooms(1))[0]

    async def rooms(self, count: int) -> list[str]:
        """New rooms, empty."""
        names = [f"bench-{uuid.uuid4().hex[:12]}" for _ in range(count)]
        async with self.api() as client:
            for name in names:
                await client.room.create_room(
                    api.CreateRoomRequest(name=name, empty_timeout=LONG_S, departure_timeout=LONG_S)
                )
        return names

    @contextlib.asynccontextmanager
    async def populated(self) -> AsyncIterator[tuple[str, list[str]]]:
        """A room in which five participants publish a microphone and a camera each, and the tracks' SIDs."""
        name = await self.room()
        tokens = [self.token(f"speaker-{n}", room=name, room_join=True) for n in range(PARTICIPANTS)]
        async with self.client("bench.sdk") as sdk:
            yield name, await sdk.ask("populate", url=self.livekit.url, tokens=tokens)


@contextlib.asynccontextmanager
async def standing(directory: Path, effort: Effort) -> AsyncIterator[Stand]:
    """The stand with its LiveKit, for the span of the block."""
    livekit = LiveKitProcess(tool("livekit-server"), directory / "livekit")
    server_cpus, _ = cores()
    try:
        with pinned(server_cpus):
            await livekit.start()
        yield Stand(livekit, directory, effort)
    finally:
        await livekit.aclose()
