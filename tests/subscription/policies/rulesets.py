"""Participants, tracks and policies to decide about."""

from typing import Any

from track.v1.event_pb2 import ParticipantQuality
from track.v1.quality_pb2 import CONNECTION_QUALITY_LOST
from track.v1.subscription_pb2 import (
    SubscriptionAction,
    SubscriptionDecider,
    SubscriptionPolicy,
    SubscriptionRule,
    SubscriptionSettings,
)
from track.v1.track_pb2 import Participant, Track, TrackSource, TrackType, VideoQuality
from track_server.subscription.policies.policies import RoomRules
from track_server.subscription.policies.ruleset import Ruleset
from track_server.subscription.policies.verdict import Verdict

LEAVE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSPECIFIED
SUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE
UNSUBSCRIBE = SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE
OWN = SubscriptionDecider.SUBSCRIPTION_DECIDER_SUBSCRIBER_RULE
ROOM = SubscriptionDecider.SUBSCRIPTION_DECIDER_ROOM_RULE
DEFAULTS = SubscriptionDecider.SUBSCRIPTION_DECIDER_DEFAULTS
LOW = VideoQuality.VIDEO_QUALITY_LOW
VIDEO, AUDIO, DATA = TrackType.TRACK_TYPE_VIDEO, TrackType.TRACK_TYPE_AUDIO, TrackType.TRACK_TYPE_DATA

ANN = Participant(identity="ann", name="Ann", attributes={"seat": "back", "team": "red"})
BOB = Participant(identity="bob", name="Bob", attributes={"team": "red"})
EVE = Participant(identity="eve", name="Eve", attributes={"team": "blue"})
CAMERA = Track(sid="TR_c", participant_identity="bob", type=VIDEO, source=TrackSource.TRACK_SOURCE_CAMERA, name="cam")
CAMERA.metadata["role"] = "presenter"
SOUND = Track(sid="TR_m", participant_identity="bob", type=AUDIO, source=TrackSource.TRACK_SOURCE_MICROPHONE)
LOST = ParticipantQuality(participant_identity="bob", connection_quality=CONNECTION_QUALITY_LOST)


def rule(
    name: str, condition: str = "", action: "SubscriptionAction.ValueType" = SUBSCRIBE, **fields: Any
) -> SubscriptionRule:
    choose = fields.pop("choose", False)
    made = SubscriptionRule(name=name, condition=condition, action=action, client_may_choose=choose)
    if fields:
        made.settings.CopyFrom(SubscriptionSettings(**fields))
    return made


def policy(*rules: SubscriptionRule, **fields: Any) -> SubscriptionPolicy:
    return SubscriptionPolicy(rules=rules, **fields)


def ruleset(room: SubscriptionPolicy | None, own: SubscriptionPolicy | None = None, identity: str = "ann") -> Ruleset:
    found = RoomRules(room).ruleset(identity, own)
    assert found is not None
    return found


def decided(found: Verdict | None) -> tuple[Any, ...] | None:
    return None if found is None else (found.decider, found.rule, found.action)
