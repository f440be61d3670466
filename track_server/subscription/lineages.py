"""The tracks that something is held of, over the SIDs that they have one after the other. In memory, without I/O."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from track.v1.track_pb2 import Track
from track_server.rooms.likeness import Followed, Likeness
from track_server.rooms.room import LiveRoom
from track_server.subscription.choice import Chosen

T = TypeVar("T")


@dataclass(slots=True)
class Lineage(Generic[T]):
    """One such track, and what is held of it, by subscriber: choices, or ("") the track's quality policy."""

    chosen: Chosen
    choices: dict[str, T] = field(default_factory=dict)
    sids: set[str] = field(default_factory=set)
    """All SIDs under which it is known: a replaced track may be there beside its successor for a moment."""
    away_since: float | None = None
    """Of a track of somebody else: since when it is not in the room, in seconds since 1970 UTC."""
    passed: frozenset[str] = frozenset()
    """Of one that is away: SIDs of tracks like it that were there beside it, so that none of them is its return."""


class Lineages(Generic[T]):
    """Those of one room. ``followed``: the room, as it was seen since they are followed; None before."""

    def __init__(self) -> None:
        self.followed: Followed | None = None
        self._by_key: dict[str, Lineage[T]] = {}
        self._by_sid: dict[str, Lineage[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def all(self) -> list[Lineage[T]]:
        """In the order in which they were first chosen."""
        return list(self._by_key.values())

    def of_sid(self, track_sid: str) -> Lineage[T] | None:
        """That of the track."""
        return self._by_sid.get(track_sid)

    def of_key(self, key: str) -> Lineage[T] | None:
        """See Chosen."""
        return self._by_key.get(key)

    def follow(self, live: LiveRoom) -> None:
        """The room is followed from now on, unless it is already."""
        if self.followed is None or self.followed.live is not live:
            self.followed = Followed(live)

    def subscribers(self) -> set[str]:
        """Of whom anything was chosen."""
        return {identity for lineage in self._by_key.values() for identity in lineage.choices}

    def add(self, chosen: Chosen) -> Lineage[T]:
        """The one that there is, or a new one."""
        lineage = self._by_key.get(chosen.key)
        if lineage is None:
            lineage = self._by_key[chosen.key] = Lineage(chosen)
        if chosen.track_sid:
            self._index(lineage, chosen.track_sid)
        return lineage

    def remove(self, lineage: Lineage[T]) -> None:
        """Nothing is chosen of it any more."""
        self._by_key.pop(lineage.chosen.key, None)
        for sid in lineage.sids:
            self._by_sid.pop(sid, None)

    def moved(self, lineage: Lineage[T], track_sid: str) -> None:
        """It has another SID from now on; it is known under the old one too, until that is gone."""
        lineage.chosen = replace(lineage.chosen, track_sid=track_sid)
        lineage.away_since, lineage.passed = None, frozenset()
        self._index(lineage, track_sid)

    def gone(self, lineage: Lineage[T], track_sid: str, beside: frozenset[str]) -> None:
        """Its track of that SID left the room. ``beside``: those like it that stay."""
        if lineage.chosen.publication_id or lineage.chosen.track_sid != track_sid:
            if lineage.chosen.track_sid != track_sid:
                lineage.sids.discard(track_sid)
                self._by_sid.pop(track_sid, None)
            return
        lineage.away_since, lineage.passed = time.time(), beside

    def returned(self, track: Track) -> Lineage[T] | None:
        """The one that is away, and that this track, of which nothing is known, comes back as."""
        if track.publication_id or track.sid in self._by_sid:
            return None
        alike = Likeness.of(track)
        away = [
            (lineage.away_since, lineage)
            for lineage in self._by_key.values()
            if lineage.away_since is not None and lineage.chosen.likeness == alike and track.sid not in lineage.passed
        ]
        return min(away, key=lambda found: found[0])[1] if away else None

    def absent(self, present: Iterable[str]) -> list[Lineage[T]]:
        """Those of somebody else's tracks that are not among ``present`` (SIDs), and not known to be away."""
        there = set(present)
        return [
            lineage
            for lineage in self._by_key.values()
            if not lineage.chosen.publication_id
            and lineage.away_since is None
            and lineage.chosen.track_sid not in there
        ]

    def _index(self, lineage: Lineage[T], track_sid: str) -> None:
        lineage.sids.add(track_sid)
        self._by_sid[track_sid] = lineage
