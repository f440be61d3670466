"""What a request about metadata is about."""

from dataclasses import dataclass

from track.v1.access_pb2 import Permission
from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Track
from track_server.access.bounds import Description
from track_server.access.question import Question


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about: a publication, with its track where it has one, or a track of somebody else."""

    room: str
    publication: Publication | None = None
    track: Track | None = None

    @property
    def identity(self) -> str:
        """The publisher's; empty: there is none."""
        if self.publication is not None:
            return self.publication.participant_identity
        return self.track.participant_identity if self.track is not None else ""

    @property
    def sid(self) -> str:
        """Of the track; empty: there is none."""
        return self.track.sid if self.track is not None else ""

    def question(self, permission: "Permission.ValueType") -> Question:
        """Nobody's where there is nothing, so that a denial does not tell whether there is."""
        if self.publication is not None:
            described = Description(type=self.publication.type, source=self.publication.spec.source)
            return Question(permission, self.room, self.identity, self.publication.track_sid, described)
        if self.track is not None:
            described = Description(type=self.track.type, source=self.track.source)
            return Question(permission, self.room, self.identity, self.track.sid, described)
        return Question(permission, self.room)
