"""Which track a caller means, and what is behind a restriction now."""

from dataclasses import dataclass

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import TRACK_SOURCE_UNSPECIFIED, TRACK_TYPE_DATA
from track_server.access.bounds import Description
from track_server.errors import NotForDataTracks
from track_server.private_tracks.restrictions import Key, Restrictions
from track_server.private_tracks.rule import Rule
from track_server.private_tracks.standing import Subject
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.rooms.room import LiveRoom


@dataclass(frozen=True, slots=True)
class Target:
    """A track that a caller named, and that exists."""

    key: Key
    subject: Subject
    ended: bool = False
    """It is a publication that has ended."""

    @property
    def described(self) -> Description:
        """For the access check."""
        return Description(type=self.subject.type, source=self.subject.source)


def find_target(live: LiveRoom, book: Book, track_sid: str, publication_id: str) -> Target | None:
    """The track of that SID, or of that publication; None where there is none in the room."""
    if publication_id:
        publication = book.find(live.name, publication_id)
        return _of_publication(publication) if publication is not None else None
    for publication in book.of_room(live.name):
        if publication.track_sid == track_sid and publication.state != ENDED:
            return _of_publication(publication)
    key = Key(live.name, track_sid=track_sid)
    subject = subject_of(key, book, live)
    return Target(key, subject) if subject is not None else None


def subject_of(key: Key, book: Book, live: LiveRoom) -> Subject | None:
    """What the key means now; None where it is gone."""
    if key.publication_id:
        publication = book.find(key.room, key.publication_id)
        return _of_publication(publication).subject if publication is not None and publication.state != ENDED else None
    track = live.model.tracks.get(key.track_sid)
    if track is None:
        return None
    return Subject(track.participant_identity, track.sid, hosted=False, type=track.type, source=track.source)


def refuse_inexpressible(target: Target, rule: Rule | None, book: Book, restrictions: Restrictions) -> None:
    """Raises NotForDataTracks where LiveKit could not be told that ``rule`` (None: no rule) holds for a hosted track.

    LiveKit's SDK cannot list data tracks (rtc 1.2.1), so whoever may have a data track must be allowed to have all
    tracks of its publisher: beside a data track, others have its rule, or none.
    """
    if not target.subject.hosted:
        return
    active = book.active_of(target.key.room, target.subject.participant_identity)
    rules = {
        found.publication_id: restriction.rule.message
        for found in active
        if (restriction := restrictions.find(Key(target.key.room, found.publication_id))) is not None
    }
    rules.pop(target.key.publication_id, None)
    if rule is not None:
        rules[target.key.publication_id] = rule.message
    for data in active:
        if data.type == TRACK_TYPE_DATA:
            own = rules.get(data.publication_id)
            others = [(found, rules.get(found.publication_id)) for found in active if found is not data]
            if any(
                other != own if found.type == TRACK_TYPE_DATA else other not in (None, own) for found, other in others
            ):
                raise NotForDataTracks(
                    "LiveKit's SDK cannot restrict a participant's tracks one by one where a data track is among them;"
                    " publish the data track under a participant_identity of its own",
                    field="rule",
                )


def _of_publication(publication: Publication) -> Target:
    subject = Subject(
        publication.participant_identity,
        publication.track_sid,
        hosted=True,
        type=publication.type,
        source=publication.spec.source or TRACK_SOURCE_UNSPECIFIED,
    )
    return Target(Key(publication.room, publication.publication_id), subject, ended=publication.state == ENDED)
