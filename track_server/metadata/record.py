"""Metadata of one track as it is desired, and as the store keeps it. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.protobuf import struct_pb2

from track.v1 import metadata_pb2
from track.v1.metadata_pb2 import OverwritePolicy, TrackMetadata
from track.v1.publication_pb2 import Publication
from track_server.metadata.content import plain, struct_of
from track_server.rooms.likeness import Likeness

RESTORE: Final = OverwritePolicy.OVERWRITE_POLICY_RESTORE
NONE: Final = "0"
"""The etag of what is not there."""
_ETAG_BYTES: Final = 6


@dataclass(frozen=True, slots=True)
class Desired:
    """Metadata of a track. ``key``: the id of its publication, or the SID that the track of somebody else had first.

    ``revision``: of its record in the store, 0: there is none yet. ``origin``: the publication's own `spec.metadata`
    when it was set, so that one that was specified later is known to be newer.
    """

    room: str
    key: str
    likeness: Likeness
    metadata: struct_pb2.Struct | None
    etag: str
    update_ns: int
    policy: "OverwritePolicy.ValueType" = RESTORE
    track_sid: str = ""
    """Of a track of somebody else: as which it is, or was last, in the room."""
    publication_id: str = ""
    origin: bytes = b""
    revision: int = 0
    away_since: float | None = None
    """Of a track of somebody else: since when it is not in the room, in seconds since 1970 UTC."""
    passed: frozenset[str] = frozenset()
    """Of one that is away: SIDs of tracks like it that were there beside it, so that none of them is its return."""

    @property
    def exists(self) -> bool:
        """Whether there is metadata; else it is remembered that it was removed."""
        return self.metadata is not None

    def message(self, track_sid: str, *, published: bool) -> TrackMetadata:
        """As the contract shows it. ``track_sid``: as which it is in the room, empty: it is not."""
        shown = TrackMetadata(
            room=self.room,
            track_sid=track_sid,
            publication_id=self.publication_id,
            participant_identity=self.likeness.participant_identity,
            metadata=self.metadata,
            etag=self.etag if self.exists else NONE,
            published=published,
            overwrite_policy=self.policy,
        )
        shown.update_time.FromNanoseconds(self.update_ns)
        return shown

    def encoded(self) -> bytes:
        """What `decoded` reads."""
        alike = self.likeness
        body: dict[str, Any] = {
            "identity": alike.participant_identity,
            "type": alike.type,
            "source": alike.source,
            "name": alike.name,
            "metadata": None if self.metadata is None else plain(self.metadata),
            "etag": self.etag,
            "update_ns": self.update_ns,
            "policy": self.policy,
            "track_sid": self.track_sid,
            "publication_id": self.publication_id,
            "origin": self.origin.hex(),
            "away_since": self.away_since,
            "passed": sorted(self.passed),
        }
        return orjson.dumps(body)


def decoded(room: str, key: str, revision: int, body: bytes) -> Desired:
    """What ``encoded`` wrote."""
    read = orjson.loads(body)
    return Desired(
        room=room,
        key=key,
        likeness=Likeness(read["identity"], read["type"], read["source"], read["name"]),
        metadata=None if read["metadata"] is None else struct_of(read["metadata"]),
        etag=read["etag"],
        update_ns=read["update_ns"],
        policy=read["policy"],
        track_sid=read["track_sid"],
        publication_id=read["publication_id"],
        origin=bytes.fromhex(read["origin"]),
        revision=revision,
        away_since=read["away_since"],
        passed=frozenset(read["passed"]),
    )


def origin_of(publication: Publication) -> bytes:
    """What its spec says of metadata, as one short text; empty: nothing."""
    if not publication.spec.HasField("metadata"):
        return b""
    return hashlib.blake2b(
        orjson.dumps(plain(publication.spec.metadata), option=orjson.OPT_SORT_KEYS), digest_size=_ETAG_BYTES
    ).digest()


def specified(publication: Publication, known: Desired | None) -> Desired | None:
    """What is desired of a publication's track, of which ``known`` is the record.

    Where its spec has changed since, or there is no record, that is what its spec says. None: nothing.
    """
    origin = origin_of(publication)
    if known is not None and known.origin == origin:
        return known
    if not origin:
        return None
    return Desired(
        room=publication.room,
        key=publication.publication_id,
        likeness=Likeness.of_publication(publication),
        metadata=publication.spec.metadata,
        etag=origin.hex(),
        update_ns=publication.create_time.ToNanoseconds(),
        policy=known.policy if known is not None else RESTORE,
        publication_id=publication.publication_id,
        origin=origin,
        revision=known.revision if known is not None else 0,
    )


def absent(room: str, publication_id: str, track_sid: str, identity: str) -> TrackMetadata:
    """The answer where none was set."""
    return metadata_pb2.TrackMetadata(
        room=room,
        track_sid=track_sid,
        publication_id=publication_id,
        participant_identity=identity,
        etag=NONE,
        overwrite_policy=RESTORE,
    )
