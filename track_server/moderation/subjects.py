"""What a block is about: a participant's tracks of one type and source, whatever their SIDs. Pure."""

from dataclasses import dataclass
from typing import Self

from track.v1.moderation_pb2 import ModerationBlock
from track.v1.track_pb2 import Track, TrackSource, TrackType


@dataclass(frozen=True, slots=True)
class Subject:
    """Tracks of one participant that are taken for the same one: a new SID or another name does not make another.

    ``name``: of tracks without a source, which nothing else tells apart; empty for the others.
    """

    identity: str
    type: "TrackType.ValueType"
    source: "TrackSource.ValueType"
    name: str

    @classmethod
    def of_track(cls, track: Track) -> Self:
        """That of a track."""
        return cls(track.participant_identity, track.type, track.source, "" if track.source else track.name)

    @classmethod
    def of_block(cls, block: ModerationBlock) -> Self:
        """That of a block, or of what is kept as one."""
        return cls(block.participant_identity, block.type, block.source, block.track_name)

    def fill(self, block: ModerationBlock) -> None:
        """Writes it into a block."""
        block.participant_identity, block.type, block.source = self.identity, self.type, self.source
        block.track_name = self.name
