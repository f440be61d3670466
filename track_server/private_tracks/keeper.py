"""The controller of a room that has restrictions: it tells hosted sessions, and unsubscribes others' subscribers."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from track.v1 import event_pb2, track_pb2
from track.v1 import subscription_permission_pb2 as pb
from track_server.errors import LiveKitUnavailable, RoomNotFound, TrackError
from track_server.livekit.api import LiveKitApi
from track_server.livekit.debug import DebugView, DownTrack
from track_server.private_tracks.guests import Guests
from track_server.private_tracks.restrictions import Restriction, Restrictions
from track_server.private_tracks.standing import (
    ENFORCED,
    REFUSED_HERE_ONLY,
    WATCHED,
    Standing,
    Subject,
    audience_of,
    enforced,
    seen,
)
from track_server.private_tracks.subjects import subject_of
from track_server.private_tracks.unsubscriptions import Unsubscriptions
from track_server.publishing.audience import OPEN, Audience
from track_server.publishing.book import Book
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import ENDED
from track_server.rooms.reading import Roster, roster
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.subscriptions import Subscriptions
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
"""How often LiveKit's API is asked who is in the room (it knows joiners and hidden ones at once), and its debug view
is read."""
_LOOK_WAITING_S: Final = 0.1
"""The same while a command waits for it."""
_GAP_S: Final = 0.05
"""Between two looks at least."""
RETRY_S: Final = 1.0
_UNTOLD_GRACE_S: Final = 2.0
"""A session tells LiveKit within 0.1 s; after this, a hosted track is treated as one of somebody else."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a controller works with. ``debug``: LiveKit's debug view, or None where it is not turned on."""

    rooms: Rooms
    api: LiveKitApi
    subscriptions: Subscriptions
    debug: DebugView | None
    book: Book
    sessions: Sessions
    restrictions: Restrictions
    guests: Guests


class Keeper:
    """The controller of one room. ``stirred`` is called after each look at it.

    ``waiting``: how many commands wait for it, which then looks more often.
    """

    def __init__(self, means: Means, room: str, stirred: Callable[[], None]) -> None:
        self.room = room
        self.waiting = 0
        self._stirred = stirred
        self._means = means
        self._standings: dict[str, Standing] = {}
        """By the text of the key."""
        self._told: dict[str, pb.TrackSubscriptionPermissions] = {}
        """What was announced last, without who may at the moment."""
        self._causes: dict[str, tuple[Restriction, event_pb2.EventCause]] = {}
        """Who set what is not announced yet, by the text of the key."""
        self._hosts: set[str] = set()
        """Identities of hosted participants whose sessions were told something."""
        self._roster = Roster({}, frozenset())
        self._roster_at = 0.0
        self._unsubscriptions = Unsubscriptions(room, means.subscriptions, stirred)
        self._untold_since: dict[str, float] = {}
        self._kick = asyncio.Event()

    def kick(self) -> None:
        """Says that something has changed."""
        self._kick.set()

    def attribute(self, restriction: Restriction, cause: event_pb2.EventCause) -> None:
        """Says who has set it: the event that tells of it names the cause."""
        self._causes[restriction.key.text] = restriction, cause

    def standing(self, restriction: Restriction) -> Standing | None:
        """How it stands; None where it was not looked at yet, or was replaced."""
        standing = self._standings.get(restriction.key.text)
        return standing if standing is not None and standing.restriction is restriction else None

    async def run(self) -> None:
        """Keeps the room's restrictions, and the room watched, until there are none. Raises CancelledError alone."""
        async with self._unsubscriptions:
            while self._means.restrictions.of_room(self.room):
                try:
                    await self._keep_while_there()
                except (TrackError, StoreError) as error:
                    log.warning("restrictions_not_kept", room=self.room, reason=str(error))
                    await self._pause(RETRY_S)
                except Exception:
                    log.exception("restrictions_broke", room=self.room)
                    await self._pause(RETRY_S)
            self._tell_hosts({})
        self._stirred()

    async def _keep_while_there(self) -> None:
        try:
            async with self._means.rooms.watch(self.room) as live:
                await self._keep(live)
        except RoomNotFound:
            await self._room_closed()
            await self._pause(RETRY_S)

    async def _keep(self, live: LiveRoom) -> None:
        while self._means.restrictions.of_room(self.room):
            if live.closed:
                await self._room_closed()
                return
            version = live.version
            await self._look(live)
            # A busy room changes all the time.
            await asyncio.sleep(_GAP_S)
            if version == live.version and not live.closed:
                await self._changed(live, _LOOK_WAITING_S if self.waiting else LOOK_S)

    async def _changed(self, live: LiveRoom, seconds: float) -> None:
        """Returns when there is a reason to look again."""
        kicked = asyncio.create_task(self._kick.wait(), name="kicked")
        moved = asyncio.create_task(live.log.changed(), name="room changed")
        try:
            await asyncio.wait({kicked, moved}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            kicked.cancel()
            moved.cancel()
            await asyncio.gather(kicked, moved, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kick.wait()
                self._kick.clear()

    # One look.

    async def _look(self, live: LiveRoom) -> None:
        self._kick.clear()
        participants = await self._participants(live)
        standings = await self._current(live)
        guests = self._means.guests.of_room(self.room)
        for standing in standings:
            standing.allow(participants, self._roster.hidden, guests)
        everybody = participants.keys() | guests.keys()
        self._tell_hosts(audience_of(standings, frozenset(everybody), live.watcher_identity))
        # What the debug view shows is of the time after LiveKit was told: asked before the view is read.
        told = [self._is_enforced(standing, participants, live) for standing in standings]
        down = await self._down_tracks()
        for standing, is_enforced in zip(standings, told, strict=True):
            self._settle(standing, live, down, is_enforced=is_enforced)
            if not is_enforced and self._reaches(standing, live):
                self._unsubscriptions.ask(standing, participants, down, live.watcher_identity)
        self._standings = {standing.restriction.key.text: standing for standing in standings}
        for known in (self._told, self._untold_since):
            for key in known.keys() - self._standings.keys():
                del known[key]
        for standing in standings:
            self._announce(standing)
        self._stirred()

    async def _participants(self, live: LiveRoom) -> dict[str, track_pb2.Participant]:
        """Everybody in the room: those of whom signalling tells as it tells, the others as the API showed them last."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._roster_at >= LOOK_S or not self._roster.participants:
            try:
                self._roster = await roster(self._means.api, self.room)
                self._roster_at = loop.time()
            except LiveKitUnavailable:
                log.info("roster_not_readable", room=self.room)
        known = live.model.participants if live.current else {}
        return {**self._roster.participants, **known}

    async def _current(self, live: LiveRoom) -> list[Standing]:
        """The restrictions, those left out whose tracks are gone for good."""
        found = []
        for restriction in self._means.restrictions.of_room(self.room):
            subject = subject_of(restriction.key, self._means.book, live)
            if subject is None and (restriction.key.publication_id or live.current):
                await self._means.restrictions.forget(restriction)
                self._unsubscriptions.forget(restriction.key.track_sid)
                continue
            standing = self.standing(restriction)
            if subject is None:
                if standing is not None:
                    found.append(standing)
                continue
            if standing is None:
                standing = Standing(restriction, subject)
            standing.subject = subject
            found.append(standing)
        return found

    def _tell_hosts(self, audiences: Mapping[str, Audience]) -> None:
        for identity in self._hosts | audiences.keys():
            session = self._means.sessions.find(self.room, identity)
            if session is not None:
                session.want_audience(audiences.get(identity, OPEN))
        self._hosts = set(audiences)

    def _is_enforced(
        self, standing: Standing, participants: Mapping[str, track_pb2.Participant], live: LiveRoom
    ) -> bool:
        if not standing.subject.hosted:
            return False
        session = self._means.sessions.find(self.room, standing.subject.participant_identity)
        told = session.audience if session is not None else None
        rule = standing.restriction.rule
        may = standing.allowed | rule.identities | {live.watcher_identity}
        return enforced(told, standing.restriction.key.publication_id, may, participants.keys())

    async def _down_tracks(self) -> list[DownTrack] | None:
        if self._means.debug is None:
            return None
        try:
            return await self._means.debug.down_tracks(self.room)
        except LiveKitUnavailable:
            return None

    def _settle(self, standing: Standing, live: LiveRoom, down: list[DownTrack] | None, *, is_enforced: bool) -> None:
        """Takes down how it stands."""
        key, subject = standing.restriction.key.text, standing.subject
        if is_enforced:
            self._untold_since.pop(key, None)
            standing.level = ENFORCED
        else:
            self._untold_since.setdefault(key, asyncio.get_running_loop().time())
            watched = down is not None and self._reaches(standing, live)
            standing.level = WATCHED if watched else REFUSED_HERE_ONLY
        standing.looked = True
        standing.unseen = None
        if down is not None and _visible(subject, live):
            standing.unseen = not any(copy.bound for copy in seen(down, standing, live.watcher_identity))

    def _reaches(self, standing: Standing, live: LiveRoom) -> bool:
        """Whether its subscribers are ours to unsubscribe: not where the session is about to tell LiveKit."""
        if not _visible(standing.subject, live):
            return False
        since = self._untold_since.get(standing.restriction.key.text, math.inf)
        return not standing.subject.hosted or asyncio.get_running_loop().time() - since > _UNTOLD_GRACE_S

    async def _room_closed(self) -> None:
        """Forgets what is gone with the room: tracks of others; publications are ended by their session."""
        for restriction in self._means.restrictions.of_room(self.room):
            publication = self._means.book.find(self.room, restriction.key.publication_id)
            if publication is None or publication.state == ENDED:
                await self._means.restrictions.forget(restriction)

    def _announce(self, standing: Standing) -> None:
        """Tells the room's log where the rule or how it is kept has changed."""
        message = standing.message()
        bare = pb.TrackSubscriptionPermissions()
        bare.CopyFrom(message)
        bare.ClearField("allowed_identities")
        key = standing.restriction.key.text
        if self._told.get(key) != bare:
            self._told[key] = bare
            event = event_pb2.RoomEvent(subscription_permissions_changed=message)
            if key in self._causes and self._causes[key][0] is standing.restriction:
                event.cause.CopyFrom(self._causes.pop(key)[1])
            self._means.rooms.announce(self.room, event)


def _visible(subject: Subject, live: LiveRoom) -> bool:
    """Whether LiveKit's server can unsubscribe it, and the debug view shows it: a media track that is in the room."""
    return subject.type != track_pb2.TRACK_TYPE_DATA and subject.track_sid in live.model.tracks
