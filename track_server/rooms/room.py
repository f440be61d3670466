"""A live room: the model, its event log, and how current they are. Fed by one watcher, read by everybody."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from google.protobuf import timestamp_pb2
from livekit.protocol import models, rtc

from track.v1 import event_pb2, track_pb2
from track_server.errors import RoomNotFound, TrackError
from track_server.rooms.causes import Causes
from track_server.rooms.keyframes import Keyframes
from track_server.rooms.log import EventLog
from track_server.rooms.model import Binding, Describe, RoomModel, undescribed
from track_server.rooms.speaking import Speaking

WATCHED = track_pb2.FRESHNESS_SOURCE_WATCHED
POLLED = track_pb2.FRESHNESS_SOURCE_POLLED
DISCONNECTED = track_pb2.FRESHNESS_SOURCE_DISCONNECTED

ExcessKey = tuple[str, str, str]
"""Limit, participant and track; the latter two are empty where the limit is not theirs."""

Contribution = Callable[[str, event_pb2.RoomSnapshot], None]
"""Fills in a capability's part of the snapshot of a room. It must neither wait nor raise."""


def now() -> timestamp_pb2.Timestamp:
    """The time of day."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(time.time_ns())
    return stamp


class Glance:
    """A wish that the watcher looks at its room at once, where it would wait: it may show too little."""

    def __init__(self) -> None:
        self._wished = asyncio.Event()
        self._anew = asyncio.Event()

    def wish(self, *, anew: bool = False) -> None:
        """``anew``: also where it is connected, by connecting anew."""
        self._wished.set()
        if anew:
            self._anew.set()

    async def within(self, seconds: float) -> None:
        """Returns at a wish, or after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wished.wait()
        self._wished.clear()

    async def anew(self) -> None:
        """Returns when the connection is to be made anew."""
        await self._anew.wait()
        self._anew.clear()


class LiveRoom:
    """One watched room. Its methods are called on the event loop and never wait, except ``ready`` and ``until``.

    ``on_event``: told of LiveKit's changes, with the room's name, once they are in the model; of each new score of a
    participant too, which is no event of the room. ``contributions``: fill
    in what the capabilities know in a snapshot. ``log``: its own, where another one than of ``max_events`` is wanted.
    ``on_speech``: told with the room's name when who spoke last is another one. ``on_close``: likewise just before
    `room_closed`, the last event.
    """

    def __init__(
        self,
        name: str,
        max_events: int,
        on_event: Callable[[str, event_pb2.RoomEvent], None],
        describe: Describe = undescribed,
        *,
        contributions: Sequence[Contribution] = (),
        log: EventLog | None = None,
        on_speech: Callable[[str], None] | None = None,
        on_close: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.name = name
        self._on_event = on_event
        self._on_speech = on_speech
        self._on_close = on_close
        self._contributions = contributions
        self.model = RoomModel(name, describe)
        self.speaking = Speaking()
        """Who speaks. Nobody is heard while the room is polled."""
        self.log = log or EventLog(max_events, room=name)
        self.closed = False
        self.watcher_identity = ""
        """Identity under which this service itself sits in the room, hidden."""
        self.publishable: frozenset[str] | None = None
        """MIME types in lower case that LiveKit's configuration lets be published; None where it was not told."""
        self.keyframes: Keyframes | None = None
        """What asks for keyframes; None while nobody is connected who could."""
        self.exceeded: dict[ExcessKey, event_pb2.LimitExceeded] = {}
        """What is beyond limits now."""
        self.found: frozenset[str] = frozenset()
        """SIDs of the participants and tracks that were there when the watch began."""
        self.causes = Causes()
        """Who is to be named in the events of LiveKit's that follow."""
        self.glance = Glance()
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

    def snapshot(self, reason: event_pb2.SnapshotReason.ValueType) -> event_pb2.RoomSnapshot:
        """The whole room at this moment, to which the log's newest cursor belongs."""
        model = self.model
        whole = event_pb2.RoomSnapshot(
            room=self.name,
            room_sid=model.sid,
            reason=reason,
            participants=[model.participants[identity] for identity in sorted(model.participants)],
            tracks=sorted(model.tracks.values(), key=lambda track: (track.participant_identity, track.sid)),
            qualities=[model.qualities[identity] for identity in sorted(model.qualities)],
            freshness=self.freshness(),
            limits_exceeded=self.exceeded.values(),
            state=model.state,
        )
        for contribute in self._contributions:
            contribute(self.name, whole)
        return whole

    async def ready(self) -> None:
        """Returns once the room was seen for the first time. Raises what hindered the first look."""
        await asyncio.shield(self._first)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until ``condition`` holds, at most ``timeout_s``; looks after each change. Says whether it holds."""
        return await self.log.until(condition, timeout_s)

    async def wait_closed(self) -> None:
        """Returns when LiveKit closed the room."""
        while not self.closed:
            await self.log.changed()

    # What the watcher tells.

    def seen(
        self,
        sid: str,
        infos: Iterable[models.ParticipantInfo],
        source: track_pb2.FreshnessSource.ValueType,
        room: models.Room | None = None,
    ) -> None:
        """The whole room, as it is now, by connecting (WATCHED) or by asking (POLLED). ``room``: itself, where told."""
        polled_on = source == POLLED and self._source == POLLED
        events = [] if room is None else self.model.settle(room, now())
        events += self.model.replace(sid, infos, now())
        if polled_on:
            self._as_of = now()
            self._publish(events)
            return
        # What came and went while nobody listened is not known: the log begins anew, with the difference unsaid.
        self._source, self._as_of = source, now()
        self.log.begin_epoch(self.snapshot(event_pb2.SNAPSHOT_REASON_WATCHER_AWAY))
        if not self._first.done():
            self.found = frozenset([found.sid for found in self.model.participants.values()]) | self.model.tracks.keys()
            self._first.set_result(None)
        self._tell(events)

    def update(self, infos: Iterable[models.ParticipantInfo]) -> None:
        """Some participants changed."""
        self._publish(self.model.update(infos, now()))

    def settle(self, room: models.Room) -> None:
        """LiveKit told of the room itself."""
        self._publish(self.model.settle(room, now()))

    def rate(self, updates: Iterable[rtc.ConnectionQualityInfo]) -> None:
        """LiveKit rated some participants. The log has changes of the level, listeners are told of the score too."""
        before = dict(self.model.qualities)
        events = self.model.rate(updates, now())
        self._publish(events)
        told = {event.quality_changed.participant_identity for event in events}
        for identity, rated in self.model.qualities.items():
            known = before.get(identity)
            if not self.closed and known is not None and known.score != rated.score and identity not in told:
                self._on_event(self.name, event_pb2.RoomEvent(time=rated.measure_time, quality_changed=rated))

    def hear(self, speakers: Iterable[models.SpeakerInfo]) -> None:
        """LiveKit told how loud some participants are."""
        named = [(self.model.identity_of(each.sid), each.level if each.active else 0.0) for each in speakers]
        self._spoke(self.speaking.hear([(who, level) for who, level in named if who is not None], time.monotonic()))

    def _spoke(self, anew: bool) -> None:
        if anew and self._on_speech is not None and not self.closed:
            self._on_speech(self.name)

    def lost(self) -> None:
        """The connection to LiveKit is gone."""
        if self._source != DISCONNECTED:
            self._source, self._as_of = DISCONNECTED, now()
            self.log.append(event_pb2.RoomEvent(time=self._as_of, freshness_changed=self.freshness()))
            self._spoke(self.speaking.hush(time.monotonic()))

    def close(self, reason: str) -> None:
        """LiveKit closed the room."""
        if self.closed:
            return
        self._on_close(self.name)
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

    def describe(self, track_sids: Iterable[str]) -> None:
        """Says that the metadata of those tracks may have changed."""
        self._publish(self.model.describe(track_sids, now()))

    def announce(self, event: event_pb2.RoomEvent) -> None:
        """Adds an event of a capability's own. Nothing comes after `room_closed`, which is the last event."""
        if self.closed:
            return
        event.time.CopyFrom(now())
        self.causes.attribute(event)
        self.log.append(event)

    def exceed(self, found: Mapping[ExcessKey, event_pb2.LimitExceeded | None]) -> list[event_pb2.LimitExceeded]:
        """Takes how the room stands to some limits now, None: within. An event for each that was within before.

        Returns those.
        """
        new = [excess for key, excess in found.items() if excess is not None and key not in self.exceeded]
        for key, excess in found.items():
            if excess is None:
                self.exceeded.pop(key, None)
            else:
                self.exceeded[key] = excess
        for excess in new:
            self.announce(event_pb2.RoomEvent(limit_exceeded=excess))
        return new

    def _publish(self, events: Sequence[event_pb2.RoomEvent]) -> None:
        if self.closed:
            return
        for event in events:
            self.causes.attribute(event)
            self.log.append(event)
        if not events:
            self.log.wake()
        self._tell(events)

    def _tell(self, events: Iterable[event_pb2.RoomEvent]) -> None:
        for event in events:
            if event.HasField("participant_left"):
                # LiveKit does not tell that it is silent.
                self._spoke(self.speaking.hush(time.monotonic(), event.participant_left.identity))
            self._on_event(self.name, event)
