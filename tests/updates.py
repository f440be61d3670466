"""UpdatePublication, shortly said; and a subscriber that looks at the pictures of whatever it can."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.media.viewer import luma
from tests.participants import participant
from tests.receivers import eventually
from tests.track_process import Client
from track.v1 import publication_pb2
from track.v1 import publication_update_pb2 as pb
from track_server.media.inputs.clock import read_clock

NONE = pb.UPDATE_METHOD_NONE
IN_PLACE = pb.UPDATE_METHOD_IN_PLACE
REPLACED = pb.UPDATE_METHOD_REPLACED


def update_of(
    publication: publication_pb2.Publication, spec: publication_pb2.PublicationSpec, *paths: str
) -> pb.UpdatePublicationRequest:
    """The request."""
    return pb.UpdatePublicationRequest(
        room=publication.room,
        publication_id=publication.publication_id,
        spec=spec,
        update_mask=FieldMask(paths=paths),
    )


async def update(
    client: Client, publication: publication_pb2.Publication, spec: publication_pb2.PublicationSpec, *paths: str
) -> pb.UpdatePublicationResponse:
    """Changes the fields that are named."""
    answer: pb.UpdatePublicationResponse = await client.UpdatePublication(
        update_of(publication, spec, *paths), timeout=40
    )
    return answer


def video(**options: object) -> publication_pb2.PublicationSpec:
    """Nothing but video options."""
    return publication_pb2.PublicationSpec(video=publication_pb2.VideoOptions(**options))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Picture:
    """One that was decoded. ``time_s``: when, by the loop's clock. ``clock_ms``: what is burnt in, None: unreadable."""

    sid: str
    time_s: float
    width: int
    height: int
    clock_ms: int | None


class Audience:
    """A participant that subscribes to what it can. ``pictures``: of all video tracks, in the order they came."""

    def __init__(self, room: rtc.Room) -> None:
        self.room = room
        self.pictures: list[Picture] = []
        self._tasks: list[asyncio.Task[None]] = []
        room.on("track_subscribed", self._subscribed)

    def of(self, sid: str) -> list[Picture]:
        """Those of one track."""
        return [picture for picture in self.pictures if picture.sid == sid]

    async def sees(self, sid: str, more: int = 8) -> None:
        """Waits for that many more pictures of the track."""
        wanted = len(self.of(sid)) + more
        await eventually(lambda: len(self.of(sid)) >= wanted, lambda: f"{len(self.of(sid))} pictures of {sid}")

    def gap_s(self, old: str, new: str) -> float:
        """From the last picture of the one to the first of the other; below 0 where the new one came first."""
        return self.of(new)[0].time_s - self.of(old)[-1].time_s

    def _subscribed(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            self._tasks.append(asyncio.create_task(self._look(track)))

    async def _look(self, track: rtc.Track) -> None:
        stream = rtc.VideoStream(track, format=rtc.VideoBufferType.I420)
        loop = asyncio.get_running_loop()
        try:
            async for event in stream:
                frame = event.frame
                # After its end a video track is a few blank pictures of 8x8.
                if frame.width > 8:
                    clock = read_clock(luma(frame)) if frame.width >= 128 else None
                    self.pictures.append(Picture(track.sid, loop.time(), frame.width, frame.height, clock))
        finally:
            await stream.aclose()

    async def aclose(self) -> None:
        """Stops looking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def audience(
    livekit: LiveKitProcess, room: str, identity: str = "ann", *, auto_subscribe: bool = True
) -> AsyncIterator[Audience]:
    """Joins the room; leaves at the end."""
    async with participant(livekit, room, identity, auto_subscribe=auto_subscribe) as joined:
        seen = Audience(joined)
        try:
            yield seen
        finally:
            await seen.aclose()
