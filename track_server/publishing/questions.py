"""What is asked of whoever decides about publications."""

from dataclasses import replace

from track.v1 import access_pb2, publication_pb2, track_pb2
from track.v1.publication_pb2 import Publication
from track_server.access.bounds import Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.publishing.spec import description_of


def question_of(publication: Publication) -> Question:
    """What is asked of whoever decides, before it is published and as long as it stands."""
    return Question(
        access_pb2.PERMISSION_PUBLISH,
        publication.room,
        publication.participant_identity,
        described=description_of(publication.spec, publication.type),
    )


def ending(room: str, publication: Publication | None) -> Question:
    """Whether somebody may end it: nobody's where there is none, so that a denial does not tell whether there is."""
    if publication is None:
        return Question(access_pb2.PERMISSION_PUBLISH, room)
    described = Description(type=publication.type, source=publication.spec.source)
    return Question(
        access_pb2.PERMISSION_PUBLISH,
        room,
        publication.participant_identity,
        publication.track_sid,
        described,
    )


def ending_track(room: str, track: track_pb2.Track | None, publication: Publication | None) -> Question:
    """As `ending`, of a track that need not be a publication's."""
    if publication is not None or track is None:
        return ending(room, publication)
    described = Description(type=track.type, source=track.source)
    return Question(access_pb2.PERMISSION_PUBLISH, room, track.participant_identity, track.sid, described)


def plausible(principal: Principal, spec: publication_pb2.PublicationSpec) -> Description:
    """What is known of the track before its file was looked at.

    A file whose stream is left open may turn out as any source that the caller may publish.
    """
    described = description_of(spec)
    if described.source or described.type == track_pb2.TRACK_TYPE_DATA:
        return described
    if not described.type:
        source = next(iter(principal.grants.can_publish_sources), track_pb2.TRACK_SOURCE_UNSPECIFIED)
        return replace(described, source=source)
    audio = described.type == track_pb2.TRACK_TYPE_AUDIO
    return replace(described, source=track_pb2.TRACK_SOURCE_MICROPHONE if audio else track_pb2.TRACK_SOURCE_CAMERA)
