"""What a publication is made of in the SDK: a source that is fed, and the track that carries it into the room."""

import asyncio
import time
from typing import Any, Final, Protocol

import structlog
from livekit import rtc
from livekit.rtc.participant import PublishDataTrackError, PublishTrackError, UnpublishTrackError

from track.media.v1.media_service_pb2 import DataTrackStats, DesiredTrack, HostedTrackStats
from track.v1.publication_pb2 import PublicationSpec
from track_server import errors
from track_server.media import stats
from track_server.media.feeder import SharedFeeder
from track_server.media.inputs.data import DataFrames
from track_server.media.inputs.timeline import Beat
from track_server.media.options import most_bps, publish_options
from track_server.mediachange import same_feed

log = structlog.get_logger(__name__)

STREAM: Final = "track"
"""The media stream of all tracks of a session: receivers play them in sync."""
_DEFAULT_DATA_RATE: Final = 10.0
_NAME_FREE_S: Final = 2.0
_UNPUBLISH_S: Final = 3.0
"""Without a connection the SDK may never say that it has unpublished; it does not publish it again all the same."""


class Carrier(Protocol):
    """`open`, then `produce` and `publish`, then `unpublish` and `aclose`; `aclose` alone if it never got so far."""

    @property
    def sid(self) -> str:
        """The track's SID while it is published, else ""."""

    async def open(self) -> None:
        """Open the input. Raises TrackError."""

    async def produce(self, live: asyncio.Event) -> None:
        """Feed the track until the input ends. The content begins when `live` is set, as far as that matters to it."""

    async def publish(self, room: rtc.Room) -> None:
        """Publish the track; `sid` is set then. Raises PublishFailed."""

    async def unpublish(self, room: rtc.Room) -> None:
        """Take it away."""

    def change(self, spec: PublicationSpec) -> None:
        """Takes over what can change while it is there."""

    def mute(self, muted: bool) -> None:
        """Have it published muted or not."""

    async def stats(self) -> HostedTrackStats:
        """What it has sent; without `publication_id` and times."""

    async def aclose(self) -> None:
        """Give back what it holds."""


class MediaCarrier:
    """An audio or video track."""

    def __init__(self, desired: DesiredTrack, feeder: SharedFeeder) -> None:
        self._spec = desired.spec
        self._feeder = feeder
        self._track = feeder.create_track(desired.spec.name)
        if desired.muted:
            self._track.mute()
        self._publication: rtc.LocalTrackPublication | None = None
        self._loudness = stats.Loudness()

    @property
    def sid(self) -> str:
        # The SDK changes it in place when it publishes again after a full reconnect.
        return self._publication.sid if self._publication is not None else ""

    async def open(self) -> None:
        await self._feeder.open()

    async def produce(self, live: asyncio.Event) -> None:
        await self._feeder.produce(live)

    @property
    def most_bps(self) -> int:
        """Bits per second that it may take at most."""
        return most_bps(self._spec)

    def share(self, spec: PublicationSpec) -> SharedFeeder | None:
        """What feeds it, for one more track, where it has what the spec asks for."""
        return self._feeder.hold() if same_feed(self._spec, spec) else None

    def change(self, spec: PublicationSpec) -> None:
        self._spec = spec
        self._feeder.change(spec)

    def mute(self, muted: bool) -> None:
        if muted:
            self._track.mute()
        else:
            self._track.unmute()

    async def publish(self, room: rtc.Room) -> None:
        try:
            self._publication = await room.local_participant.publish_track(
                self._track, publish_options(self._spec, STREAM)
            )
        except PublishTrackError as error:
            raise errors.PublishFailed("LiveKit or the media SDK did not publish the track") from error

    async def unpublish(self, room: rtc.Room) -> None:
        publication, self._publication = self._publication, None
        if publication is not None and room.isconnected():
            await take_away(room, publication.sid)

    async def stats(self) -> HostedTrackStats:
        reports: list[Any] = await self._track.get_stats()
        result = HostedTrackStats(track_sid=self.sid, streams=stats.rtp_streams(reports))
        if (available_bps := stats.available_bps(reports)) is not None:
            result.available_bps = available_bps
        audio_level, brightness = self._loudness.since(reports), self._feeder.brightness()
        # What the source has while it is muted is nobody's business.
        if not self._track.muted:
            if audio_level is not None:
                result.audio_level = audio_level
            if brightness is not None:
                result.brightness = brightness
        return result

    async def aclose(self) -> None:
        await self._feeder.aclose()


async def take_away(room: rtc.Room, sid: str) -> None:
    """Unpublish a media track, where it is still there."""
    try:
        async with asyncio.timeout(_UNPUBLISH_S):
            await room.local_participant.unpublish_track(sid)
    except TimeoutError:
        log.info("unpublish_not_answered", track_sid=sid)
    except UnpublishTrackError as error:
        # Gone already: the room was left, or LiveKit took it away.
        log.info("unpublish_refused", track_sid=sid, cause=str(error))


class DataCarrier:
    """A data track."""

    def __init__(self, desired: DesiredTrack) -> None:
        self._name = desired.spec.name
        self._frames = DataFrames(desired.spec.data.payload, desired.spec.data.frame_bytes)
        self._rate = desired.spec.data.frames_per_second or _DEFAULT_DATA_RATE
        self._beat = Beat(self._rate)
        self._track: rtc.LocalDataTrack | None = None
        self._counters = DataTrackStats()

    @property
    def sid(self) -> str:
        return self._track.info.sid if self._track is not None else ""

    async def open(self) -> None:
        pass

    async def produce(self, live: asyncio.Event) -> None:
        await live.wait()
        while True:
            await self._beat.next()
            if self._track is not None:
                self._push(self._track, self._frames.next_frame(time.time_ns() // 1000))

    def _push(self, track: rtc.LocalDataTrack, payload: bytes) -> None:
        try:
            track.try_push(rtc.DataTrackFrame(payload=payload))
        except rtc.PushFrameError:
            self._counters.frames_refused += 1
        else:
            self._counters.frames_pushed += 1
            self._counters.bytes_pushed += len(payload)

    async def publish(self, room: rtc.Room) -> None:
        # LiveKit frees the name of a track that was just taken away a little later, after a reconnect most of all.
        deadline = time.monotonic() + _NAME_FREE_S
        while self._track is None:
            try:
                self._track = await room.local_participant.publish_data_track(name=self._name)
            except PublishDataTrackError as error:
                if time.monotonic() > deadline:
                    raise errors.PublishFailed("LiveKit or the media SDK did not publish the data track") from error
                await asyncio.sleep(_NAME_FREE_S / 20)

    async def unpublish(self, room: rtc.Room) -> None:
        track, self._track = self._track, None
        if track is not None and room.isconnected():
            await track.unpublish()

    def change(self, spec: PublicationSpec) -> None:
        self._frames.change(spec.data.payload, spec.data.frame_bytes)
        rate = spec.data.frames_per_second or _DEFAULT_DATA_RATE
        if rate != self._rate:
            self._rate, self._beat = rate, Beat(rate)

    def mute(self, muted: bool) -> None:
        """LiveKit has no such thing for data tracks."""

    async def stats(self) -> HostedTrackStats:
        return HostedTrackStats(track_sid=self.sid, data=self._counters)

    async def aclose(self) -> None:
        pass
