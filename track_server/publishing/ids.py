"""Ids of hosted sessions, by which their participants are known as ours."""

import hashlib

from track.v1 import track_pb2
from track_server.agent import SESSION_ATTRIBUTE


def hosted(room: str, participant: track_pb2.Participant) -> bool:
    """Whether a participant is one that this service hosts or hosted: a ghost stays in the room for a moment."""
    return participant.attributes.get(SESSION_ATTRIBUTE) == session_id(room, participant.identity)


def session_id(room: str, identity: str) -> str:
    """Id of the session that hosts ``identity`` in ``room``: always the same, so that its ghosts are known as ours."""
    digest = hashlib.blake2b(f"{len(room)}:{room}{identity}".encode(), digest_size=12)
    return f"SES_{digest.hexdigest()}"
