"""A live room: the model, its event log, and how current they are. Fed by one watcher, read by everybody."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from google.protobuf import timestamp_pb2
from livekit.protocol import models, rtc

from track.v1 import event_pb2, track_pb2
from track_server.errors import RoomNotFound, TrackError
from track_server.rooms.keyframes import Keyframes
from track_server.rooms.log import EventLog
from track_server.rooms.model import Binding, RoomModel

WATCHED = track_pb2.FRESHNESS_SOURCE_WATCHED
POLLED = track_pb2.FRESHNESS_SOURCE_POLLED
DISCONNECTED = track_pb2.FRESHNESS_SOURCE_DISCONNECTED

ExcessKey = tuple[str, str, str]
"""Limit, participant and track; the latter two are empty where the limit is not theirs."""


def now() -> timestamp_pb2.Timestamp:
    """The time of day."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(time.time_ns())
    return stamp


class LiveRoom:
    """One watched room. Its methods are called on the event loop and never wait, except ``ready`` and ``until``.

    ``on_event``: told of LiveKit's changes, with the room's name, once they are in the model.
    """

    def __init__(self, name: str, max_events: int, on_event: Callable[[str, event_pb2.RoomEvent], None]) -> None:
        self.name = name
        self._on_event = on_event
        self.model = RoomModel(name)
        self.log = EventLog(max_events)
        self.closed = False
        self.watcher_identity = ""
        """Identity under which this service itself sits in the room, hidden."""
        self.publishable: frozenset[str] | None = None
        """MIME types in lower case that LiveKit's configuration lets be published; None where it was not told."""
        self.keyframes: Keyframes | None = None
        """What asks for keyframes; None while nobody is connected who could."""
        self.exceeded: Mapping[ExcessKey, event_pb2.LimitExceeded] = {}
        """What is beyond limits now."""
        self._source: track_pb2.FreshnessSource.ValueType = track_pb2.FRESHNESS_SOURCE_UNSPECIFIED
        self._as_of = now()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def version(self) -> int:
        """Grows with every change of the model."""
        return self.model.version

    @property
    def current(self) -> bool:
        """Whether the model follows LiveKit now."""
        return self._source in (WATCHED, POLLED) and not self.closed

    @property
    def seen_once(self) -> bool:
        """Whether the room was ever seen."""
        return self._first.done() and self._first.exception() is None

    def freshness(self) -> track_pb2.Freshness:
        """How current the model is."""
        freshness = track_pb2.Freshness()
        self.tell_freshness(freshness)
        return freshness

    def tell_freshness(self, freshness: track_pb2.Freshness) -> None:
        """Fills in how current the model is, where an answer has its place: copying it would cost as much again."""
        freshness.source = self._source
        if self._source == WATCHED:
            freshness.as_of_time.FromNanoseconds(time.time_ns())
        else:
            freshness.as_of_time.CopyFrom(self._as_of)

    async def ready(self) -> None:
        """Returns once the room was seen for the first time. Raises what hindered the first look."""
        await asyncio.shield(self._first)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s``; looks after each change. Says whether it holds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self.log.changed()
        except TimeoutError:
            return condition()
        return True

    async def wait_closed(self) -> None:
        """Returns when LiveKit closed the room."""
        while not self.closed:
            await self.log.changed()

    # What the watcher tells.

    def seen(
        self, sid: str, infos: Iterable[models.ParticipantInfo], source: track_pb2.FreshnessSource.ValueType
    ) -> None:
        """The whole room, as it is now, by connecting (WATCHED) or by asking (POLLED)."""
        connected_anew = source == WATCHED and self._first.done()
        events = self.model.replace(sid, infos, now())
        if connected_anew:
            # What came and went while nobody listened is not known: the log begins anew, with the difference unsaid.
            self.log.begin_epoch()
        self._settle(source)
        self._publish(events, logged=not connected_anew)

    def update(self, infos: Iterable[models.ParticipantInfo]) -> None:
        """Some participants changed."""
        self._publish(self.model.update(infos, now()))

    def rate(self, updates: Iterable[rtc.ConnectionQualityInfo]) -> None:
        """LiveKit rated some participants."""
        self._publish(self.model.rate(updates, now()))

    def lost(self) -> None:
        """The connection to LiveKit is gone."""
        if self._source != DISCONNECTED:
            self._settle(DISCONNECTED)

    def close(self, reason: str) -> None:
        """LiveKit closed the room."""
        if self.closed:
            return
        self.closed = True
        self.log.append(event_pb2.RoomEvent(time=now(), room_closed=event_pb2.RoomClosed(reason=reason)))
        self.fail(RoomNotFound(f"room {self.name!r} was closed"))

    def fail(self, error: TrackError) -> None:
        """The room could not be seen even once."""
        if not self._first.done():
            self._first.set_exception(error)
            self._first.exception()  # nobody need wait for it

    # What the capabilities tell.

    def bind(self, track_sid: str, binding: Binding | None) -> None:
        """Says which publication is behind a track."""
        self._publish(self.model.bind(track_sid, binding, now()))

    def announce(self, event: event_pb2.RoomEvent) -> None:
        """Adds an event of a capability's own. Nothing comes after `room_closed`, which is the last event."""
        if self.closed:
            return
        event.time.CopyFrom(now())
        self.log.append(event)

    def exceed(self, found: Mapping[ExcessKey, event_pb2.LimitExceeded]) -> list[event_pb2.LimitExceeded]:
        """Takes what is beyond limits now. Adds an event for each that was within before, and returns those."""
        before, self.exceeded = self.exceeded, found
        new = [excess for key, excess in found.items() if key not in before]
        for excess in new:
            self.announce(event_pb2.RoomEvent(limit_exceeded=excess))
        return new

    def _settle(self, source: track_pb2.FreshnessSource.ValueType) -> None:
        before, self._source, self._as_of = self._source, source, now()
        if not self._first.done():
            self._first.set_result(None)
        elif before != source:
            self.log.append(event_pb2.RoomEvent(time=self._as_of, freshness_changed=self.freshness()))

    def _publish(self, events: Iterable[event_pb2.RoomEvent], *, logged: bool = True) -> None:
        told = list(events)
        for event in told if logged else ():
            self.log.append(event)
        if not (told and logged):
            self.log.wake()
        for event in told:
            self._on_event(self.name, event)
