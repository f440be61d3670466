"""The levels of a restart, carried out on tracks of this service's own sessions and of participants' clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from track.control.v1 import control_pb2 as control
from track.control.v1.control_pb2 import Reply
from track.v1 import event_pb2, publication_pb2, track_pb2
from track.v1.publication_pb2 import Evidence, Publication
from track.v1.publication_update_pb2 import MediaGap
from track_server.control.commands import Target
from track_server.control.companion import Companion
from track_server.control.targets import target_of
from track_server.deadline import Deadline
from track_server.durations import seconds_of
from track_server.errors import (
    LiveKitUnavailable,
    PublicationEnded,
    PublishFailed,
    TrackError,
    error_in,
)
from track_server.flow import Flow, gap_ms
from track_server.livekit.debug import DebugView, DownTrack
from track_server.publishing.book import Book
from track_server.publishing.causes import replacing
from track_server.publishing.client import commands
from track_server.publishing.gaps import GapWatch
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import ENDED, LIVE
from track_server.publishing.meters import Meter, Meters
from track_server.publishing.progress import has_sid
from track_server.publishing.replacing import Replacing
from track_server.publishing.restarting.keyframing import send_keyframe
from track_server.publishing.restarting.levels import KEYFRAME, REJOIN, REPUBLISH, RESUBSCRIBE, Level
from track_server.publishing.restarting.resubscribing import Resubscribing, Subscribers
from track_server.publishing.routes import CLIENT, HOSTED
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

_STATS_S: Final = 0.6
_BACK_S: Final = 25.0
"""A worker that does not answer is given up after 3 s; another one joins and publishes within a few more."""


class ClientRestart(Protocol):
    """Restarts publications of clients: see ClientRoute."""

    async def restart(
        self, publication: Publication, level: Level, deadline: Deadline, *, graceful: bool = False
    ) -> Reply:
        """Has the client restart it."""


@dataclass(slots=True)
class Subject:
    """What is restarted. ``publication``: None for a track that is none. ``track_sid``: what it was when it began."""

    live: LiveRoom
    publication: Publication | None
    track_sid: str
    type: "track_pb2.TrackType.ValueType"
    graceful: bool
    cause: event_pb2.EventCause
    """The call, to those who watch."""

    @property
    def publication_id(self) -> str:
        return self.publication.publication_id if self.publication is not None else ""

    @property
    def hosted(self) -> bool:
        """Whether a session of this service publishes it."""
        return self.publication is not None and self.publication.route == HOSTED


@dataclass(frozen=True, slots=True)
class Done:
    """What a level did: where that was seen, and for how long media did not flow."""

    evidence: "Evidence.ValueType" = publication_pb2.EVIDENCE_UNSPECIFIED
    gap: MediaGap | None = None


class Steps:
    """Carries levels out, one at a time."""

    def __init__(
        self,
        rooms: Rooms,
        book: Book,
        sessions: Sessions,
        replacing_tracks: Replacing,
        resubscribing: Resubscribing,
        subscribers: Subscribers,
        clients: ClientRestart,
        companion: Companion,
        debug: DebugView | None,
        meters: Meters,
    ) -> None:
        self._rooms = rooms
        self._book = book
        self._sessions = sessions
        self._replacing = replacing_tracks
        self._resubscribing = resubscribing
        self._subscribers = subscribers
        self._clients = clients
        self._companion = companion
        self._debug = debug
        self._meters = meters

    def current(self, subject: Subject) -> Publication | None:
        """The publication as it is now."""
        if subject.publication is None:
            return None
        return self._book.find(subject.live.name, subject.publication_id) or subject.publication

    def sid(self, subject: Subject) -> str:
        """The track's SID now; "" while it has none."""
        publication = self.current(subject)
        return publication.track_sid if publication is not None else subject.track_sid

    async def down(self, subject: Subject, track_sid: str) -> list[DownTrack] | None:
        """LiveKit's copies of the track for others; None where nobody sees them."""
        return await self._resubscribing.down(subject.live, track_sid)

    @contextlib.asynccontextmanager
    async def metering(self, subject: Subject) -> AsyncIterator[Meter | None]:
        """What the session sends, where it is one of this service's."""
        if subject.publication is None or not subject.hosted:
            yield None
            return
        async with self._meters.metering(subject.publication) as meter:
            yield meter

    async def do(self, level: Level, subject: Subject, meter: Meter | None, deadline: Deadline) -> Done:
        """One level. Raises TrackError where it could not be done."""
        if level == RESUBSCRIBE:
            sid = self.sid(subject)
            return Done(await self._resubscribing.again(subject.live, sid, subject.publication_id, subject.cause))
        if level == KEYFRAME and meter is not None:
            return Done(await send_keyframe(subject.live, self.sid(subject), meter))
        if level != KEYFRAME:
            self._attribute(subject, everything=level == REJOIN)
        if not subject.hosted:
            return await self._by_companion(level, subject, deadline)
        if level == REPUBLISH and subject.publication is not None:
            replaced = await self._replacing.replace(subject.publication, deadline, graceful=subject.graceful)
            return Done(replaced.evidence, replaced.gap)
        if level == REJOIN and subject.publication is not None and meter is not None:
            return await self._rejoin(subject.live, subject.publication, meter)
        raise PublishFailed("there is no such level")

    def _attribute(self, subject: Subject, *, everything: bool) -> None:
        """The track, or with ``everything`` all that its participant publishes through this service, is another one
        then, because of the call."""
        publication = self.current(subject)
        if publication is None:
            subject.live.causes.expect("track_unpublished", subject.track_sid, subject.cause)
            return
        room, identity = publication.room, publication.participant_identity
        beside = self._book.active_of(room, identity, publication.route) if everything else [publication]
        for found in beside:
            replacing(self._rooms, found, subject.cause)

    async def _by_companion(self, level: Level, subject: Subject, deadline: Deadline) -> Done:
        publication = self.current(subject)
        if publication is not None and publication.route == CLIENT:
            reply = await self._clients.restart(publication, level, deadline, graceful=subject.graceful)
        else:
            target = self._target(subject)
            reply = await self._companion.restart(target, subject.track_sid, level, deadline, graceful=subject.graceful)
            commands.refuse_foreign(subject.live, target.identity, reply.result.track_sid)
            subject.track_sid = reply.result.track_sid or subject.track_sid
        if reply.status != control.COMMAND_STATUS_DONE:
            return Done()
        gap = MediaGap(publisher_ms=reply.result.gap_ms) if reply.result.HasField("gap_ms") else None
        return Done(publication_pb2.EVIDENCE_COMPANION, gap)

    def _target(self, subject: Subject) -> Target:
        track = subject.live.model.tracks.get(subject.track_sid)
        return target_of(subject.live, track.participant_identity if track is not None else "")

    async def _rejoin(self, live: LiveRoom, publication: Publication, meter: Meter) -> Done:
        """The participant joins again: all its publications come back, each with its subscribers."""
        room, identity = live.name, publication.participant_identity
        session = self._sessions.host(room, identity)
        beside = [found for found in self._book.active_of(room, identity) if found.state == LIVE]
        async with contextlib.AsyncExitStack() as stack:
            watches = {
                found.publication_id: await stack.enter_async_context(
                    GapWatch(self._debug, room, found.track_sid, live.watcher_identity)
                )
                for found in beside
            }
            # There is no time for it later.
            await asyncio.gather(
                meter.until(lambda: meter.sent[0] == publication.track_sid, _STATS_S),
                *(watch.prepare() for watch in watches.values()),
            )
            old, new = Flow(), Flow()
            old.look(*_counted(meter, publication.track_sid))
            await session.rejoin()
            old.look(*_counted(meter, publication.track_sid))
            deadline = Deadline.after(_BACK_S)
            for found in beside:
                try:
                    await self._back(live, found, deadline)
                except TrackError:
                    if found.publication_id == publication.publication_id:
                        raise
                    # What becomes of another one is told by itself.
                    continue
                watch = watches[found.publication_id]
                current = self._book.find(room, found.publication_id)
                watch.gaps.new_sid = current.track_sid if current is not None else ""
                await self._subscribers.carry(live, found.publication_id, watch)
            own = watches.get(publication.publication_id)
            sid = own.gaps.new_sid if own is not None else ""
            await meter.until(lambda: meter.sent[0] == sid and meter.sent[1] > 0, 2.0)
            new.look(*_counted(meter, sid))
            if own is not None and not publication.muted:
                await own.until_received(2.0)
            # Statistics come five times a second, so it is no better known than that.
            gap = own.measured(gap_ms(old, new)) if own is not None else None
        sees = publication_pb2.EVIDENCE_ROOM if has_sid(publication) else publication_pb2.EVIDENCE_HOSTED_SESSION
        return Done(sees, gap)

    async def _back(self, live: LiveRoom, publication: Publication, deadline: Deadline) -> None:
        """Waits for it to be in the room under another SID. Raises what it ended of, or LiveKitUnavailable."""
        room, publication_id, old_sid = live.name, publication.publication_id, publication.track_sid

        def settled() -> bool:
            found = self._book.find(room, publication_id)
            anew = found is not None and found.state == LIVE and (found.track_sid != old_sid or not old_sid)
            return found is None or found.state == ENDED or anew

        if not await self._book.until(settled, deadline.remaining_s()):
            raise LiveKitUnavailable("the participant has not joined again in time")
        found = self._book.find(room, publication_id)
        if found is None or found.state == ENDED:
            raise _ended(found)
        if found.track_sid:
            sid = found.track_sid
            await live.until(lambda: sid in live.model.tracks or live.closed, deadline.remaining_s())


def _ended(publication: Publication | None) -> TrackError:
    if publication is not None and publication.HasField("problem"):
        return error_in(publication.problem)
    return PublicationEnded("the publication has ended")


def _counted(meter: Meter, track_sid: str) -> tuple[int, float]:
    """How much of the track was sent, and when that was measured (seconds)."""
    sid, count = meter.sent
    stats = meter.latest
    time_s = seconds_of(stats.measure_time) if stats is not None else 0.0
    return (count if sid == track_sid else 0), time_s
