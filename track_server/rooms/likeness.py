"""Which track is another one come back: what LiveKit's SIDs do not tell. Reads alone."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Track
from track_server.rooms.room import LiveRoom

_TURN_S: Final = 5.0
"""LiveKit may tell of a track that is published anew before it tells that the old one is gone, though that was
unpublished first: seen up to 1 s apart on a busy machine."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a track has in common with the one that it comes back as."""

    participant_identity: str
    type: int
    source: int
    name: str

    @classmethod
    def of(cls, track: Track) -> Self:
        """That of a track in the room."""
        return cls(track.participant_identity, track.type, track.source, track.name)

    @classmethod
    def of_publication(cls, publication: Publication) -> Self:
        """That of the track that it has, or will have."""
        spec = publication.spec
        return cls(publication.participant_identity, publication.type, spec.source, spec.name)


class Followed:
    """A room that is followed from now on: it is told, in order, which tracks come and go.

    The model does not tell that: it is a step ahead, where several changes came at once.
    """

    def __init__(self, live: LiveRoom) -> None:
        self.live = live
        self._sids = set(live.model.tracks)
        self._came_at: dict[str, float] = {}
        """Of those that came since, on the monotonic clock."""

    def came(self, track: Track) -> None:
        """It is in the room."""
        if track.sid not in self._sids:
            self._came_at[track.sid] = time.monotonic()
        self._sids.add(track.sid)

    def went(self, track: Track) -> frozenset[str]:
        """It left the room. SIDs of those that were there beside it and are like it: none of them is its return."""
        self._sids.discard(track.sid)
        self._came_at.pop(track.sid, None)
        alike = Likeness.of(track)
        there = self.live.model.tracks_of(track.participant_identity)
        return frozenset(found.sid for found in there if found.sid in self._sids and Likeness.of(found) == alike)

    def lately(self, track_sids: Collection[str]) -> list[str]:
        """Those of them that came so short a time ago that they may be the return of one that left now, first come
        first."""
        since = time.monotonic() - _TURN_S
        return sorted((sid for sid in track_sids if self._came_at.get(sid, 0.0) > since), key=self._came_at.__getitem__)
