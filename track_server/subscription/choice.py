"""A manual choice: how one subscriber is to have one track, by a call of UpdateSubscriptions. Pure."""

from dataclasses import dataclass
from typing import Any, Self

import orjson

from track.v1 import access_pb2
from track.v1.publication_pb2 import Publication
from track.v1.subscription_pb2 import SubscriptionSettings
from track.v1.track_pb2 import Track
from track_server.access.principal import Principal, remembered
from track_server.rooms.likeness import Likeness


@dataclass(frozen=True, slots=True)
class Chosen:
    """The track that choices are about, over all its SIDs.

    ``key``: the id of its publication, or the SID that the track of somebody else had first. ``track_sid``: as which it
    is, or was last, in the room.
    """

    room: str
    key: str
    track_sid: str
    likeness: Likeness
    publication_id: str = ""

    @classmethod
    def of(cls, track: Track) -> Self:
        """That of a track of which nothing was chosen yet."""
        key = track.publication_id or track.sid
        return cls(track.room, key, track.sid, Likeness.of(track), track.publication_id)

    @classmethod
    def of_publication(cls, publication: Publication) -> Self:
        """That of a publication of this service."""
        likeness = Likeness.of_publication(publication)
        sid, publication_id = publication.track_sid, publication.publication_id
        return cls(publication.room, publication_id, sid, likeness, publication_id)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen. ``track``: the key of its Chosen. ``settings``: never changed in place; kept while it is
    unsubscribed. ``expire_time``: seconds since 1970 UTC, or None. ``principal``: who chose; it rests on their rights.
    """

    participant_identity: str
    track: str
    subscribe: bool
    settings: SubscriptionSettings | None
    expire_time: float | None
    principal: Principal
    by_admin: bool
    """Whether who chose may act on everybody in the room: else it was the subscriber itself."""

    @property
    def chosen_by(self) -> str:
        """Identity of who chose."""
        return self.principal.identity

    def encoded(self, chosen: Chosen) -> bytes:
        """What ``decoded`` reads."""
        alike = chosen.likeness
        body: dict[str, Any] = {
            "track_sid": chosen.track_sid,
            "publication_id": chosen.publication_id,
            "likeness": [alike.participant_identity, alike.type, alike.source, alike.name],
            "subscribe": self.subscribe,
            "settings": None if self.settings is None else self.settings.SerializeToString().hex(),
            "expire_time": self.expire_time,
            "principal": self.principal.message.SerializeToString().hex(),
            "by_admin": self.by_admin,
        }
        return orjson.dumps(body)


def decoded(room: str, key: str, identity: str, body: bytes) -> tuple[Chosen, Choice]:
    """What ``encoded`` wrote. Raises ValueError, KeyError, TypeError for anything else."""
    read = orjson.loads(body)
    settings = read["settings"]
    principal = access_pb2.Principal.FromString(bytes.fromhex(read["principal"]))
    chosen = Chosen(room, key, read["track_sid"], Likeness(*read["likeness"]), read["publication_id"])
    choice = Choice(
        participant_identity=identity,
        track=key,
        subscribe=read["subscribe"],
        settings=None if settings is None else SubscriptionSettings.FromString(bytes.fromhex(settings)),
        expire_time=read["expire_time"],
        principal=remembered(principal),
        by_admin=read["by_admin"],
    )
    return chosen, choice
