"""What becomes of a publication by a client, step by step. Pure: all give copies."""

from typing import Final

from track.v1 import publication_pb2
from track.v1.publication_pb2 import Publication, PublicationEndCause
from track_server.errors import TrackError
from track_server.publishing import attempts, lifecycle
from track_server.publishing.lifecycle import ENDED, LIVE, PENDING, RESTARTING, STARTING
from track_server.rooms.room import now

# What ended without the client: it has to be told.
_TO_WITHDRAW: Final = {
    PublicationEndCause.PUBLICATION_END_CAUSE_CALLER,
    PublicationEndCause.PUBLICATION_END_CAUSE_MODERATION,
    PublicationEndCause.PUBLICATION_END_CAUSE_PERMISSION_REVOKED,
    PublicationEndCause.PUBLICATION_END_CAUSE_FAILED,
}


def to_withdraw(publication: Publication) -> bool:
    """Whether it ended without its client, which has to be told."""
    return publication.state == ENDED and publication.end_cause in _TO_WITHDRAW


def elsewhere(publication: Publication) -> Publication:
    """Not published in the connection that the participant has now."""
    if publication.state == LIVE:
        return lifecycle.move(publication, RESTARTING, now(), "the participant has another connection")
    return publication


def taken(publication: Publication) -> Publication:
    """The client has it."""
    if publication.state in (PENDING, RESTARTING):
        return lifecycle.untroubled(lifecycle.move(publication, STARTING, now()))
    return publication


def restarting(publication: Publication, why: TrackError) -> Publication:
    """To be published again once that can be."""
    if publication.state == LIVE or (publication.state == STARTING and publication.lineage):
        publication = lifecycle.move(publication, RESTARTING, now(), why.message)
    return lifecycle.troubled(publication, why.problem())


def consented(publication: Publication, consent: "publication_pb2.Consent.ValueType") -> Publication:
    """What the user said; what was known before where nothing is told."""
    result = Publication()
    result.CopyFrom(publication)
    result.consent = consent or result.consent
    return result


def as_in_room(publication: Publication, *, muted: bool) -> Publication:
    """As the room shows it."""
    result = lifecycle.muted(publication, muted)
    if result.degraded == publication_pb2.DEGRADED_REASON_CLIENT:
        result.degraded = publication_pb2.DEGRADED_REASON_UNSPECIFIED
        return attempts.with_condition(result)
    return result


def without_media(publication: Publication) -> Publication:
    """Published, and yet not in the room."""
    result = Publication()
    result.CopyFrom(publication)
    result.degraded = publication_pb2.DEGRADED_REASON_CLIENT
    return result
