"""Data messages: a publication without a track, and so without a SID."""

import asyncio
import time
from typing import Final

import structlog
from livekit import rtc
from livekit.rtc._ffi_client import FfiClient
from livekit.rtc._proto import ffi_pb2, room_pb2
from livekit.rtc.participant import PublishDataError

from track.media.v1.media_service_pb2 import DataTrackStats, DesiredTrack, HostedTrackStats
from track.v1.publication_pb2 import (
    DATA_DELIVERY_LOSSY_MESSAGES,
    DATA_DELIVERY_RELIABLE_MESSAGES,
    DataOptions,
    PublicationSpec,
)
from track_server import errors
from track_server.media.inputs.data import DataFrames
from track_server.media.inputs.timeline import Beat

log = structlog.get_logger(__name__)

_DEFAULT_RATE: Final = 10.0
_BUFFERED_BYTES: Final = 2 * 1024 * 1024
"""How many bytes of reliable messages the SDK has wait in its data channel, by default (rtc 1.2.1)."""
_SENT_S: Final = 20.0
_ARRIVED_S: Final = 1.0
"""What has left arrives at LiveKit, and from there at the receivers: their SDK throws away what comes after the news
that its sender has left."""


def are_messages(spec: PublicationSpec) -> bool:
    """Whether its payloads travel as data messages, not as a data track."""
    return spec.data_options.delivery in (DATA_DELIVERY_RELIABLE_MESSAGES, DATA_DELIVERY_LOSSY_MESSAGES)


async def send_message(room: rtc.Room, payload: bytes, options: DataOptions) -> None:
    """Sends one; a reliable one waits its turn. Raises PublishDataError."""
    await room.local_participant.publish_data(
        payload,
        reliable=options.delivery == DATA_DELIVERY_RELIABLE_MESSAGES,
        destination_identities=list(options.destination_identities),
        topic=options.topic,
    )


async def delivered(room: rtc.Room) -> None:
    """Returns when the reliable messages that were sent so far have left, and have had time to arrive; 20 s at most.

    The SDK says that it has sent a message when that waits in its data channel (rtc 1.2.1), and what waits there
    is lost with the connection. So one more is sent, to nobody, for which the channel has to be empty.
    """
    begun = time.monotonic()
    try:
        async with asyncio.timeout(_SENT_S):
            _wait_beyond(room, 0)
            await room.local_participant.publish_data(b"", destination_identities=[room.local_participant.identity])
    except (TimeoutError, PublishDataError) as error:
        log.info("data_messages_not_sent", cause=repr(error))
        return
    finally:
        _wait_beyond(room, _BUFFERED_BYTES)
    # Receivers lag behind as the channel does.
    await asyncio.sleep(max(_ARRIVED_S, time.monotonic() - begun))


def _wait_beyond(room: rtc.Room, buffered_bytes: int) -> None:
    """Reliable messages wait while more than that is in the data channel. Python's SDK has no method for it."""
    request = ffi_pb2.FfiRequest()
    threshold = request.set_data_channel_buffered_amount_low_threshold
    threshold.local_participant_handle = room.local_participant._ffi_handle.handle
    threshold.kind = room_pb2.KIND_RELIABLE
    threshold.threshold = buffered_bytes
    FfiClient.instance.request(request)


class MessageCarrier:
    """Data messages of the server's own. See Carrier; its `sid` is always ""."""

    sid = ""

    def __init__(self, desired: DesiredTrack) -> None:
        self._options = desired.spec.data_options
        self._frames = DataFrames(desired.spec.data.payload, desired.spec.data.frame_bytes)
        self._beat = Beat(desired.spec.data.frames_per_second or _DEFAULT_RATE)
        self._room: rtc.Room | None = None
        self._counters = DataTrackStats()

    async def open(self) -> None:
        pass

    async def publish(self, room: rtc.Room) -> None:
        # That the first one was sent is all that there is to see of it.
        try:
            await self._send(room)
        except PublishDataError as error:
            raise errors.PublishFailed("LiveKit or the media SDK did not send the data message") from error
        self._room = room

    async def produce(self, live: asyncio.Event) -> None:
        await live.wait()
        # The first one was sent already.
        await self._beat.next()
        while True:
            await self._beat.next()
            if self._room is None:
                continue
            try:
                await self._send(self._room)
            except PublishDataError as error:
                self._counters.frames_refused += 1
                log.info("data_message_refused", cause=str(error))

    async def _send(self, room: rtc.Room) -> None:
        payload = self._frames.next_frame(time.time_ns() // 1000)
        await send_message(room, payload, self._options)
        self._counters.frames_pushed += 1
        self._counters.bytes_pushed += len(payload)

    async def unpublish(self, room: rtc.Room) -> None:
        self._room = None

    def change(self, spec: PublicationSpec) -> None:
        self._options = spec.data_options
        self._frames.change(spec.data.payload, spec.data.frame_bytes)
        self._beat.pace(spec.data.frames_per_second or _DEFAULT_RATE)

    def mute(self, muted: bool) -> None:
        """LiveKit has no such thing for data."""

    async def stats(self) -> HostedTrackStats:
        return HostedTrackStats(data=self._counters)

    async def aclose(self) -> None:
        pass
