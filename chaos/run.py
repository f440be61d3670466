"""One run: rooms with participants that never stop, faults at random, and points at which all must agree."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from livekit import api
from livekit.protocol import models

from chaos.actors import Actor, Operator
from chaos.observer import Observer
from chaos.relay import Relay
from chaos.replay import differences
from tests.livekit_process import LiveKitProcess, tool
from tests.participants import participant
from tests.track_process import TrackProcess
from track.v1 import track_pb2, tracks_pb2

# Longer than LiveKit and the SDK take to see who is gone, and than a watched room is waited for that is no more.
_AGREED_S: Final = 120.0
_DOUBTED_S: Final = 30.0
_LOOK_S: Final = 0.2
# Longer than LiveKit takes to tell of who does not publish.
_WITNESS_S: Final = 5.0
_FAULTS_BETWEEN_LOOKS: Final = (2, 5)

Fault = Callable[[], Awaitable[None]]


@dataclass
class Figures:
    """What happened."""

    counted: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def found(self, text: str) -> None:
        """Something is wrong."""
        print(f"FOUND {text}")
        self.findings.append(text)


class Run:
    """Two rooms in one LiveKit behind a relay, and one TrackService."""

    def __init__(
        self,
        livekit: LiveKitProcess,
        track: TrackProcess,
        relay: Relay,
        observers: dict[str, Observer],
        actors: list[Actor | Operator],
        dice: random.Random,
        figures: Figures,
    ) -> None:
        self._livekit = livekit
        self._track = track
        self._relay = relay
        self._observers = observers
        self._actors = actors
        self._dice = dice
        self._figures = figures
        self.faults: Final[dict[str, Fault]] = {
            "LiveKit killed": self._kill_livekit,
            "server killed": self._kill_server,
            "server stopped": self._stop_server,
            "server frozen": self._freeze_server,
            "watcher cut": self._cut,
            "watcher shut out": self._shut,
            "watcher stalled": self._stall,
            "caller cut": self._cut_caller,
            "room deleted": self._delete_room,
        }

    async def strike(self, fault: str, *, within_s: float) -> None:
        """Has one fault happen, after a while of ``within_s`` seconds at most."""
        await asyncio.sleep(self._dice.uniform(0.1, within_s))
        self._figures.counted[fault] += 1
        await self.faults[fault]()

    async def agree(self) -> None:
        """Has everybody stand still until each stream tells what LiveKit does; then looks back."""
        await asyncio.gather(*(actor.hold() for actor in self._actors))
        for room, observer in self._observers.items():
            await self._compare(room, observer)
            await observer.look_back(self._dice.random())
        for actor in self._actors:
            actor.go_on()

    async def _compare(self, room: str, observer: Observer) -> None:
        deadline = time.monotonic() + _AGREED_S
        doubted = time.monotonic() + _DOUBTED_S
        witnessed: set[str] = set()
        while True:
            infos = await _participants(self._livekit, room)
            found = differences(observer.replay, infos, room) + await self._unlisted(room, observer)
            alive = observer.replay.source == track_pb2.FRESHNESS_SOURCE_WATCHED or not infos
            if not found and alive:
                break
            if time.monotonic() > doubted:
                # After a room was deleted while somebody joined, LiveKit may list who is in none.
                witnessed = await self._witnessed(room)
                told_of = [info for info in infos if info.sid in witnessed]
                if alive and not differences(observer.replay, told_of, room):
                    self._figures.counted["LiveKit lists others than it tells of"] += 1
                    break
                doubted = time.monotonic() + _DOUBTED_S
            if time.monotonic() > deadline:
                states = [f"{one.identity} {one.sid} {models.ParticipantInfo.State.Name(one.state)}" for one in infos]
                self._figures.found(
                    f"{room}: {'; '.join(found) or 'is not watched again'}; LiveKit lists {states},"
                    f" and tells who joins of {sorted(witnessed)}"
                )
                break
            await asyncio.sleep(_LOOK_S)
        self._figures.counted["rooms compared"] += 1
        self._figures.counted["participants compared"] += len(observer.replay.participants)
        self._figures.counted["tracks compared"] += len(observer.replay.tracks)

    async def _witnessed(self, room: str) -> set[str]:
        """SIDs of whom the SDK of somebody who joins now is told."""
        async with participant(self._livekit, room, "witness", auto_subscribe=False) as joined:
            await asyncio.sleep(_WITNESS_S)
            return {one.sid for one in joined.remote_participants.values()}

    async def _unlisted(self, room: str, observer: Observer) -> list[str]:
        """Tracks whose metadata is told otherwise than TrackService lists it."""
        async with self._track.client("checker", room_admin=True, room=room) as client:
            try:
                listed = (await client.ListTracks(tracks_pb2.ListTracksRequest(room=room, page_size=1000))).tracks
            except grpc.aio.AioRpcError as error:
                # Nobody is in a room that is not there.
                return [str(error.code())] if observer.replay.tracks else []
        told = observer.replay.tracks
        return [
            f"metadata of {one.sid} is {one.metadata}, not {told[one.sid].metadata}"
            for one in listed
            if one.sid in told and told[one.sid].metadata != one.metadata
        ]

    async def _kill_livekit(self) -> None:
        await self._livekit.kill()
        await asyncio.sleep(self._dice.uniform(0.0, 2.0))
        await self._livekit.start()

    async def _kill_server(self) -> None:
        await self._track.kill()
        await asyncio.sleep(self._dice.uniform(0.0, 1.5))
        await self._track.start()

    async def _stop_server(self) -> None:
        await self._track.stop()
        await self._track.start()

    async def _freeze_server(self) -> None:
        self._track.pause()
        await asyncio.sleep(self._dice.uniform(0.5, 3.0))
        self._track.resume()

    async def _cut(self) -> None:
        self._relay.cut()

    async def _shut(self) -> None:
        self._relay.shut()
        await asyncio.sleep(self._dice.uniform(0.2, 3.0))
        self._relay.open()

    async def _stall(self) -> None:
        self._relay.stall()
        await asyncio.sleep(self._dice.uniform(0.5, 3.0))
        self._relay.open()

    async def _cut_caller(self) -> None:
        self._dice.choice(list(self._observers.values())).cut()

    async def _delete_room(self) -> None:
        room = self._dice.choice(list(self._observers))
        with contextlib.suppress(api.TwirpError):
            async with _api(self._livekit) as client:
                await client.room.delete_room(api.DeleteRoomRequest(room=room))


@contextlib.asynccontextmanager
async def running(seed: int, directory: Path, figures: Figures, *, actors: int) -> AsyncIterator[Run]:
    """A run for the span of the block, with so many participants in each of two rooms."""
    dice = random.Random(seed)
    rooms = [f"chaos-{seed}-{name}" for name in ("a", "b")]
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        livekit = await enter(LiveKitProcess(tool("livekit-server"), directory / "livekit"))
        relay = await enter(Relay(livekit.port))
        settings = {
            "LIVEKIT_URL": await relay.start(),
            "TRACK_MEDIA_WORKERS": "0",
            "TRACK_MAX_EVENTS_PER_ROOM": "2000",
        }
        track = await enter(TrackProcess(livekit, directory / "track", settings))
        cast = [
            await enter(Actor(livekit, room, f"actor-{number}", random.Random(dice.random())))
            for room in rooms
            for number in range(actors)
        ]
        observers = {room: await enter(Observer(track, room, figures.found, figures.counted)) for room in rooms}
        operators = [
            await enter(Operator(track, room, observer.tracks, random.Random(dice.random())))
            for room, observer in observers.items()
        ]
        yield Run(livekit, track, relay, observers, [*cast, *operators], dice, figures)
        figures.counted["calls answered"] = sum(operator.answered for operator in operators)
        figures.counted["steps of participants"] = sum(actor.steps for actor in cast)
        figures.findings += [
            f"the server logged {line['event']}: {line}" for line in track.log() if line.get("level") == "error"
        ]


async def long(seed: int, seconds: float, directory: Path) -> Figures:
    """Faults at random for so long."""
    figures = Figures()
    dice = random.Random(seed + 1)
    end = time.monotonic() + seconds
    async with running(seed, directory, figures, actors=3) as run:
        while time.monotonic() < end:
            for _ in range(dice.randint(*_FAULTS_BETWEEN_LOOKS)):
                await run.strike(dice.choice(list(run.faults)), within_s=4.0)
            await run.agree()
            print(f"{end - time.monotonic():6.0f} s left: {dict(figures.counted)}", flush=True)
    return figures


async def short(seed: int, directory: Path) -> Figures:
    """Each fault once, in an order of the seed's, and two points of agreement."""
    figures = Figures()
    async with running(seed, directory, figures, actors=2) as run:
        faults = list(run.faults)
        random.Random(seed).shuffle(faults)
        for half in (faults[: len(faults) // 2], faults[len(faults) // 2 :]):
            for fault in half:
                await run.strike(fault, within_s=1.0)
            await run.agree()
    return figures


async def _participants(livekit: LiveKitProcess, room: str) -> list[Any]:
    async with _api(livekit) as client:
        answer = await client.room.list_participants(api.ListParticipantsRequest(room=room))
    return list(answer.participants)


def _api(livekit: LiveKitProcess) -> api.LiveKitAPI:
    return api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret)
