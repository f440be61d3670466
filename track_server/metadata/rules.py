"""What metadata must satisfy, whoever brings it: limits, schemas, and how often it may change."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from google.protobuf import struct_pb2

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Track
from track_server.errors import LimitExceeded
from track_server.metadata import content
from track_server.metadata.attributes import total_bytes
from track_server.metadata.content import ContentLimits
from track_server.metadata.pace import Pace, PaceLimits
from track_server.metadata.schemas import Schemas


class MetadataLimits(ContentLimits, PaceLimits, Protocol):
    """Settings of the limits: see LimitSettings."""

    max_participant_attributes_bytes: int


class Rules:
    """Of all metadata. ``schemas``: those that it must satisfy."""

    def __init__(self, limits: MetadataLimits, schemas: Schemas) -> None:
        self._limits = limits
        self._schemas = schemas
        self._pace = Pace(limits)

    async def check(self, track: Track, metadata: struct_pb2.Struct, field: str) -> None:
        """Returns where a track may have it. ``track``: as far as it is known yet.

        Raises InvalidField, LimitExceeded, SchemaViolation, all with ``field``.
        """
        content.check(metadata, self._limits, field)
        await self._schemas.check(track, metadata, field)

    def fit(
        self, room: str, identity: str, attributes: Mapping[str, str], desired: Mapping[str, str], field: str
    ) -> None:
        """Returns where the participant's attributes have room for what is ``desired``, text by SID.

        Raises LimitExceeded.
        """
        used, most = total_bytes(desired, attributes), self._limits.max_participant_attributes_bytes
        if used > most:
            raise LimitExceeded(
                "max_participant_attributes_bytes",
                most,
                f"participant {identity} of room {room}",
                field=field,
                used=used,
                advice="its application's own attributes are among them",
            )

    def admit_change(self, room: str, identity: str, attributes: Mapping[str, str], desired: Mapping[str, str]) -> None:
        """Counts one change, after which the attributes have what is ``desired``. Raises LimitExceeded."""
        self._pace.admit(room, identity, total_bytes(desired, attributes), asyncio.get_running_loop().time())


def expected(publication: Publication) -> Track:
    """The track that a publication has, or will have, as far as schemas may ask for it."""
    spec = publication.spec
    return Track(
        room=publication.room,
        participant_identity=publication.participant_identity,
        publication_id=publication.publication_id,
        name=spec.name,
        type=publication.type,
        source=spec.source,
        width=spec.video.width,
        height=spec.video.height,
    )
