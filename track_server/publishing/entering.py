"""What publications of one hosted participant have to do with each other: how it enters the room, and names. Pure."""

from collections.abc import Iterable

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import TRACK_TYPE_DATA
from track_server.errors import NotSupported, SourceInUse
from track_server.publishing.spec.kinds import are_messages


def encryption_key(whole: Iterable[Publication]) -> bytes:
    """The key of publications that are shown with their secrets; empty: none."""
    return next((key for found in whole if (key := found.spec.encryption.shared_key)), b"")


def with_stereo(publications: Iterable[Publication]) -> bool:
    """Whether one of them has sound in two channels."""
    return any(found.spec.audio.stereo for found in publications)


def refuse_other_key(publication: Publication, beside: Iterable[Publication]) -> None:
    """Raises NotSupported where others of the participant have another key, or none: LiveKit encrypts all that a
    participant sends, or nothing. All are shown with their secrets."""
    key = publication.spec.encryption.shared_key
    if any(found.spec.encryption.shared_key != key for found in beside):
        raise NotSupported(
            "the participant publishes with another encryption key or with none, which holds for all that it publishes",
            field="spec.encryption",
        )


def refuse_taken_name(publication: Publication, beside: Iterable[Publication]) -> None:
    """Raises SourceInUse where another of the participant is a data track of its name: LiveKit has one of a name."""
    if _is_data_track(publication) and any(
        _is_data_track(found) and found.spec.name == publication.spec.name for found in beside
    ):
        raise SourceInUse("the participant has a data track of that name already", field="spec.name")


def _is_data_track(publication: Publication) -> bool:
    return publication.type == TRACK_TYPE_DATA and not are_messages(publication.spec)
