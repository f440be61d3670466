"""What is limited, as terms of the layers of single subscribers and tracks. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from track.v1.quality_policy_pb2 import QualityActionKind
from track.v1.subscription_pb2 import LayerTerm, LayerTermKind
from track.v1.track_pb2 import TRACK_TYPE_VIDEO, Track, VideoQuality
from track_server.durations import timestamp_at
from track_server.quality.core.adapting.ladder import ActionKind, Family, Line, Policy
from track_server.quality.policies.reading import LAYERS, QUALITIES

_NETWORK: Final = LayerTermKind.LAYER_TERM_KIND_NETWORK
_CPU: Final = LayerTermKind.LAYER_TERM_KIND_CPU
_CAP: Final = LayerTermKind.LAYER_TERM_KIND_PUBLISHER_CAP

_BY_FAMILY: Final = {Family.DOWNLINK: _NETWORK, Family.RECEIVER: _CPU, Family.UPLINK: _CAP, Family.SENDER: _CAP}
_OF_SUBSCRIBER: Final = frozenset({Family.DOWNLINK, Family.RECEIVER})
_BY_HAND: Final = {
    QualityActionKind.QUALITY_ACTION_KIND_LIMIT_NETWORK: _NETWORK,
    QualityActionKind.QUALITY_ACTION_KIND_LIMIT_CPU: _CPU,
    QualityActionKind.QUALITY_ACTION_KIND_CAP_PUBLISHER: _CAP,
    QualityActionKind.QUALITY_ACTION_KIND_VIDEO_OFF: _NETWORK,
}

PolicyAt = Callable[[str, str], Policy | None]
"""What holds for a participant (the subscriber, or the publisher) and a track's SID."""


class Place(NamedTuple):
    """Where a term is set. ``identity``: empty: for every subscriber. ``track_sid``: empty: every video."""

    owner: str
    identity: str
    track_sid: str


@dataclass(frozen=True, slots=True)
class Held:
    """A limit of adaptation. ``left``: the highest layer, OFF to MEDIUM. ``kind``: what set it. ``reason``: a few
    words."""

    left: int
    kind: ActionKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """A limit by hand. ``track_sid``: empty: all videos. ``quality``: the highest layer that is left; OFF: none.
    ``expire_time``: seconds since 1970 UTC, or None."""

    kind: "QualityActionKind.ValueType"
    identity: str
    track_sid: str
    quality: "VideoQuality.ValueType"
    expire_time: float | None
    detail: str


def covered(line: Line, tracks: Iterable[Track]) -> Iterator[Track]:
    """The tracks that actions of the line are about."""
    for track in tracks:
        if line.family is Family.MEDIA:
            if track.sid == line.track_sid:
                yield track
        elif track.type == TRACK_TYPE_VIDEO:
            own = track.participant_identity == line.identity
            if own is not (line.family in _OF_SUBSCRIBER):
                yield track


def clipped(policy: Policy | None, family: Family, left: int) -> int | None:
    """What is left of a track with that policy of its own, where its line leaves ``left``; None: it is not limited."""
    rungs = policy.rungs(family) if policy is not None else ()
    return min((rung.quality for rung in rungs if rung.quality is not None and rung.quality >= left), default=None)


def of_lines(held: Mapping[Line, Held], tracks: Iterable[Track], policy_at: PolicyAt) -> dict[Place, LayerTerm]:
    """The terms of adaptation: each track with a policy of its own keeps that one's floor."""
    tracks = list(tracks)
    found: dict[Place, LayerTerm] = {}
    for line, limit in held.items():
        kind = _BY_FAMILY[line.family]
        identity = line.identity if line.family in _OF_SUBSCRIBER else ""
        for track in covered(line, tracks):
            left = clipped(policy_at(line.identity, track.sid), line.family, limit.left)
            if left is not None:
                place = Place(f"quality {line.family.name.lower()}", identity, track.sid)
                found[place] = LayerTerm(kind=kind, quality=QUALITIES[left], detail=limit.reason)
    return found


def of_hands(hands: Iterable[Hand], tracks: Iterable[Track]) -> dict[Place, LayerTerm]:
    """The terms by hand."""
    tracks = list(tracks)
    found: dict[Place, LayerTerm] = {}
    for hand in hands:
        term = LayerTerm(kind=_BY_HAND[hand.kind], quality=hand.quality, detail=hand.detail)
        if hand.expire_time is not None:
            term.expire_time.CopyFrom(timestamp_at(hand.expire_time))
        owner = f"quality by hand {hand.kind} {hand.track_sid}".rstrip()
        if term.kind != _CAP:
            found[Place(owner, hand.identity, hand.track_sid)] = term
            continue
        for track in covered(Line(Family.UPLINK, hand.identity), tracks):
            if hand.track_sid in ("", track.sid):
                found[Place(owner, "", track.sid)] = term
    return found


def is_release(quality: "VideoQuality.ValueType") -> bool:
    """Whether that layer is no limit."""
    return LAYERS.get(quality) == LAYERS[VideoQuality.VIDEO_QUALITY_HIGH]
