"""Ids of hosted sessions, by which their participants are known as ours."""

import hashlib

from track.v1 import track_pb2
from track.v1.publication_pb2 import Publication
from track_server.agent import SESSION_ATTRIBUTE


def hosted(room: str, participant: track_pb2.Participant) -> bool:
    """Whether a participant is one that this service hosts or hosted: a ghost stays in the room for a moment."""
    return participant.attributes.get(SESSION_ATTRIBUTE) == session_id(room, participant.identity)


def session_id(room: str, identity: str) -> str:
    """Id of the session that hosts ``identity`` in ``room``: always the same, so that its ghosts are known as ours."""
    digest = hashlib.blake2b(f"{len(room)}:{room}{identity}".encode(), digest_size=12)
    return f"SES_{digest.hexdigest()}"


def publication_id(operation_key: str) -> str:
    """Id of the publication that an operation asks for: one operation publishes once."""
    return f"PUB_{hashlib.blake2b(operation_key.encode(), digest_size=10).hexdigest()}"


def made_up(publication: Publication) -> bool:
    """Whether its participant's identity was made from its id, so that nobody else can hold it."""
    return publication.participant_identity == identity_of(publication.publication_id)


def identity_of(publication_id: str) -> str:
    """The identity that is made from the id of a publication."""
    return publication_id.lower()
