"""What is to be pulled at the moment: the tracks behind a request, and whether they may still be had."""

from dataclasses import dataclass

from track.v1 import access_pb2, track_pb2
from track.v1.publication_pb2 import Publication
from track.v1.pull_pb2 import PullEndReason, PullMediaRequest
from track_server.access.bounds import Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.errors import (
    InvalidField,
    NotForDataTracks,
    PermissionDenied,
    PublicationEnded,
    PublicationNotFound,
    TargetPermission,
    TrackError,
)
from track_server.private_tracks.restrictions import Restrictions
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.spec.kinds import are_messages
from track_server.pulling import wanted
from track_server.pulling.layer import refuse_missing_layer
from track_server.rooms.reading import encrypted, find_track
from track_server.rooms.room import LiveRoom


@dataclass(frozen=True, slots=True)
class Sight:
    """``sids``: of the track and of the sound that goes with it; empty where there is none at the moment.

    ``ended``: why it is over. ``refused``: why it may not be had any more. Else neither.
    """

    sids: tuple[str, str] = ("", "")
    ended: PullEndReason.ValueType | None = None
    refused: str = ""
    key_needed: bool = False


class Prospect:
    """Of one request, in a room that is watched. ``behalf``: the participant on whose behalf it is, "" for nobody."""

    def __init__(
        self,
        request: PullMediaRequest,
        live: LiveRoom,
        book: Book,
        restrictions: Restrictions,
        behalf: str,
        known: track_pb2.Participant | None,
    ) -> None:
        """``known``: the participant as LiveKit's API shows it, where the room does not tell of it yet."""
        self.request = request
        self.live = live
        self.behalf = behalf
        self._book = book
        self._restrictions = restrictions
        self._known = known
        self._last = Sight()

    @property
    def publication(self) -> Publication | None:
        """The publication that is asked for."""
        publication_id = self.request.publication_id
        return self._book.find(self.live.name, publication_id) if publication_id else None

    @property
    def track(self) -> track_pb2.Track | None:
        """The track as it is in the room; None where it is not."""
        publication = self.publication
        sid = publication.track_sid if publication is not None else self.request.track_sid
        return self.live.model.tracks.get(sid)

    @property
    def sound(self) -> track_pb2.Track | None:
        """The sound that goes with it."""
        return self.live.model.tracks.get(self.request.audio_track_sid)

    def questions(self) -> list[Question]:
        """What is asked of whoever decides: whether the participant may subscribe to each track."""
        track, publication = self.track, self.publication
        if track is not None:
            main = Question(access_pb2.PERMISSION_SUBSCRIBE, self.live.name, self.behalf, track.sid, _described(track))
        else:
            described = Description(type=publication.type, source=publication.spec.source) if publication else None
            main = Question(
                access_pb2.PERMISSION_SUBSCRIBE, self.live.name, self.behalf, self.request.track_sid, described
            )
        if not self.request.audio_track_sid:
            return [main]
        described = _described(self.sound) if self.sound is not None else None
        sid = self.request.audio_track_sid
        return [main, Question(access_pb2.PERMISSION_SUBSCRIBE, self.live.name, self.behalf, sid, described)]

    def publishers(self) -> list[tuple[str, str]]:
        """Identities of those who publish it, each with the id of the publication, "" where it is none of ours."""
        track, publication = self.track, self.publication
        main = [(publication.participant_identity, publication.publication_id)] if publication is not None else []
        found = [found for found in (track if not main else None, self.sound) if found is not None]
        return [*main, *((each.participant_identity, each.publication_id) for each in found)]

    def check(self, principal: Principal, *, admin: bool) -> None:
        """Raises what is wrong with the request now that the principal may ask: TrackNotFound, PublicationNotFound,
        PublicationEnded, InvalidOptions, InvalidField, NotForDataTracks, EncryptionKeyNeeded, NotSupported, and
        PermissionDenied or TargetPermission where the participant may not subscribe.
        """
        request, publication = self.request, self.publication
        if request.publication_id:
            if publication is None:
                raise PublicationNotFound(
                    f"no publication {request.publication_id!r} in the room", field="publication_id"
                )
            if publication.state == ENDED:
                raise PublicationEnded("the publication has ended", field="publication_id")
            if are_messages(publication.spec):
                raise NotForDataTracks("data messages have no track to pull", field="publication_id")
            kind = publication.type
        else:
            kind = find_track(self.live.model.tracks, request.track_sid, "track_sid").type
        wanted.refuse_format(request, kind)
        tracks = [self.track]
        if request.audio_track_sid:
            sound = find_track(self.live.model.tracks, request.audio_track_sid, "audio_track_sid")
            if sound.type != track_pb2.TRACK_TYPE_AUDIO:
                raise InvalidField("the track is not one of sound", field="audio_track_sid")
            tracks.append(sound)
        itself = principal.identity == self.behalf and not admin
        subscriber = self._subscriber()
        if subscriber.HasField("permission") and not subscriber.permission.can_subscribe:
            refusal = PermissionDenied if itself else TargetPermission
            raise refusal(f"participant {self.behalf!r} may not subscribe", field="participant_identity")
        for track in (*self._restrictable(), *filter(None, tracks[1:])):
            self._restrictions.refuse(track, subscriber, itself=itself, field="participant_identity")
        for found in filter(None, tracks):
            wanted.refuse_without_key(request, found)
        if request.HasField("settings") and self.track is not None:
            refuse_missing_layer(request, self.track)

    def look(self) -> Sight:
        """How it is now. While LiveKit is away, as it was before."""
        self._last = self._look()
        return self._last

    def _look(self) -> Sight:
        if self.live.closed:
            return Sight(ended=PullEndReason.PULL_END_REASON_ROOM_CLOSED)
        publication, track, sound = self.publication, self.track, self.sound
        if self.request.publication_id:
            if publication is None or publication.state == ENDED:
                return Sight(ended=PullEndReason.PULL_END_REASON_TRACK_ENDED)
        elif track is None:
            gone = Sight(ended=PullEndReason.PULL_END_REASON_TRACK_ENDED)
            return gone if self.live.current else self._last
        if refused := self._refused(sound):
            return Sight(refused=refused)
        if any(encrypted(found) and not self.request.encryption_key for found in (track, sound) if found is not None):
            return Sight(key_needed=True)
        return Sight((track.sid if track is not None else "", sound.sid if sound is not None else ""))

    def _refused(self, sound: track_pb2.Track | None) -> str:
        subscriber = self._subscriber()
        if subscriber.HasField("permission") and not subscriber.permission.can_subscribe:
            return "LiveKit has taken the permission to subscribe away from the participant"
        try:
            for track in (*self._restrictable(), *([sound] if sound is not None else [])):
                self._restrictions.refuse(track, subscriber, itself=True, field="participant_identity")
        except TrackError:
            return "the track has become private: the participant may not subscribe to it"
        return ""

    def _restrictable(self) -> list[track_pb2.Track]:
        """The main track, for the rules: that of a publication also while it is not in the room."""
        track, publication = self.track, self.publication
        if track is None and publication is not None:
            return [track_pb2.Track(room=self.live.name, publication_id=publication.publication_id)]
        return [track] if track is not None else []

    def _subscriber(self) -> track_pb2.Participant:
        found = self.live.model.participants.get(self.behalf) if self.behalf else None
        return found or self._known or track_pb2.Participant(identity=self.behalf)


def _described(track: track_pb2.Track) -> Description:
    return Description(type=track.type, source=track.source)
