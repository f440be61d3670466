"""The client process that changes metadata and attributes, and sees them as another participant and in WatchEvents."""

import asyncio
import time
from typing import Any

import uvloop
from grpc import aio
from livekit import api, rtc

from bench.processes import obey
from track.v1 import event_pb2, metadata_pb2
from track.v1.track_service_pb2_grpc import TrackServiceStub

_DEADLINE_S = 5.0
# As long as that of a track's metadata.
_NAME = "bench.metadata.TR_AAAAAAAAAAAA"


class Described:
    """One track, who changes it, and who looks."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0
        self._attributes: dict[str, asyncio.Future[float]] = {}
        self._events: dict[str, asyncio.Future[float]] = {}
        self._names: tuple[str, str] = ("", _NAME)
        self._channel: aio.Channel | None = None

    async def open(
        self,
        address: str,
        token: str,
        url: str,
        observer: str,
        key: str,
        secret: str,
        room: str,
        identity: str,
        sid: str,
    ) -> None:
        """Joins, watches, and connects."""
        self._room, self._identity, self._sid = room, identity, sid
        self._names = (f"track.metadata.{sid}", _NAME)
        self._observer = rtc.Room()
        self._observer.on("participant_attributes_changed", self._changed)
        await self._observer.connect(url, observer, rtc.RoomOptions(auto_subscribe=False))
        self._api = api.LiveKitAPI(url, key, secret)
        self._channel = aio.insecure_channel(address)
        self._stub = TrackServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        stream = self._stub.WatchEvents(event_pb2.WatchEventsRequest(room=room), metadata=self._metadata)
        opened = asyncio.get_running_loop().create_future()
        self._tasks.append(asyncio.create_task(self._watch(stream, opened)))
        await opened

    async def ours(self) -> list[float]:
        """Milliseconds until the other participant saw a change, and until WatchEvents told of it."""
        text = self._next()
        request = metadata_pb2.SetTrackMetadataRequest(room=self._room, track_sid=self._sid)
        request.replace.update({"n": text})
        seen, told = self._expected(text)
        begun = time.perf_counter()
        calling = asyncio.ensure_future(self._stub.SetTrackMetadata(request, metadata=self._metadata))
        async with asyncio.timeout(_DEADLINE_S):
            times = [(await seen - begun) * 1e3, (await told - begun) * 1e3]
            await calling
        return times

    async def theirs(self) -> float:
        """Milliseconds until the other participant saw an attribute of its own."""
        text = self._next()
        seen, _ = self._expected(text)
        request = api.UpdateParticipantRequest(
            room=self._room, identity=self._identity, attributes={_NAME: f'{{"n":"{text}"}}'}
        )
        begun = time.perf_counter()
        calling = asyncio.ensure_future(self._api.room.update_participant(request))
        async with asyncio.timeout(_DEADLINE_S):
            took = (await seen - begun) * 1e3
            await calling
        return took

    def _next(self) -> str:
        self._number += 1
        return f"{self._number:08d}"

    def _expected(self, text: str) -> tuple[asyncio.Future[float], asyncio.Future[float]]:
        loop = asyncio.get_running_loop()
        self._attributes = {f'{{"n":"{text}"}}': loop.create_future()}
        self._events = {text: loop.create_future()}
        return next(iter(self._attributes.values())), self._events[text]

    def _changed(self, changed: dict[str, str], participant: Any) -> None:
        for name in self._names:
            future = self._attributes.get(changed.get(name, ""))
            if future is not None and not future.done():
                future.set_result(time.perf_counter())

    async def _watch(self, stream: Any, opened: "asyncio.Future[None]") -> None:
        async for message in stream:
            at = time.perf_counter()
            if not opened.done():
                opened.set_result(None)
            if message.event.WhichOneof("change") == "metadata_changed":
                shown = message.event.metadata_changed.metadata.metadata
                future = self._events.get(shown.fields["n"].string_value)
                if future is not None and not future.done():
                    future.set_result(at)

    async def aclose(self) -> None:
        """Leaves."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
            await self._observer.disconnect()
            await self._api.aclose()


async def _main() -> None:
    described = Described()
    try:
        await obey({"open": described.open, "ours": described.ours, "theirs": described.theirs})
    finally:
        await described.aclose()


if __name__ == "__main__":
    uvloop.run(_main())
