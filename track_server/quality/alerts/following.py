"""Rooms whose events are asked for by those who may be shown what quality brings: their quality is followed."""

from collections.abc import Iterable
from typing import Final

from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.selection import Selection

KINDS: Final = frozenset(
    {
        "quality_alert_started",
        "quality_alert_ended",
        "quality_level_changed",
        "quality_action_taken",
        "quality_action_judged",
    }
)
"""The events that come of it."""


class AlertFollowing:
    """Follows the quality of rooms for those who listen to their events; who keeps them watched is their business.

    ``seen`` listens to Standing, ``closed`` to Assessing.
    """

    def __init__(self, rooms: Rooms, assessing: Assessing) -> None:
        self._rooms = rooms
        self._assessing = assessing
        self._wanted: dict[object, frozenset[str]] = {}
        """The rooms by who wants them; none stands for all."""
        self._all = object()
        """Follows for those who want all."""
        self._of_all: set[str] = set()
        """Rooms that are followed for them."""

    def want(self, owner: object, rooms: Iterable[str], selection: Selection) -> None:
        """``owner`` listens to those rooms, or to all where none is given, from now on, unless its selection is of
        other events. In the place of what it wanted before."""
        self.release(owner)
        if not selection.may_show(KINDS):
            return
        names = self._wanted[owner] = frozenset(rooms)
        for room in names:
            self._assessing.follow(owner, room)
        if not names:
            for room in self._rooms.watched():
                self._follow(room)

    def release(self, owner: object) -> None:
        """``owner`` listens no more."""
        names = self._wanted.pop(owner, None)
        if names is None:
            return
        for room in names:
            self._assessing.release(owner, room)
        if all(self._wanted.values()):
            for room in list(self._of_all):
                self._let_go(room)

    def seen(self, live: LiveRoom) -> None:
        """The room is watched, in this life of it or this run for the first time."""
        if not all(self._wanted.values()):
            self._follow(live.name)

    def closed(self, room: RoomAssessment) -> None:
        """An assessment ended: of a room that is no more, nobody who wants all wants anything."""
        if room.live.closed:
            self._let_go(room.name)

    def _follow(self, room: str) -> None:
        self._of_all.add(room)
        self._assessing.follow(self._all, room)

    def _let_go(self, room: str) -> None:
        if room in self._of_all:
            self._of_all.discard(room)
            self._assessing.release(self._all, room)
