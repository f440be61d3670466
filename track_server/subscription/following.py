"""What is held of tracks follows them from SID to SID, and ends with them, with their room, and with its subscriber."""

import json
import time
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

import structlog

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Track
from track_server.alarms import Alarms
from track_server.lifetime import Closing
from track_server.publishing.lifecycle import ENDED
from track_server.rooms.room import LiveRoom
from track_server.subscription.lineages import Lineage, Lineages

log = structlog.get_logger(__name__)

RETURN_S: Final = 60.0
"""How long the track of somebody else may be away: the same publisher's of the same type, source and name is it."""
ABSENT_S: Final = 24 * 3600.0
"""How long a subscriber may be away, so that a room that never ends does not fill with those who came once."""


T = TypeVar("T")


class Holder(Protocol[T]):
    """Owner of what is held: see Choices. Its methods neither wait nor raise."""

    def rooms(self) -> Sequence[str]:
        """Rooms in which something is held."""

    def concerns(self, room: str) -> bool:
        """Whether something is held in the room."""

    def lineages(self, room: str) -> Lineages[T] | None:
        """The tracks of which something is held in the room."""

    def moved(self, lineage: Lineage[T], *, keep: bool) -> None:
        """Its track has another SID. ``keep``: that is to be stored."""

    def end(self, lineage: Lineage[T], identity: str | None = None) -> None:
        """What is held of it is over, of that subscriber or of all."""


class Following(Closing, Generic[T]):
    """Follows the rooms in which something is held, `async with`. A Stake of their Lives.

    ``announced`` listens to the Book. ``absent_s``: None where nothing that is held is a subscriber's.
    """

    def __init__(self, choices: Holder[T], *, return_s: float = RETURN_S, absent_s: float | None = ABSENT_S) -> None:
        self._choices = choices
        self._return_s = return_s
        self._absent_s = absent_s
        self._returns = Alarms(self._lost)
        self._absences = Alarms(self._absent)

    async def aclose(self) -> None:
        """Lets go; the choices stay. May be called twice."""
        await self._returns.aclose()
        await self._absences.aclose()

    def announced(self, before: Publication | None, after: Publication) -> None:
        """See the class."""
        lineages = self._choices.lineages(after.room)
        lineage = lineages.of_key(after.publication_id) if lineages is not None else None
        if lineages is None or lineage is None:
            return
        if after.state == ENDED:
            self._choices.end(lineage)
        elif after.track_sid and after.track_sid != lineage.chosen.track_sid:
            lineages.moved(lineage, after.track_sid)
            self._choices.moved(lineage, keep=False)

    def rooms(self) -> Sequence[str]:
        """See Stake."""
        return self._choices.rooms()

    def concerns(self, room: str) -> bool:
        """See Stake."""
        return self._choices.concerns(room)

    def look(self, live: LiveRoom) -> None:
        """See Stake."""
        lineages = self._choices.lineages(live.name)
        if lineages is None:
            return
        lineages.follow(live)
        for lineage in lineages.absent(live.model.tracks):
            self._away(lineage, lineage.chosen.track_sid, frozenset())
        for track in list(live.model.tracks.values()):
            self._came(live, track)
        for identity in lineages.subscribers():
            self._look_for(live, lineages, identity)

    def happened(self, live: LiveRoom, event: event_pb2.RoomEvent) -> None:
        """See Stake."""
        match event.WhichOneof("change"):
            case "track_published":
                self._came(live, event.track_published)
            case "track_updated":
                self._came(live, event.track_updated)
            case "track_unpublished":
                self._went(live, event.track_unpublished)
            case "participant_joined":
                self._absences.set(_alarm(live.name, event.participant_joined.identity), None)
            case "participant_left":
                lineages = self._choices.lineages(live.name)
                if lineages is not None:
                    self._look_for(live, lineages, event.participant_left.identity)
            case _:
                pass

    def ended(self, room: str) -> None:
        """See Stake."""
        lineages = self._choices.lineages(room)
        if lineages is None:
            return
        for identity in lineages.subscribers():
            self._absences.set(_alarm(room, identity), None)
        for lineage in lineages.all():
            self._returns.set(_alarm(room, lineage.chosen.key), None)
            self._choices.end(lineage)

    def _look_for(self, live: LiveRoom, lineages: Lineages[T], identity: str) -> None:
        """A subscriber may have come, or gone."""
        if self._absent_s is not None and identity in lineages.subscribers():
            there = identity in live.model.participants
            self._absences.set(_alarm(live.name, identity), None if there else time.time() + self._absent_s)

    def _came(self, live: LiveRoom, track: Track) -> None:
        """A track is in the room, or has become another one."""
        lineages = self._choices.lineages(live.name)
        if lineages is None or lineages.followed is None:
            return
        lineages.followed.came(track)
        known = lineages.of_sid(track.sid)
        if known is not None and known.away_since is None:
            return
        # Where it is known, it was not known whether it is there.
        lineage = known or lineages.returned(track)
        if lineage is None:
            return
        self._returns.set(_alarm(live.name, lineage.chosen.key), None)
        before = lineage.chosen.track_sid
        lineages.moved(lineage, track.sid)
        if before != track.sid:
            lineages.gone(lineage, before, frozenset())
            log.info("track_followed", room=live.name, track_sid=track.sid, before=before)
        self._choices.moved(lineage, keep=before != track.sid)

    def _went(self, live: LiveRoom, track: Track) -> None:
        """A track left the room."""
        lineages = self._choices.lineages(live.name)
        if lineages is None or lineages.followed is None:
            return
        beside = lineages.followed.went(track)
        lineage = lineages.of_sid(track.sid)
        if lineage is None:
            return
        lately = lineages.followed.lately(beside)
        self._away(lineage, track.sid, beside.difference(lately))
        for sid in lately:
            if (came := live.model.tracks.get(sid)) is not None:
                self._came(live, came)

    def _away(self, lineage: Lineage[T], track_sid: str, beside: frozenset[str]) -> None:
        lineages = self._choices.lineages(lineage.chosen.room)
        assert lineages is not None
        lineages.gone(lineage, track_sid, beside)
        if lineage.away_since is not None:
            alarm = _alarm(lineage.chosen.room, lineage.chosen.key)
            self._returns.set(alarm, lineage.away_since + self._return_s)

    async def _lost(self, alarm: str) -> None:
        """A track has not come back."""
        room, key = json.loads(alarm)
        lineages = self._choices.lineages(room)
        lineage = lineages.of_key(key) if lineages is not None else None
        if lineage is not None and lineage.away_since is not None:
            self._choices.end(lineage)

    async def _absent(self, alarm: str) -> None:
        """A subscriber has not come back."""
        room, identity = json.loads(alarm)
        lineages = self._choices.lineages(room)
        for lineage in lineages.all() if lineages is not None else []:
            self._choices.end(lineage, identity)


def _alarm(*place: str) -> str:
    return json.dumps(place)
