"""What the policies of a room allow on its lines of action."""

from collections.abc import Iterable

from track.v1.quality_policy_pb2 import QualityPolicy
from track.v1.track_pb2 import Track
from track_server.quality.abilities import Abilities
from track_server.quality.acting.terms import covered
from track_server.quality.core.adapting.ladder import Family, Line, Policy, Timing
from track_server.quality.policies.policies import Policies
from track_server.quality.policies.reading import policy_of, timing_of


class Lines:
    """Of one room. Nothing is allowed that cannot be done there."""

    def __init__(self, room: str, policies: Policies, abilities: Abilities) -> None:
        self._room = room
        self._policies = policies
        self._abilities = abilities
        self._read: dict[str, Policy] = {}
        """By etag."""

    def forget(self) -> None:
        """The policies are others."""
        self._read.clear()

    def policy(self, line: Line, tracks: Iterable[Track]) -> Policy | None:
        """What may be done on the line, for ``tracks`` of the room; None: nothing."""
        about = list(covered(line, tracks))
        if line.family in (Family.DOWNLINK, Family.RECEIVER):
            if not self._abilities.takes_layers(self._room, line.identity):
                return None
        elif line.family is Family.MEDIA and not all(self._abilities.restartable(track) for track in about):
            return None
        return together(self.holding(line, about))

    def holding(self, line: Line, tracks: Iterable[Track]) -> list[QualityPolicy]:
        """The policies that hold for what the line is about, the widest first, each once."""
        found: dict[str, QualityPolicy] = {}
        for track in covered(line, tracks):
            policy = self._policies.holding(self._room, line.identity, track.sid)
            if policy is not None:
                found[policy.etag] = policy
        return sorted(found.values(), key=lambda policy: (policy.track_sid, policy.participant_identity))

    def at(self, identity: str, track_sid: str) -> Policy | None:
        """What holds for one track. See PolicyAt."""
        policy = self._policies.holding(self._room, identity, track_sid)
        if policy is None:
            return None
        found = self._read.get(policy.etag)
        if found is None:
            found = self._read[policy.etag] = policy_of(policy)
        return found

    def timing(self) -> Timing:
        """That of the room's policy, or the default."""
        policy = self._policies.find(self._room, "", "")
        return timing_of(policy.timing) if policy is not None else Timing()


def together(policies: Iterable[QualityPolicy]) -> Policy | None:
    """What at least one of them allows, as far as the lowest floor; the first one's timing and control group. What of
    it is done to each track is its own policy's. None where they allow nothing."""
    found = [policy_of(policy) for policy in policies]
    allowed = frozenset(kind for policy in found for kind in policy.allowed)
    if not allowed:
        return None
    floor = min(policy.floor for policy in found if policy.allowed)
    return Policy(allowed=allowed, floor=floor, hold_back=found[0].hold_back, timing=found[0].timing)
