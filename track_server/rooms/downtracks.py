"""Who receives what, as LiveKit's debug view shows it: what changed from one look to the next. Pure."""

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from track.v1 import event_pb2, publication_pb2, track_pb2
from track_server.livekit.debug import DownTrack
from track_server.rooms.model import RoomModel


class Pair(NamedTuple):
    """A subscriber's session and a track."""

    participant_sid: str
    track_sid: str


class Received(NamedTuple):
    """What a subscriber gets of a track. ``layer``: spatial, 0 the lowest; None while nothing is sent, and of sound."""

    identity: str
    layer: int | None


def received(copies: Iterable[DownTrack], model: RoomModel) -> dict[Pair, Received]:
    """What the room's participants get. Left out are hidden ones, whom nobody else sees either, and those that LiveKit
    has not told of yet: they follow."""
    found: dict[Pair, Received] = {}
    for copy in copies:
        subscriber = model.participants.get(copy.subscriber_identity)
        track = model.tracks.get(copy.track_sid)
        if not copy.bound or track is None or subscriber is None or subscriber.sid != copy.subscriber_sid:
            continue
        layered = track.type == track_pb2.TRACK_TYPE_VIDEO and copy.spatial_layer >= 0 and not copy.disabled
        layer = copy.spatial_layer if layered else None
        found[Pair(subscriber.sid, track.sid)] = Received(subscriber.identity, layer)
    return found


def old(after: Mapping[Pair, Received], silent: Set[str], asked: Set[tuple[str, str]]) -> dict[Pair, Received]:
    """What of it nobody saw begin: between participants and tracks that were there (``silent``, by SID), unless it was
    ``asked`` for (identity and track SID)."""
    return {
        pair: got
        for pair, got in after.items()
        if pair.participant_sid in silent and pair.track_sid in silent and (got.identity, pair.track_sid) not in asked
    }


def changes(
    before: Mapping[Pair, Received], after: Mapping[Pair, Received], model: RoomModel
) -> list[event_pb2.RoomEvent]:
    """What is to be told of it. What ended with its participant or track is told by their own events."""
    events: list[event_pb2.RoomEvent] = []
    for pair, now in after.items():
        known = before.get(pair)
        if known is None:
            events.append(subscription_event(now.identity, pair.track_sid, subscribed=True))
            known = Received(now.identity, None)
        if known.layer != now.layer:
            changed = event_pb2.ReceivedLayerChanged(
                participant_identity=now.identity, track_sid=pair.track_sid, spatial_layer=now.layer
            )
            events.append(event_pb2.RoomEvent(received_layer_changed=changed))
    for pair, was in before.items():
        if pair not in after and pair.track_sid in model.tracks:
            there = model.participants.get(was.identity)
            if there is not None and there.sid == pair.participant_sid:
                events.append(subscription_event(was.identity, pair.track_sid, subscribed=False))
    return events


def subscription_event(identity: str, track_sid: str, *, subscribed: bool, seen: bool = True) -> event_pb2.RoomEvent:
    """That a subscription was seen to begin or end, or that LiveKit was asked for it."""
    change = event_pb2.SubscriptionChanged(
        participant_identity=identity,
        track_sid=track_sid,
        subscribed=subscribed,
        stage=publication_pb2.STAGE_OBSERVED if seen else publication_pb2.STAGE_REQUESTED,
        evidence=publication_pb2.EVIDENCE_DEBUG_VIEW if seen else publication_pb2.EVIDENCE_UNSPECIFIED,
    )
    return event_pb2.RoomEvent(subscription_changed=change)
