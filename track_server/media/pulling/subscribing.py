"""Subscriptions of a pulling session: to the tracks that are wanted and no others, and what is read of them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from livekit import rtc
from livekit.rtc.data_track import SubscribeDataTrackError

from track.media.v1.media_service_pb2 import PullDesired
from track.v1.track_pb2 import (
    VIDEO_QUALITY_HIGH,
    VIDEO_QUALITY_LOW,
    VIDEO_QUALITY_MEDIUM,
    VIDEO_QUALITY_UNSPECIFIED,
)
from track_server import errors
from track_server.media.pulling.pipeline import Pipeline

log = structlog.get_logger(__name__)

SUBSCRIBED_S: Final = 15.0
"""LiveKit subscribes within a second; who waits so long, with the track there and not muted, is not let in."""
_LOOK_S: Final = 0.25
_CLOSE_S: Final = 1.0
_QUALITIES: Final = {
    VIDEO_QUALITY_LOW: rtc.VideoQuality.VIDEO_QUALITY_LOW,
    VIDEO_QUALITY_MEDIUM: rtc.VideoQuality.VIDEO_QUALITY_MEDIUM,
    VIDEO_QUALITY_HIGH: rtc.VideoQuality.VIDEO_QUALITY_HIGH,
}
_GONE_S: Final = 5.0
_UNREAD_PICTURES: Final = 8
_UNREAD_SOUNDS: Final = 100
_UNREAD_PAYLOADS: Final = 64
"""Frames that the SDK keeps while the event loop is held up; then it drops the oldest."""


class Subscribing:
    """Of one session. ``piece_ms``: how much sound is read at once. ``started`` is told once the main track is
    subscribed, ``failed`` why one cannot be.

    The room's events are handed over by the session.
    """

    def __init__(
        self,
        room: rtc.Room,
        pipeline: Pipeline,
        channels: int,
        piece_ms: int,
        started: Callable[[str], None],
        failed: Callable[[errors.TrackError], None],
    ) -> None:
        self._room = room
        self._pipeline = pipeline
        self._channels = channels
        self._piece_ms = piece_ms
        self._started = started
        self._failed = failed
        self._main = ""
        self._wanted: frozenset[str] = frozenset()
        self._quality = VIDEO_QUALITY_UNSPECIFIED
        self._data_tracks: dict[str, rtc.RemoteDataTrack] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        """By track SID, also of those that are ending."""
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._ended: set[asyncio.Task[None]] = set()

    def want(self, desired: PullDesired) -> None:
        """What is to be pulled now."""
        self._main = desired.track_sid
        self._quality = desired.quality
        self._wanted = frozenset(filter(None, (desired.track_sid, desired.audio_track_sid)))
        for sid in self._readers.keys() - self._wanted:
            self._end(sid)
        for sid in self._waiting.keys() - self._wanted:
            self._waiting.pop(sid).cancel()
        for publication in self._publications():
            if publication.subscribed and publication.sid not in self._wanted:
                publication.set_subscribed(False)
        self.look()

    def look(self) -> None:
        """Subscribes to what is wanted and there."""
        for publication in self._publications():
            self.published(publication)
        for sid in self._wanted & self._data_tracks.keys():
            self._begin(sid, self._read_data(self._data_tracks[sid]))
        for sid in self._wanted - self._readers.keys() - self._waiting.keys():
            self._waiting[sid] = self._spawn(self._wait(sid), f"pull-wait-{sid}")

    async def aclose(self) -> None:
        """Ends all readers. May be called twice."""
        self._wanted = frozenset()
        for sid in list(self._readers):
            self._end(sid)
        tasks = [*self._ended, *self._waiting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What the room tells.

    def published(self, publication: rtc.RemoteTrackPublication) -> None:
        """A track is there."""
        if publication.sid not in self._wanted:
            return
        if not publication.subscribed:
            publication.set_subscribed(True)
        self._choose(publication)

    def subscribed(self, track: rtc.Track, publication: rtc.RemoteTrackPublication) -> None:
        """Media of a track come."""
        if track.sid not in self._wanted:
            return
        self._choose(publication)
        if isinstance(track, rtc.RemoteAudioTrack):
            self._begin(track.sid, self._read_sound(track))
        elif isinstance(track, rtc.RemoteVideoTrack):
            self._begin(track.sid, self._read_pictures(track))

    def unsubscribed(self, sid: str) -> None:
        """No media of a track come any more."""
        self._end(sid)

    def data_published(self, track: rtc.RemoteDataTrack) -> None:
        """A data track is there."""
        self._data_tracks[track.info.sid] = track
        if track.info.sid in self._wanted:
            self._begin(track.info.sid, self._read_data(track))

    def data_unpublished(self, sid: str) -> None:
        """It is no more."""
        self._data_tracks.pop(sid, None)
        self._end(sid)

    def data_missing(self) -> bool:
        """Whether payloads of a data track are waited for, and none has come."""
        return self._main in self._data_tracks and self._main in self._waiting

    def tracks(self) -> list[rtc.Track]:
        """Those of which media are read."""
        found = [publication.track for publication in self._publications() if publication.sid in self._readers]
        return [track for track in found if track is not None]

    def _choose(self, publication: rtc.RemoteTrackPublication) -> None:
        """Has LiveKit send the layer that is wanted. Of a video with one layer there is nothing to choose."""
        quality = _QUALITIES.get(self._quality)
        if publication.sid == self._main and quality is not None and publication.simulcasted:
            publication.set_video_quality(quality)

    def _publications(self) -> list[rtc.RemoteTrackPublication]:
        participants = self._room.remote_participants.values()
        return [found for participant in participants for found in participant.track_publications.values()]

    # Reading. None of the SDK's streams ends by itself when its track does (rtc 1.2.1): the task is cancelled.

    def _begin(self, sid: str, reading: Coroutine[Any, Any, None]) -> None:
        if sid in self._readers:
            reading.close()
            return
        self._readers[sid] = self._spawn(reading, f"pull-{sid}")
        if sid in self._waiting and not sid.startswith("DTR_"):
            self._waiting.pop(sid).cancel()
        if sid == self._main:
            self._pipeline.await_frames()
            self._started(sid)

    def _end(self, sid: str) -> None:
        reader = self._readers.pop(sid, None)
        if reader is not None:
            reader.cancel()

    async def _read_pictures(self, track: rtc.RemoteVideoTrack) -> None:
        stream = rtc.VideoStream(track, capacity=_UNREAD_PICTURES, format=rtc.VideoBufferType.I420)
        try:
            async for event in stream:
                self._pipeline.picture(event)
        finally:
            await _close(stream)

    async def _read_sound(self, track: rtc.RemoteAudioTrack) -> None:
        self._pipeline.begin_sound()
        stream = rtc.AudioStream(
            track, capacity=_UNREAD_SOUNDS, num_channels=self._channels, frame_size_ms=self._piece_ms
        )
        try:
            async for event in stream:
                self._pipeline.sound(event.frame)
        finally:
            await _close(stream)

    async def _read_data(self, track: rtc.RemoteDataTrack) -> None:
        stream = track.subscribe(buffer_size=_UNREAD_PAYLOADS)
        try:
            async for frame in stream:
                if track.info.sid in self._waiting:
                    self._waiting.pop(track.info.sid).cancel()
                self._pipeline.payload(frame.payload)
        except SubscribeDataTrackError as error:
            log.info("data_track_not_subscribed", track_sid=track.info.sid, cause=error.message)
            # A track that ends while it is subscribed to fails alike: that it has ended is told next, and ends this.
            await asyncio.sleep(_GONE_S)
            if track.info.sid in self._wanted:
                self._failed(_not_let_in())
        finally:
            stream.close()

    async def _wait(self, sid: str) -> None:
        """Gives up where LiveKit does not subscribe to a track. A muted one may not have sent anything yet."""
        if sid.startswith("DTR_"):
            # The SDK itself tells, after 10 s.
            await asyncio.Event().wait()
        left_s = SUBSCRIBED_S
        while left_s > 0:
            since = time.monotonic()
            await asyncio.sleep(_LOOK_S)
            if self._room.connection_state != rtc.ConnectionState.CONN_CONNECTED:
                # LiveKit is away: nobody can be let in.
                left_s = SUBSCRIBED_S
            elif any(found.sid == sid and found.muted for found in self._publications()):
                self._pipeline.await_frames()
            else:
                left_s -= time.monotonic() - since
        self._failed(_not_let_in())

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._ended.add(task)
        task.add_done_callback(self._settle)
        return task

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._ended.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pull_reader_broke", task=task.get_name(), exc_info=error)
            self._failed(errors.Internal("the media worker failed"))


async def _close(stream: rtc.VideoStream | rtc.AudioStream) -> None:
    """Frees what the SDK holds; its task need not end by itself."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stream.aclose(), _CLOSE_S)


def _not_let_in() -> errors.TrackError:
    return errors.TargetPermission(
        "LiveKit does not let this service subscribe to the track: its publisher may allow certain participants only"
    )
