"""Limits that quality adaptation sets on what is received: terms of the layer beside rules, choices and reports."""

from collections.abc import Iterable, Iterator
from typing import Final

from track.v1.subscription_pb2 import LayerTerm, LayerTermKind
from track.v1.track_pb2 import VideoQuality
from track_server.durations import seconds_of
from track_server.subscription.layers.terms import Term
from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, OFF

KINDS: Final = frozenset(
    {
        LayerTermKind.LAYER_TERM_KIND_CPU,
        LayerTermKind.LAYER_TERM_KIND_NETWORK,
        LayerTermKind.LAYER_TERM_KIND_PUBLISHER_CAP,
    }
)
"""What may be set so."""

_QUALITIES: Final = {
    VideoQuality.VIDEO_QUALITY_OFF: OFF,
    VideoQuality.VIDEO_QUALITY_LOW: LOW,
    VideoQuality.VIDEO_QUALITY_MEDIUM: MEDIUM,
    VideoQuality.VIDEO_QUALITY_HIGH: HIGH,
}

_Place = tuple[str, str]
"""Identity of a subscriber and a track's SID; empty: every one."""


class Limits:
    """Owner of them, in memory. Without I/O."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[_Place, dict[str, Term]]] = {}
        """The terms by owner."""
        self._wants: dict[str, set[str]] = {}
        """Who wants to set some, by room: over all its lives."""

    def want(self, owner: str, room: str) -> None:
        """``owner`` is to be able to set some in the room from now on."""
        self._wants.setdefault(room, set()).add(owner)

    def release(self, owner: str, room: str) -> None:
        """``owner`` no longer."""
        owners = self._wants.get(room, set())
        owners.discard(owner)
        if not owners:
            self._wants.pop(room, None)

    def put(self, owner: str, room: str, identity: str, track_sid: str, term: LayerTerm | None) -> None:
        """``owner`` limits by that term, in the place of the one that it set there before; None: no more.

        Raises ValueError for a kind that is not among KINDS.
        """
        if term is not None and term.kind not in KINDS:
            raise ValueError(f"{LayerTermKind.Name(term.kind)} is not a limit of quality adaptation")
        places = self._rooms.setdefault(room, {})
        terms = places.setdefault((identity, track_sid), {})
        terms.pop(owner, None)
        if term is not None:
            terms[owner] = _term(term)
        if not terms:
            del places[identity, track_sid]
        if not places:
            del self._rooms[room]

    def of(self, room: str, identity: str, track_sid: str) -> Iterator[Term]:
        """Those that hold for that subscriber and track."""
        places = self._rooms.get(room)
        if places is None:
            return
        for place in ((identity, track_sid), (identity, ""), ("", track_sid), ("", "")):
            yield from places.get(place, {}).values()

    def rooms(self) -> Iterable[str]:
        """Rooms in which there are any."""
        return list(self._rooms)

    def concerns(self, room: str) -> bool:
        """Whether there are any in the room."""
        return room in self._rooms

    def wanted(self, room: str) -> bool:
        """Whether anybody is to be able to set some there."""
        return room in self._wants

    def forget(self, room: str) -> None:
        """The room is gone."""
        self._rooms.pop(room, None)


def _term(term: LayerTerm) -> Term:
    return Term(
        term.kind,
        _QUALITIES.get(term.quality),
        term.width if term.HasField("width") else None,
        term.height if term.HasField("height") else None,
        term.frames_per_second if term.HasField("frames_per_second") else None,
        term.bitrate_bps if term.HasField("bitrate_bps") else None,
        term.detail,
        seconds_of(term.expire_time) if term.HasField("expire_time") else None,
    )
