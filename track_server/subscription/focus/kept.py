"""A focus as it is kept, with what its tracks are beyond their SIDs, which do not last."""

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

from google.protobuf import json_format

from track.v1.subscription_pb2 import Focus, FocusTarget
from track.v1.track_pb2 import Track
from track_server.rooms.likeness import Likeness


@dataclass(frozen=True, slots=True)
class _Named:
    """A track that the focus names. ``publication_id``: empty where this service does not publish it."""

    likeness: Likeness
    publication_id: str

    @classmethod
    def of(cls, track: Track) -> Self:
        return cls(Likeness.of(track), track.publication_id)

    def returns_as(self, track: Track) -> bool:
        if self.publication_id or track.publication_id:
            return self.publication_id == track.publication_id
        return self.likeness == Likeness.of(track)


@dataclass(frozen=True, slots=True)
class Kept:
    """``focus`` is never changed in place. ``named``: its tracks by SID."""

    focus: Focus
    named: Mapping[str, _Named]

    @classmethod
    def of(cls, focus: Focus, tracks: Mapping[str, Track]) -> Self:
        """``tracks``: of the room by SID. Raises KeyError where one that the focus names is not among them."""
        return cls(focus, {sid: _Named.of(tracks[sid]) for sid in _sids(focus)})

    @classmethod
    def decoded(cls, body: bytes) -> Self:
        """What ``encoded`` made. Raises KeyError, TypeError, ValueError."""
        values = json.loads(body)
        focus = json_format.ParseDict(values["focus"], Focus(), ignore_unknown_fields=True)
        named = {
            sid: _Named(Likeness(**each["likeness"]), each["publication_id"]) for sid, each in values["named"].items()
        }
        return cls(focus, named)

    def encoded(self) -> bytes:
        """For the store."""
        named = {sid: asdict(each) for sid, each in self.named.items()}
        return json.dumps({"focus": json_format.MessageToDict(self.focus), "named": named}).encode()

    def gone(self, there: Container[str]) -> list[str]:
        """SIDs that it names and that are not ``there``."""
        return [sid for sid in self.named if sid not in there]

    def moved(self, track: Track, there: Container[str]) -> Self | None:
        """The focus with that track in the place of one that is not ``there``, and comes back as it; None where it is
        the return of none."""
        if track.sid in self.named:
            return None
        sid = next((sid for sid in self.gone(there) if self.named[sid].returns_as(track)), None)
        if sid is None:
            return None
        focus = Focus()
        focus.CopyFrom(self.focus)
        for target in _targets(focus):
            if target.track_sid == sid:
                target.track_sid = track.sid
        named = {track.sid if known == sid else known: each for known, each in self.named.items()}
        return type(self)(focus, named | {track.sid: _Named.of(track)})


def _targets(focus: Focus) -> Iterable[FocusTarget]:
    yield from focus.pinned
    yield from focus.on_stage


def _sids(focus: Focus) -> list[str]:
    return [target.track_sid for target in _targets(focus) if target.WhichOneof("target") == "track_sid"]
