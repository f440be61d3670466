"""One item of UpdateSubscriptions: what is asked for, whether it may be, and what became of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from track.v1 import track_pb2, tracks_pb2
from track.v1.event_pb2 import ParticipantQuality
from track.v1.subscription_pb2 import SubscriptionAction, SubscriptionSettings
from track_server.access.question import Question
from track_server.durations import seconds_of
from track_server.errors import (
    InvalidField,
    InvalidOptions,
    NotForDataTracks,
    ParticipantNotFound,
    SubscriptionRuled,
    TargetPermission,
    TrackError,
)
from track_server.rooms.model import RoomModel
from track_server.rooms.reading import find_track
from track_server.subscription.choice import Choice
from track_server.subscription.policies.ruleset import Ruleset

MAX_EXPIRY_S: Final = 30 * 24 * 3600.0
VIDEO_ALONE: Final = ("quality", "width", "height", "frames_per_second", "fallback")
"""Settings that sound does not have."""

_SUBSCRIBED: Final = {
    SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE: True,
    SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE: False,
}


@dataclass(slots=True)
class Asked:
    """One subscription on its way. ``place``: its path in the request."""

    update: tracks_pb2.SubscriptionUpdate
    question: Question
    place: str
    result: tracks_pb2.SubscriptionResult = field(init=False)

    def __post_init__(self) -> None:
        self.result = tracks_pb2.SubscriptionResult(subscription=self.update)

    @property
    def identity(self) -> str:
        """The subscriber."""
        return self.update.participant_identity

    @property
    def track_sid(self) -> str:
        """The track."""
        return self.update.track_sid

    @property
    def failed(self) -> bool:
        """Whether it is over, with a problem."""
        return self.result.HasField("problem")

    def fail(self, error: TrackError) -> None:
        """It is over."""
        self.result.problem.CopyFrom(error.problem(error.field or self.place))

    def expire_time(self) -> float | None:
        """Until when it holds, in seconds since 1970 UTC; None: until it is released. Raises InvalidField."""
        if not self.update.HasField("expire_time"):
            return None
        place = f"{self.place}.expire_time"
        try:
            expire_time = seconds_of(self.update.expire_time)
        except ValueError:
            raise InvalidField("the end of the choice is no point in time", field=place) from None
        if not time.time() < expire_time <= time.time() + MAX_EXPIRY_S:
            raise InvalidField("the choice must end in the future, within 30 days", field=place)
        return expire_time

    def settings(self, before: Choice | None) -> SubscriptionSettings | None:
        """How it is to be received from now on: as before where this says nothing. To be kept: a copy."""
        if not self.update.HasField("settings"):
            return before.settings if before is not None else None
        kept = SubscriptionSettings()
        kept.CopyFrom(self.update.settings)
        return kept


def check(model: RoomModel, present: Mapping[str, track_pb2.Participant], asked: Asked, *, chosen: bool) -> None:
    """Raises what is wrong with it in that room: ParticipantNotFound, TrackNotFound, NotForDataTracks, InvalidOptions,
    InvalidField, TargetPermission.

    ``present``: who is in the room. ``chosen``: there is a choice, so that one may be released whoever has left.
    """
    update, place = asked.update, asked.place
    if update.release and chosen:
        return
    identity = update.participant_identity
    subscriber = present.get(identity)
    if subscriber is None:
        raise ParticipantNotFound(f"no participant {identity!r} in the room", field=f"{place}.participant_identity")
    track = find_track(model.tracks, update.track_sid, f"{place}.track_sid")
    if track.type == track_pb2.TRACK_TYPE_DATA:
        raise NotForDataTracks("LiveKit's server cannot subscribe a client to data tracks", field=f"{place}.track_sid")
    if track.participant_identity == identity:
        raise InvalidOptions("a participant cannot subscribe to its own track", field=f"{place}.track_sid")
    if track.type != track_pb2.TRACK_TYPE_VIDEO:
        refuse_for_sound(update.settings, f"{place}.settings")
    asked.expire_time()
    if update.subscribe and not subscriber.permission.can_subscribe:
        raise TargetPermission(f"participant {identity!r} may not subscribe", field=f"{place}.participant_identity")


def refuse_for_sound(settings: SubscriptionSettings, place: str) -> None:
    """Raises InvalidOptions for what is for video alone."""
    for descriptor, _ in settings.ListFields():
        if (name := descriptor.name) in VIDEO_ALONE:
            raise InvalidOptions(f"{name} is for video, and the track is sound", field=f"{place}.{name}")


def refuse_against_admin(choice: Choice | None, asked: Asked, *, by_admin: bool) -> None:
    """Raises SubscriptionRuled where a subscriber would undo by itself what an admin chose for it. ``choice``: the one
    that there is."""
    if choice is not None and choice.by_admin and not by_admin:
        raise SubscriptionRuled("an admin decided about the subscription", field=asked.place)


def refuse_against_rule(model: RoomModel, ruleset: Ruleset, subscriber: track_pb2.Participant, asked: Asked) -> None:
    """Raises SubscriptionRuled where a subscriber's own choice goes against a rule that does not let it."""
    update = asked.update
    track = model.tracks[update.track_sid]
    publisher = model.participants.get(track.participant_identity)
    quality: ParticipantQuality | None = model.qualities.get(track.participant_identity)
    verdict = ruleset.decide(subscriber, publisher, track, quality) if publisher is not None else None
    if verdict is None or verdict.client_may_choose:
        return
    decided = _SUBSCRIBED.get(verdict.action)
    told = {} if not verdict.rule else {"rule": verdict.rule}
    name = f"rule {verdict.rule!r}" if verdict.rule else "the room's defaults"
    if decided is not None and decided != update.subscribe:
        raise SubscriptionRuled(f"{name} decides otherwise about the subscription", field=asked.place, metadata=told)
    if update.HasField("settings") and (verdict.rule or decided is not None):
        raise SubscriptionRuled(
            f"{name} decides how the track is received", field=f"{asked.place}.settings", metadata=told
        )
