"""Whom and what a dry run is about: as given, or as the room has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from track.v1.event_pb2 import ParticipantQuality
from track.v1.subscription_pb2 import ExplainSubscriptionsRequest
from track.v1.track_pb2 import Participant, Track, TrackType
from track_server.errors import InvalidField, ParticipantNotFound, TrackNotFound
from track_server.rooms.reading import Reader

_MOST_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Subjects:
    """``subscribers``: who may subscribe, by identity; ``tracks``: media, by SID. Both sorted.

    ``publishers``: of all tracks, by identity. ``qualities``: LiveKit's last word on those in the room. ``live``: of
    the subscribers, those as the room has them.
    """

    subscribers: list[Participant]
    tracks: list[Track]
    publishers: Mapping[str, Participant]
    qualities: Mapping[str, ParticipantQuality]
    live: frozenset[str]


async def subjects(request: ExplainSubscriptionsRequest, reader: Reader) -> Subjects:
    """Those of the request.

    Raises InvalidField, RoomNotFound, ParticipantNotFound, TrackNotFound, LiveKitUnavailable.
    """
    given = list(request.participants)
    _refuse_doubles("participants", "identity", [participant.identity for participant in given])
    tracks = list(request.tracks)
    _refuse_doubles("tracks", "sid", [track.sid for track in tracks])
    present: Mapping[str, Participant] = {}
    qualities: Mapping[str, ParticipantQuality] = {}
    if not (given and tracks):
        model = (await reader.view(request.room)).model
        present, qualities = model.participants, model.qualities
        if not tracks:
            found = [track for track in model.tracks.values() if track.participant_identity in present]
            return _chosen(request, given, found, present, qualities)
    publishers = {participant.identity: participant for participant in given} if given else present
    for index, track in enumerate(tracks):
        _refuse_foreign(track, request.room, publishers, f"tracks[{index}]")
    return _chosen(request, given, tracks, present, qualities)


def _chosen(
    request: ExplainSubscriptionsRequest,
    given: list[Participant],
    tracks: Iterable[Track],
    present: Mapping[str, Participant],
    qualities: Mapping[str, ParticipantQuality],
) -> Subjects:
    publishers = {**present, **{participant.identity: participant for participant in given}}
    subscribers = {participant.identity: participant for participant in given} if given else dict(present)
    identity, sid = request.participant_identity, request.track_sid
    if identity and identity not in subscribers:
        raise ParticipantNotFound(f"no participant {identity!r}", field="participant_identity")
    by_sid = {track.sid: track for track in tracks}
    if sid and sid not in by_sid:
        raise TrackNotFound(f"no track {sid!r}", field="track_sid")
    return Subjects(
        [subscribers[who] for who in sorted(subscribers) if identity in ("", who) and _may_subscribe(subscribers[who])],
        [track for _, track in sorted(by_sid.items()) if track.type != TrackType.TRACK_TYPE_DATA],
        publishers,
        qualities,
        frozenset() if given else frozenset(present),
    )


def _may_subscribe(participant: Participant) -> bool:
    """One that is given may leave open what it may do."""
    return not participant.HasField("permission") or participant.permission.can_subscribe


def _refuse_doubles(field: str, name: str, values: list[str]) -> None:
    """Raises InvalidField where one is empty, longer than any of LiveKit's, or comes twice."""
    seen = set()
    for index, value in enumerate(values):
        place = f"{field}[{index}].{name}"
        if not value:
            raise InvalidField(f"it needs its {name}", field=place)
        if len(value.encode()) > _MOST_BYTES:
            raise InvalidField(f"the {name} has more than {_MOST_BYTES} bytes", field=place)
        if value in seen:
            raise InvalidField(f"{value!r} is given twice", field=place)
        seen.add(value)


def _refuse_foreign(track: Track, room: str, publishers: Mapping[str, Participant], place: str) -> None:
    """Raises InvalidField where the track cannot be one of the room and the participants."""
    if track.room not in ("", room):
        raise InvalidField("the track is of another room than the request", field=f"{place}.room")
    if track.participant_identity not in publishers:
        raise InvalidField(
            "its publisher is not among the participants",
            field=f"{place}.participant_identity",
        )
