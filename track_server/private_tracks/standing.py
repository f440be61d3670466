"""How a restriction stands: what the SFU was told, who was unsubscribed, and what was seen. Pure."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from track.v1 import publication_pb2 as publications
from track.v1 import subscription_permission_pb2 as pb
from track.v1 import track_pb2
from track_server.livekit.debug import DownTrack
from track_server.private_tracks.guests import admitted
from track_server.private_tracks.restrictions import Restriction
from track_server.publishing.audience import Audience

ENFORCED = pb.SUBSCRIPTION_ENFORCEMENT_ENFORCED
WATCHED = pb.SUBSCRIPTION_ENFORCEMENT_WATCHED
REFUSED_HERE_ONLY = pb.SUBSCRIPTION_ENFORCEMENT_REFUSED_HERE_ONLY


_NOBODY: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Subject:
    """The track behind a restriction, as it is now."""

    participant_identity: str
    """The publisher."""
    track_sid: str
    """Empty while it is not in the room."""
    hosted: bool
    type: track_pb2.TrackType.ValueType
    source: track_pb2.TrackSource.ValueType


ROUNDS_S = (0.0, 1.0, 2.0, 4.0)
"""Where nobody sees who is subscribed, each is asked about so often, seconds after the first time: LiveKit subscribes a
client that is just joining after it took our word."""


@dataclass(frozen=True, slots=True)
class Asked:
    """LiveKit was asked to unsubscribe a participant: so many times, first then."""

    participant_sid: str
    times: int
    first_at: float


@dataclass(slots=True)
class Standing:
    """How one restriction stands, as of the last look at its room."""

    restriction: Restriction
    subject: Subject
    level: pb.SubscriptionEnforcement.ValueType = REFUSED_HERE_ONLY
    allowed: frozenset[str] = frozenset()
    """Of those in the room, hidden ones too."""
    shown: tuple[str, ...] = ()
    """Of the allowed, those that callers are told of, in order."""
    asking: int = 0
    """Unsubscriptions that LiveKit has not answered yet."""
    asked: dict[str, Asked] = field(default_factory=dict)
    """Whom LiveKit was asked to unsubscribe since the rule was set, by identity."""
    looked: bool = False
    """Whether the room was looked at since the rule was set."""
    unseen: bool | None = None
    """Whether the debug view showed nobody who may not. None: it cannot be told."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be waited for."""
        told = self.level == ENFORCED or not self.subject.hosted
        return self.looked and not self.asking and told and self.unseen is not False

    def message(self) -> pb.TrackSubscriptionPermissions:
        """As callers see it."""
        key = self.restriction.key
        return pb.TrackSubscriptionPermissions(
            room=key.room,
            track_sid=self.subject.track_sid,
            publication_id=key.publication_id,
            rule=self.restriction.rule.message,
            enforcement=self.level,
            allowed_identities=self.shown,
            update_time=self.restriction.update_time,
        )

    def allow(
        self, participants: Mapping[str, track_pb2.Participant], hidden: Set[str], guests: Mapping[str, str] = _NOBODY
    ) -> None:
        """Applies the rule to who is in the room now, and to the ``guests`` there (see Guests)."""
        rule = self.restriction.rule
        allowed = rule.allowed(participants.values())
        self.allowed = allowed | admitted(guests, rule, allowed)
        self.shown = tuple(sorted(self.allowed - hidden - guests.keys() - {self.subject.participant_identity}))
        for identity in self.allowed & self.asked.keys():
            del self.asked[identity]

    def stage(self) -> tuple[publications.Stage.ValueType, publications.Evidence.ValueType]:
        """How far it got, and where that was seen."""
        if self.unseen and (not self.subject.hosted or self.level == ENFORCED):
            return publications.STAGE_OBSERVED, publications.EVIDENCE_DEBUG_VIEW
        if self.level == ENFORCED:
            return publications.STAGE_ACKNOWLEDGED, publications.EVIDENCE_UNSPECIFIED
        return publications.STAGE_REQUESTED, publications.EVIDENCE_UNSPECIFIED


def enforced(told: Audience | None, publication_id: str, allowed: Set[str], present: Set[str]) -> bool:
    """Whether what LiveKit was ``told`` keeps out everybody present who is not ``allowed``."""
    audience = told.restricted.get(publication_id) if told is not None else None
    return audience is not None and not (audience & present) - allowed


def audience_of(standings: Iterable[Standing], everybody: frozenset[str], watcher_identity: str) -> dict[str, Audience]:
    """What each hosted publisher that has restrictions is to tell LiveKit, by identity.

    Who is named by a rule is allowed before it comes. The watcher gets no media, so every track is open to it.
    """
    watcher = frozenset({watcher_identity})
    by_publisher: dict[str, dict[str, frozenset[str]]] = {}
    for standing in standings:
        if standing.subject.hosted:
            audience = standing.allowed | standing.restriction.rule.identities | watcher
            publisher = by_publisher.setdefault(standing.subject.participant_identity, {})
            publisher[standing.restriction.key.publication_id] = audience
    return {identity: Audience(everybody | watcher, restricted) for identity, restricted in by_publisher.items()}


def seen(down: Iterable[DownTrack], standing: Standing, watcher_identity: str) -> list[DownTrack]:
    """The copies of the track that are sent to somebody who may not have it."""
    may = standing.allowed | {watcher_identity}
    return [
        copy for copy in down if copy.track_sid == standing.subject.track_sid and copy.subscriber_identity not in may
    ]


def uninvited(
    standing: Standing,
    participants: Mapping[str, track_pb2.Participant],
    watcher_identity: str,
    now: float,
    *,
    blind: bool,
) -> list[str]:
    """Identities of those in the room that may not subscribe and that LiveKit is to be asked about now.

    ``now``: seconds of any clock. ``blind``: nobody sees who is subscribed, so each is asked about in several rounds.
    """
    exempt = standing.allowed | {watcher_identity, standing.subject.participant_identity}
    return [
        identity
        for identity, participant in participants.items()
        if identity not in exempt and _due(standing.asked.get(identity), participant.sid, now, blind=blind)
    ]


def asked_again(before: Asked | None, participant_sid: str, now: float) -> Asked:
    """What is known after LiveKit was asked about the participant."""
    if before is None or before.participant_sid != participant_sid:
        return Asked(participant_sid, 1, now)
    return Asked(participant_sid, before.times + 1, before.first_at)


def _due(asked: Asked | None, participant_sid: str, now: float, *, blind: bool) -> bool:
    if asked is None or asked.participant_sid != participant_sid:
        return True
    return blind and asked.times < len(ROUNDS_S) and now - asked.first_at >= ROUNDS_S[asked.times]
