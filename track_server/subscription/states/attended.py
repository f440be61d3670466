"""One room's companions: asked for, told to report, and heard."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from track.control.v1 import control_pb2 as control
from track.v1 import track_pb2
from track.v1.quality_stats_pb2 import TrackStats
from track.v1.track_pb2 import Participant
from track_server.control.commands import Target
from track_server.control.companion import Companion
from track_server.control.targets import connection_of
from track_server.deadline import Deadline
from track_server.durations import duration_of
from track_server.errors import CompanionMissing, NotSupported, TrackError
from track_server.lifetime import Tasks
from track_server.livekit.datachannel import DataMessage
from track_server.rooms.inbox import Inbox
from track_server.rooms.room import LiveRoom
from track_server.subscription.states.message import TOPIC, Pace, Reader
from track_server.subscription.states.states import SubscriberStates

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 5.0
"""How often companions report at least: what is measured is good for 15 s, so two reports may be lost."""

STATS_S: Final = 1.0
"""How often companions tell statistics, where they are asked for: LiveKit reports reception no more often."""

CROWD: Final = 20
"""With more companions in a room its statistics come each CROWD_STATS_S only. Each tells of all that it receives, so
they grow with the square of the room: reading a kilobyte takes 0.1 to 0.2 ms, and twenty who receive sound and video of
nineteen others tell 400 kB, 0.06 s of a core. What is measured is read over windows of 5 s and more."""

CROWD_STATS_S: Final = 2.0

OnStats = Callable[[LiveRoom, Participant, Sequence[TrackStats]], None]
"""Is told of what a participant's companion measured. It must neither wait nor raise."""

# An app may attach its companion a while after it has joined. A client without one answers each time at once.
_AGAIN_S: Final = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0)
_ANSWER_S: Final = 10.0
# A companion that is silent for so long is told anew: its app may have attached another one. Where that is in vain, it
# is left alone for twice as long.
_SILENT_S: Final = 20.0
_SILENT_LAST_S: Final = 640.0
# Clients of a room that are asked at the same time: those that never answer hold up no other room.
_ASKED_AT_ONCE: Final = 8

_REPORTING: Final = control.Command.DESCRIPTOR.fields_by_name["report_state"].name


class _Connection:
    """One connection of a participant. ``heard_at``: when it reported last, on the loop's clock. ``stats_s``: how often
    it was told to tell statistics, in seconds; None: not at all."""

    def __init__(self, target: Target, now: float) -> None:
        self.target = target
        self.heard_at = now
        self.reports = False
        """Whether it was told to report."""
        self.stats_s: float | None = None
        self.anew = asyncio.Event()
        """It is to be told anew."""
        self.pace = Pace()
        self.task: asyncio.Task[None] | None = None


class Attended:
    """The companions of one room. ``take`` is for its inbox. ``measuring``: they are to tell statistics, which go to
    ``on_stats``."""

    def __init__(
        self,
        live: LiveRoom,
        companion: Companion,
        states: SubscriberStates,
        reader: Reader,
        asking: asyncio.Semaphore,
        on_stats: OnStats,
        *,
        measuring: bool = False,
    ) -> None:
        self.live = live
        self._companion = companion
        self._states = states
        self._reader = reader
        self._asking = asking
        self._on_stats = on_stats
        self._measuring = measuring
        self._asking_here = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._connections: dict[str, _Connection] = {}
        self._tasks = Tasks()

    async def run(self, inbox: Inbox) -> None:
        """Until the room is closed, or cancelled."""
        async with self._tasks:
            while not self.live.closed:
                self._compare(inbox)
                await self.live.log.changed()

    def look(self, identity: str) -> None:
        """Asks its client anew, at the room's next change."""
        self._drop(identity)
        self.live.log.wake()

    def measure(self, wanted: bool) -> None:
        """Has them tell statistics from now on, or no more."""
        if wanted is not self._measuring:
            self._measuring = wanted
            self._pace_stats()
            # Who may not subscribe is asked for statistics alone.
            self.live.log.wake()

    async def dismiss(self) -> None:
        """Has the companions report no more, as far as they answer."""
        told = [each.target for each in self._connections.values() if each.reports]
        await asyncio.gather(*(self._tell(target, "", None) for target in told), return_exceptions=True)

    def take(self, message: DataMessage) -> None:
        """A data message that reached the inbox. Who sent it is LiveKit's word, and it says nothing of anybody else."""
        connection = self._connections.get(message.sender)
        now = asyncio.get_running_loop().time()
        if message.topic != TOPIC or connection is None or message.sender_sid != connection.target.sid:
            return
        if not connection.pace.allows(len(message.payload), now):
            return
        report = self._reader.read(message.payload)
        participant = self.live.model.participants.get(message.sender)
        if report is None or participant is None or participant.sid != message.sender_sid:
            return
        connection.heard_at = now
        if report.stats and self._measuring:
            self._on_stats(self.live, participant, report.stats)
        if participant.permission.can_subscribe and (report.HasField("state") or report.received):
            self._take_state(message, report)

    def _take_state(self, message: DataMessage, report: control.StateReport) -> None:
        tracks = self.live.model.tracks
        seen = [each for each in report.state.viewports if _is_video(tracks.get(each.track_sid))]
        del report.state.viewports[:]
        report.state.viewports.extend(seen)
        received = [each for each in report.received if _is_video(tracks.get(each.track_sid))]
        self._states.report(self.live.name, message.sender, message.sender_sid, report.state, received)

    def _compare(self, inbox: Inbox) -> None:
        """Follows the connections that there are now."""
        participants = self.live.model.participants
        for identity, known in list(self._connections.items()):
            now = participants.get(identity)
            if now is None or now.sid != known.target.sid:
                self._drop(identity)
            elif not self._concerned(now):
                self._drop(identity)
                if known.reports:
                    self._tasks.spawn(self._tell(known.target, "", None), name=f"dismiss {identity}")
        for identity, participant in participants.items():
            if identity not in self._connections and self._concerned(participant):
                self._begin(participant, inbox)

    def _concerned(self, participant: Participant) -> bool:
        """Who may not subscribe has no state, but what it sends can be measured."""
        return participant.permission.can_subscribe or self._measuring

    def _pace_stats(self) -> None:
        """Tells those anew who are to tell statistics more or less often than they were told."""
        stats_s = self._stats_s()
        for connection in self._connections.values():
            if connection.reports and connection.stats_s != stats_s:
                connection.anew.set()

    def _stats_s(self) -> float | None:
        if not self._measuring:
            return None
        companions = sum(connection.reports for connection in self._connections.values())
        return STATS_S if companions <= CROWD else CROWD_STATS_S

    def _begin(self, participant: Participant, inbox: Inbox) -> None:
        try:
            target = connection_of(self.live.name, participant)
        except CompanionMissing:
            return
        connection = _Connection(target, asyncio.get_running_loop().time())
        self._connections[participant.identity] = connection
        connection.task = self._tasks.begin(
            self._attend(connection, inbox), name=f"attend {participant.identity} in {self.live.name}"
        )

    def _drop(self, identity: str) -> None:
        known = self._connections.pop(identity, None)
        if known is not None and known.task is not None:
            known.task.cancel()
            self._pace_stats()

    async def _attend(self, connection: _Connection, inbox: Inbox) -> None:
        """Until there turns out to be no companion, or none that reports; or cancelled."""
        target = connection.target
        if not await self._reporting(target):
            return
        connections, in_vain = 0, 0
        while True:
            connections = await inbox.connected(after=0)
            heeded = connection.reports = True
            connection.stats_s = self._stats_s()
            connection.anew.clear()
            self._pace_stats()
            try:
                await self._tell(target, inbox.identity, connection.stats_s)
            except (NotSupported, CompanionMissing) as error:
                connection.reports = False
                if isinstance(error, CompanionMissing):
                    self._answered(target, companion=False)
                return
            except TrackError as error:
                heeded = False
                log.info("companion_not_told", room=target.room, reason=error.message)
            told_at = asyncio.get_running_loop().time()
            await self._lost(connection, inbox, connections, silence_s(in_vain), heeded=heeded)
            in_vain = 0 if connection.heard_at > told_at else in_vain + 1

    async def _reporting(self, target: Target) -> bool:
        """Whether there is a companion that reports. Asks for a while: LiveKit tells of who joins before its app has
        attached anything."""
        for pause in _AGAIN_S:
            await asyncio.sleep(pause)
            try:
                async with self._asking_here, self._asking:
                    able = await self._companion.capabilities(target, Deadline.after(_ANSWER_S))
            except CompanionMissing:
                self._answered(target, companion=False)
            except TrackError as error:
                log.info("companion_not_asked", room=target.room, reason=error.message)
            else:
                self._answered(target, companion=True)
                return _REPORTING in able.actions
        return False

    def _answered(self, target: Target, *, companion: bool) -> None:
        # It may have left while it was asked: nothing would ever take what is said of it now.
        if self._there(target):
            self._states.answered(target.room, target.identity, target.sid, companion=companion)

    def _there(self, target: Target) -> bool:
        """Whether that connection is in the room now."""
        participant = self.live.model.participants.get(target.identity)
        return participant is not None and participant.sid == target.sid

    async def _tell(self, target: Target, destination: str, stats_s: float | None) -> None:
        """Raises TrackError."""
        report = control.ReportState(destination_identity=destination, interval=duration_of(INTERVAL_S))
        if stats_s is not None:
            report.stats_interval.CopyFrom(duration_of(stats_s))
        async with self._asking_here, self._asking:
            await self._companion.do(target, report, Deadline.after(_ANSWER_S))

    async def _lost(
        self, connection: _Connection, inbox: Inbox, connections: int, for_s: float, *, heeded: bool
    ) -> None:
        """Returns when it has to be told anew: the inbox has another connection, or heard nothing ``for_s`` seconds, or
        statistics are wanted otherwise. ``heeded``: it was reached; else it is told again after ``for_s``."""
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        waits = [
            asyncio.create_task(inbox.connected(after=connections), name="inbox connects"),
            asyncio.create_task(connection.anew.wait(), name="companion is told anew"),
        ]
        try:
            done: set[asyncio.Task[int] | asyncio.Task[bool]] = set()
            while not done:
                heard_at = max(told_at, connection.heard_at) if heeded else told_at
                left_s = heard_at + for_s - loop.time()
                if left_s <= 0:
                    return
                done, _ = await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def silence_s(in_vain: int) -> float:
    """How long a companion may be silent that was told to report so often in vain, in seconds."""
    return min(_SILENT_S * 2.0 ** min(in_vain, 10), _SILENT_LAST_S)


def _is_video(track: track_pb2.Track | None) -> bool:
    return track is not None and track.type == track_pb2.TRACK_TYPE_VIDEO
