"""What is asked of whoever decides."""

from dataclasses import dataclass
from typing import Final

from track.v1.access_pb2 import Permission
from track_server.access.bounds import Description


@dataclass(frozen=True, slots=True)
class Question:
    """May somebody use ``permission`` there?"""

    permission: "Permission.ValueType"
    room: str
    """Empty where the RPC has none."""
    participant_identity: str = ""
    """The participant that is acted on. Empty: the question is about the room as such."""
    track_sid: str = ""
    """The track that is acted on; empty where none is, or where it is to be published."""
    described: Description | None = None
    """The track, or what is to be published; None where neither is the matter."""


@dataclass(frozen=True, slots=True)
class Touch:
    """What a change of permissions touches: all questions that agree with every field that is set."""

    principal_identity: str = ""
    room: str = ""
    participant_identity: str = ""
    track_sid: str = ""
    permissions: frozenset["Permission.ValueType"] = frozenset()
    """Empty: all."""

    def touches(self, principal_identity: str, question: Question) -> bool:
        """Whether the answer to the question may have changed."""
        return (
            self.principal_identity in ("", principal_identity)
            and self.room in ("", question.room)
            and self.participant_identity in ("", question.participant_identity)
            and self.track_sid in ("", question.track_sid)
            and (not self.permissions or question.permission in self.permissions)
        )


EVERYTHING: Final = Touch()
