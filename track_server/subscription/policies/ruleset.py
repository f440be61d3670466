"""What holds for one subscriber: its own rules, then the room's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from track.v1.event_pb2 import ParticipantQuality, RoomEvent
from track.v1.subscription_pb2 import (
    ExaminedRule,
    SubscriptionAction,
    SubscriptionDecider,
    SubscriptionRule,
    SubscriptionSettings,
)
from track.v1.track_pb2 import Participant, Track, TrackType
from track_server.cel import Failure, at
from track_server.subscription.policies.condition import Condition, Memory, Sieve, Values, values_of
from track_server.subscription.policies.effective import Effective
from track_server.subscription.policies.settings import filled, for_sound
from track_server.subscription.policies.verdict import Verdict

_UNSUBSCRIBE: Final = SubscriptionAction.SUBSCRIPTION_ACTION_UNSUBSCRIBE
_UNSPECIFIED: Final = SubscriptionAction.SUBSCRIPTION_ACTION_UNSPECIFIED
# What of a message cannot change while it is about the same participant or track.
_STEADY: Final = frozenset(
    {"sid", "identity", "kind", "join_time", "room", "participant_identity", "participant_sid", "type", "source"}
)
_CHANGES: Final = {
    "track_updated": ("track",),
    "participant_updated": ("subscriber", "publisher"),
    "quality_changed": ("quality",),
}
_UNRATED: Final = ParticipantQuality()


@dataclass(frozen=True, slots=True)
class _Ruled:
    """What a rule says of sound and of video."""

    sound: Verdict
    video: Verdict


class Ruleset:
    """Compiled. The same object as long as nothing of it changes, and one for all subscribers without a policy of their
    own."""

    def __init__(self, whole: Effective, conditions: Sequence[Condition | None], sieve: Sieve, memory: Memory) -> None:
        """``conditions``: of the rules of ``whole``, in order; None: always. ``sieve``: of the room's among them."""
        policy = whole.policy
        defaults = policy.defaults
        self.bandwidth_bps: Final = policy.bandwidth_bps if policy.HasField("bandwidth_bps") else None
        self.reads: Final = frozenset(path for condition in conditions if condition for path in condition.reads)
        """What its conditions read: ("track", "muted"), ("subscriber", "attributes", "seat"), ("track",): all of it."""
        self._memory = memory
        self._sieve = sieve
        self._own = whole.own
        self._policy = policy
        self._conditions = conditions
        # By index, as they are wanted: a room of 500 policies has 100,000, of which few ever decide.
        self._ruled: dict[int, _Ruled] = {}
        says = defaults.action != _UNSPECIFIED or bool(defaults.settings.ListFields())
        self._default = (
            _verdicts(
                SubscriptionDecider.SUBSCRIPTION_DECIDER_DEFAULTS,
                "",
                defaults.action,
                defaults.settings,
                defaults.client_may_choose,
            )
            if says
            else (None, None)
        )

    def decide(
        self, subscriber: Participant, publisher: Participant, track: Track, quality: ParticipantQuality | None
    ) -> Verdict | None:
        """None where nothing says anything: so of data tracks always. ``quality``: LiveKit's last of the publisher.

        The messages must be ones that are never changed in place, as RoomModel's are: what is found of them is kept.
        """
        if track.type == TrackType.TRACK_TYPE_DATA:
            return None
        sound = track.type == TrackType.TRACK_TYPE_AUDIO
        values = values_of(subscriber, publisher, track, quality or _UNRATED)
        index = self._first(values)
        if index is None:
            return self._default[0 if sound else 1]
        rule = self._ruled.get(index)
        if rule is None:
            rule = self._ruled[index] = _ruled(
                self._policy.rules[index], index < self._own, self._policy.defaults.settings
            )
        return rule.sound if sound else rule.video

    def _first(self, values: Values) -> int | None:
        """The index of the rule that decides."""
        for index, condition in enumerate(self._conditions[: self._own]):
            if condition is None or condition.holds(values, self._memory) is True:
                return index
        found = self._sieve.first(values)
        return None if found is None else self._own + found

    def examine(
        self, subscriber: Participant, publisher: Participant, track: Track, quality: ParticipantQuality | None
    ) -> list[ExaminedRule]:
        """The rules up to the one that decides, in order. As `decide`."""
        values = values_of(subscriber, publisher, track, quality or _UNRATED)
        examined = []
        for index, (rule, condition) in enumerate(zip(self._policy.rules, self._conditions, strict=True)):
            found = condition is None or condition.holds(values, self._memory)
            examined.append(
                ExaminedRule(
                    rule=rule.name,
                    of_subscriber=index < self._own,
                    matched=found is True,
                    error=found.text if isinstance(found, Failure) else "",
                )
            )
            if found is True:
                break
        return examined

    def concerned(self, event: RoomEvent) -> bool:
        """Whether the event can change what is decided about pairs that there were before."""
        change = event.WhichOneof("change")
        if change in ("track_muted", "track_unmuted"):
            return not self.reads.isdisjoint({("track",), ("track", "muted")})
        return any(
            variable in _CHANGES.get(change or "", ()) and not (steps and steps[0] in _STEADY)
            for variable, *steps in self.reads
        )

    def differs(self, variable: str, before: Message, after: Message) -> bool:
        """Whether the two differ in something that is read of ``variable``, one of the conditions' variables."""
        return any(name == variable and at(before, steps) != at(after, steps) for name, *steps in self.reads)


def _ruled(rule: SubscriptionRule, of_subscriber: bool, defaults: SubscriptionSettings) -> _Ruled:
    decider = (
        SubscriptionDecider.SUBSCRIPTION_DECIDER_SUBSCRIBER_RULE
        if of_subscriber
        else SubscriptionDecider.SUBSCRIPTION_DECIDER_ROOM_RULE
    )
    settings = filled(rule.settings, defaults)
    sound, video = _verdicts(decider, rule.name, rule.action, settings, rule.client_may_choose)
    return _Ruled(sound, video)


def _verdicts(
    decider: "SubscriptionDecider.ValueType",
    rule: str,
    action: "SubscriptionAction.ValueType",
    settings: SubscriptionSettings,
    client_may_choose: bool,
) -> tuple[Verdict, Verdict]:
    """Of sound and of video."""
    if action == _UNSUBSCRIBE:
        settings = SubscriptionSettings()
    return (
        Verdict(decider, rule, action, for_sound(settings), client_may_choose),
        Verdict(decider, rule, action, settings, client_may_choose),
    )
