"""Payloads that a caller pushes, as frames of a data track or as data messages: each at once."""

import asyncio

import structlog
from livekit import rtc
from livekit.rtc.participant import PublishDataError

from track.media.v1.media_service_pb2 import DataTrackStats, DesiredTrack, HostedTrackStats
from track.v1.publication_pb2 import DATA_DELIVERY_RELIABLE_MESSAGES, PublicationSpec
from track_server.media.carriers import DataCarrier
from track_server.media.inputs.pushed import Pushed, PushedFrames
from track_server.media.messages import delivered, send_message
from track_server.pushwire import Kind

log = structlog.get_logger(__name__)


class PushedDataCarrier(DataCarrier):
    """A data track. See Carrier."""

    def __init__(self, desired: DesiredTrack) -> None:
        super().__init__(desired)
        self._source = desired.push
        self._pushed = PushedFrames()

    async def open(self) -> None:
        await self._pushed.connect(self._source)

    async def produce(self, live: asyncio.Event) -> None:
        await live.wait()
        while (item := await self._pushed.next()) is not Kind.END:
            if isinstance(item, Pushed):
                refused = self._counters.frames_refused
                if self._track is not None:
                    self._push(self._track, bytes(item.data))
                if self._track is None or self._counters.frames_refused > refused:
                    self._pushed.dropped(item)
                else:
                    self._pushed.taken(item)

    def change(self, spec: PublicationSpec) -> None:
        """Nothing of it is this worker's business."""

    async def aclose(self) -> None:
        self._pushed.close()


class PushedMessageCarrier:
    """Data messages. See Carrier; its `sid` is always ""."""

    sid = ""

    def __init__(self, desired: DesiredTrack) -> None:
        self._options = desired.spec.data_options
        self._source = desired.push
        self._pushed = PushedFrames()
        self._room: rtc.Room | None = None
        self._counters = DataTrackStats()

    async def open(self) -> None:
        await self._pushed.connect(self._source)

    async def publish(self, room: rtc.Room) -> None:
        self._room = room

    async def produce(self, live: asyncio.Event) -> None:
        await live.wait()
        while (item := await self._pushed.next()) is not Kind.END:
            if isinstance(item, Pushed):
                await self._send(item)
        if self._room is not None and self._options.delivery == DATA_DELIVERY_RELIABLE_MESSAGES:
            await delivered(self._room)

    async def _send(self, item: Pushed) -> None:
        room = self._room
        try:
            if room is not None:
                await send_message(room, bytes(item.data), self._options)
        except PublishDataError as error:
            room = None
            log.info("data_message_refused", cause=str(error))
        if room is None:
            self._counters.frames_refused += 1
            self._pushed.dropped(item)
            return
        self._counters.frames_pushed += 1
        self._counters.bytes_pushed += len(item.data)
        self._pushed.taken(item)

    async def unpublish(self, room: rtc.Room) -> None:
        self._room = None

    def change(self, spec: PublicationSpec) -> None:
        self._options = spec.data_options

    def mute(self, muted: bool) -> None:
        """LiveKit has no such thing for data."""

    async def stats(self) -> HostedTrackStats:
        return HostedTrackStats(data=self._counters)

    async def aclose(self) -> None:
        self._pushed.close()
