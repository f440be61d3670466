"""Which subscribers and tracks an event of a room can make another decision about. Pure."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from google.protobuf.message import Message

from track.v1.event_pb2 import ParticipantQuality, RoomEvent
from track.v1.track_pb2 import Participant, Track
from track_server.rooms.model import RoomModel
from track_server.subscription.policies.ruleset import Ruleset

EVERYTHING: Final = None
"""All tracks."""

_TRACK_CHANGES: Final = ("track_updated", "track_muted", "track_unmuted")


class Touched(NamedTuple):
    """``identity``: a subscriber. ``track_sids``: None: all."""

    identity: str
    track_sids: Collection[str] | None


class Before:
    """What participants and tracks were, so that it can be told what of them changed."""

    def __init__(self) -> None:
        self.participants: dict[str, Participant] = {}
        self.tracks: dict[str, Track] = {}
        self.qualities: dict[str, ParticipantQuality] = {}

    def take(self, model: RoomModel) -> None:
        """They are as the model has them now: its messages never change."""
        self.participants, self.tracks = dict(model.participants), dict(model.tracks)
        self.qualities = dict(model.qualities)

    def took(self, event: RoomEvent) -> tuple[Message | None, Message | None]:
        """What the event is about, before and after it. To be called once for each event."""
        change = event.WhichOneof("change")
        match change:
            case "participant_joined" | "participant_updated":
                after: Participant = getattr(event, change)
                before = self.participants.get(after.identity)
                self.participants[after.identity] = after
                return before, after
            case "participant_left":
                self.qualities.pop(event.participant_left.identity, None)
                return self.participants.pop(event.participant_left.identity, None), None
            case "track_published" | "track_updated" | "track_muted" | "track_unmuted":
                track: Track = getattr(event, change)
                known = self.tracks.get(track.sid)
                self.tracks[track.sid] = track
                return known, track
            case "track_unpublished":
                return self.tracks.pop(event.track_unpublished.sid, None), None
            case "quality_changed":
                rated = event.quality_changed
                was = self.qualities.get(rated.participant_identity)
                self.qualities[rated.participant_identity] = rated
                return was, rated
            case _:
                return None, None


def touched(
    event: RoomEvent,
    before: Message | None,
    model: RoomModel,
    rulesets: Mapping[str, Ruleset | None],
    *,
    private: bool,
) -> Iterator[Touched]:
    """``before``: see Before. ``rulesets``: of the subscribers, by identity. ``private``: the room has private tracks.

    Each subscriber is named once at most. An event costs a look at every subscriber, and at every track of the
    participant that it is about; not at every pair.
    """
    change = event.WhichOneof("change")
    if change == "participant_joined":
        yield Touched(event.participant_joined.identity, EVERYTHING)
    elif change in ("track_published", "track_unpublished"):
        sids = (getattr(event, change).sid,)
        for identity in rulesets:
            yield Touched(identity, sids)
    elif change in _TRACK_CHANGES:
        yield from _track(getattr(event, change), before, rulesets)
    elif change == "participant_updated":
        yield from _participant(event.participant_updated, before, model, rulesets, private=private)
    elif change == "quality_changed":
        after = event.quality_changed
        differing: dict[int, bool] = {}
        for ruleset in rulesets.values():
            if ruleset is not None and id(ruleset) not in differing:
                anew = before is None or ruleset.differs("quality", before, after)
                differing[id(ruleset)] = anew and ruleset.concerned(event)
        reading = {name: ruleset for name, ruleset in rulesets.items() if ruleset and differing[id(ruleset)]}
        yield from _publisher(after.participant_identity, model, reading)


def _track(after: Track, before: Message | None, rulesets: Mapping[str, Ruleset | None]) -> Iterator[Touched]:
    """What a layer is decided by is in the track itself: all that is not in its text and metadata."""
    asked: dict[int, bool] = {}
    anew = before is None or not isinstance(before, Track) or _picture(before) != _picture(after)
    for identity, ruleset in rulesets.items():
        if identity == after.participant_identity:
            continue
        if not anew and ruleset is not None and id(ruleset) not in asked and before is not None:
            asked[id(ruleset)] = ruleset.differs("track", before, after)
        if anew or (ruleset is not None and asked[id(ruleset)]):
            yield Touched(identity, (after.sid,))


def _participant(
    after: Participant,
    before: Message | None,
    model: RoomModel,
    rulesets: Mapping[str, Ruleset | None],
    *,
    private: bool,
) -> Iterator[Touched]:
    own = rulesets.get(after.identity)
    if (
        before is None
        or private
        or not isinstance(before, Participant)
        or before.permission.can_subscribe != after.permission.can_subscribe
        or (own is not None and own.differs("subscriber", before, after))
    ):
        yield Touched(after.identity, EVERYTHING)
    differing: dict[int, bool] = {}
    for ruleset in rulesets.values():
        if ruleset is not None and id(ruleset) not in differing:
            differing[id(ruleset)] = before is None or ruleset.differs("publisher", before, after)
    reading = {name: ruleset for name, ruleset in rulesets.items() if ruleset is not None and differing[id(ruleset)]}
    yield from _publisher(after.identity, model, reading)


def _publisher(identity: str, model: RoomModel, rulesets: Mapping[str, object]) -> Iterator[Touched]:
    sids = [track.sid for track in model.tracks_of(identity)] if rulesets else []
    for name in rulesets:
        if sids and name != identity:
            yield Touched(name, sids)


def _picture(track: Track) -> tuple[object, ...]:
    """What layers and costs are made from, and whose it is."""
    return (
        track.muted,
        track.mime_type,
        track.width,
        track.height,
        track.simulcast,
        track.stereo,
        track.red,
        track.publication_id,
        [layer.SerializeToString(deterministic=True) for layer in track.layers],
    )
