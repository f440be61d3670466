"""Which tracks a call is about, and what is asked of whoever decides about each."""

from dataclasses import dataclass
from typing import Final

from track.v1 import access_pb2, tracks_pb2
from track.v1.track_pb2 import TRACK_TYPE_DATA, Track
from track_server.access.bounds import Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.rules import is_admin
from track_server.cel import compile_filter, in_time
from track_server.errors import InvalidField, NotForDataTracks, PermissionDenied, TrackNotFound
from track_server.rooms.model import RoomModel
from track_server.rooms.reading import find_track

MOST: Final = 1000
"""Tracks that a filter may choose for one call."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One track of a call. ``field``: where the request names it; ``sid_field``: where it names the SID."""

    ref: tracks_pb2.TrackRef
    field: str
    sid_field: str
    identity_field: str


def named(request: tracks_pb2.MuteTracksRequest | tracks_pb2.UnmuteTracksRequest) -> list[Chosen]:
    """Those that the request names, in order."""
    return [
        Chosen(ref, field := f"tracks[{index}]", f"{field}.track_sid", f"{field}.participant_identity")
        for index, ref in enumerate(request.tracks)
    ]


def matching(model: RoomModel, request: tracks_pb2.MuteTracksRequest) -> list[Chosen]:
    """The media tracks that the request's filters choose, by participant and SID.

    Raises InvalidExpression; InvalidField where they are more than MOST.
    """
    matches = in_time(compile_filter(request.filter, "track"))
    leaves_out = compile_filter(request.except_filter, "track", "except_filter")
    left_out = in_time(leaves_out, "except_filter") if leaves_out is not None else None
    found = [
        track
        for track in model.tracks.values()
        if track.type != TRACK_TYPE_DATA and matches(track) and not (left_out is not None and left_out(track))
    ]
    field = "filter" if request.filter else "except_filter"
    if len(found) > MOST:
        raise InvalidField(f"{len(found)} tracks match, and one call mutes {MOST} at most", field=field)
    found.sort(key=lambda track: (track.participant_identity, track.sid))
    return [Chosen(named_by(track), field, field, field) for track in found]


def question_about(model: RoomModel, ref: tracks_pb2.TrackRef) -> Question:
    """Asked of the participant that the caller names, else of the publisher: the answer must not tell whether a track
    of somebody else's exists."""
    known = model.tracks.get(ref.track_sid)
    described = Description(type=known.type, source=known.source) if known is not None else None
    publisher = known.participant_identity if known is not None else ""
    identity = ref.participant_identity or publisher
    return Question(
        access_pb2.PERMISSION_MUTE, model.name, identity, ref.track_sid, described if identity == publisher else None
    )


def find_media(model: RoomModel, chosen: Chosen) -> Track:
    """The track. Raises TrackNotFound, NotForDataTracks."""
    ref = chosen.ref
    known = model.tracks.get(ref.track_sid)
    identity = ref.participant_identity
    if identity and (known is None or identity != known.participant_identity):
        # The same for a track of somebody else's and for one that does not exist.
        raise TrackNotFound(f"participant {identity!r} has no track {ref.track_sid!r}", field=chosen.identity_field)
    track = find_track(model.tracks, ref.track_sid, chosen.sid_field)
    if track.type == TRACK_TYPE_DATA:
        raise NotForDataTracks("LiveKit cannot mute data tracks", field=chosen.sid_field)
    return track


def require_over_others(principal: Principal, room: str, identity: str) -> None:
    """Raises PermissionDenied where the caller, who may mute the participant, may do it as that participant alone.

    Blocks are for moderators: who is allowed to mute itself could lift its own.
    """
    own = identity in ("", principal.identity) and principal.grants.room == room
    if own and not is_admin(principal, room):
        raise PermissionDenied("moderation blocks of one's own participant need roomAdmin")


def named_by(track: Track) -> tracks_pb2.TrackRef:
    """The track's names."""
    return tracks_pb2.TrackRef(track_sid=track.sid, participant_identity=track.participant_identity)
