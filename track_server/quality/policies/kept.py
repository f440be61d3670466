"""A quality policy as it is kept, and its record. Pure."""

from dataclasses import dataclass
from typing import Any, Self

import orjson

from track.v1 import access_pb2
from track.v1.quality_policy_pb2 import QualityPolicy
from track_server.access.principal import Principal, remembered
from track_server.rooms.likeness import Likeness
from track_server.subscription.choice import Chosen


@dataclass(frozen=True, slots=True)
class Kept:
    """``policy``: never changed in place. ``creator``: who set it; what it has done is done in their name."""

    policy: QualityPolicy
    creator: Principal

    def moved(self, track_sid: str) -> Self:
        """The policy of a track that has another SID now."""
        policy = QualityPolicy()
        policy.CopyFrom(self.policy)
        policy.track_sid = track_sid
        return type(self)(policy, self.creator)

    def encoded(self, chosen: Chosen | None = None) -> bytes:
        """What ``decoded`` reads. ``chosen``: the track, of a track's policy."""
        body: dict[str, Any] = {
            "policy": self.policy.SerializeToString().hex(),
            "creator": self.creator.message.SerializeToString().hex(),
        }
        if chosen is not None:
            alike = chosen.likeness
            body |= {
                "publication_id": chosen.publication_id,
                "likeness": [alike.participant_identity, alike.type, alike.source, alike.name],
            }
        return orjson.dumps(body)


def decoded(key: str, body: bytes) -> tuple[Kept, Chosen | None]:
    """What ``encoded`` wrote; ``key``: of the track. Raises ValueError, KeyError, TypeError for anything else."""
    read = orjson.loads(body)
    policy = QualityPolicy.FromString(bytes.fromhex(read["policy"]))
    creator = remembered(access_pb2.Principal.FromString(bytes.fromhex(read["creator"])))
    if not policy.track_sid:
        return Kept(policy, creator), None
    chosen = Chosen(policy.room, key, policy.track_sid, Likeness(*read["likeness"]), read["publication_id"])
    return Kept(policy, creator), chosen
