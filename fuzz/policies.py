"""Subscription policies: what an admin sets, what comes of it with another one, and what it decides."""

from collections.abc import Coroutine, Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError

from fuzz.target import Finding, Target, by_choice, chosen, presentable
from track.v1.event_pb2 import ParticipantQuality
from track.v1.subscription_pb2 import SUBSCRIPTION_ACTION_SUBSCRIBE as SUBSCRIBE
from track.v1.subscription_pb2 import SubscriptionPolicy, SubscriptionRule, SubscriptionSettings
from track.v1.track_pb2 import TRACK_SOURCE_CAMERA as CAMERA
from track.v1.track_pb2 import TRACK_SOURCE_MICROPHONE as MICROPHONE
from track.v1.track_pb2 import TRACK_TYPE_AUDIO as AUDIO
from track.v1.track_pb2 import TRACK_TYPE_VIDEO as VIDEO
from track.v1.track_pb2 import VIDEO_QUALITY_LOW, Participant, Track
from track_server.cel import compile_condition
from track_server.cel.costs import macros_in
from track_server.errors import InvalidExpression, TrackError
from track_server.subscription.policies.checking import check
from track_server.subscription.policies.condition import VARIABLES, condition_of
from track_server.subscription.policies.effective import effective
from track_server.subscription.policies.policies import RoomRules
from track_server.subscription.policies.settings import for_sound, of_video_alone

_ROOM: Final = SubscriptionPolicy(
    rules=[SubscriptionRule(name="cameras", condition="track.source == TrackSource.TRACK_SOURCE_CAMERA")],
    bandwidth_bps=16_000,
)
_CONDITIONS: Final = (
    'track.metadata.role == "presenter" && subscriber.attributes["seat"] == "back"',
    "track.type == TrackType.TRACK_TYPE_AUDIO ? subscriber.name == publisher.name : !has(quality.score)",
    "!(track.layers.exists(layer, layer.width > 640) || subscriber.attributes.size() > 1) && track != Track{}",
    "[track.sid, subscriber.sid].map(track, track + publisher.sid).all(x, x.size() > 3) || track.metadata.a[0].b",
)
_SUBSCRIBER: Final = Participant(identity="a", attributes={"seat": "back"})
_PUBLISHER: Final = Participant(identity="b", name="b")
_TRACKS: Final = (
    Track(sid="TR_a", type=AUDIO, source=MICROPHONE),
    Track(sid="TR_b", type=VIDEO, source=CAMERA, width=1280),
)
_QUALITY: Final = ParticipantQuality(score=3)


def _policy(data: bytes) -> None:
    """Of a subscriber, in a room that has one."""
    try:
        policy = SubscriptionPolicy.FromString(data)
    except DecodeError:
        return
    policy.DiscardUnknownFields()
    try:
        _finish(check(policy, policy.room, policy.participant_identity))
    except TrackError as error:
        presentable(error)
        return
    whole = effective("a", policy, _ROOM)
    if whole.own + len(_ROOM.rules) != len(whole.policy.rules):
        raise Finding("a rule is lost")
    if effective("a", None, whole.policy).policy.defaults != whole.policy.defaults:
        raise Finding("inheriting what was inherited changes it")
    ruleset = RoomRules(_ROOM).ruleset("a", policy)
    if ruleset is None:
        raise Finding("a policy is lost")
    for track in _TRACKS:
        verdict = ruleset.decide(_SUBSCRIBER, _PUBLISHER, track, _QUALITY)
        examined = ruleset.examine(_SUBSCRIBER, _PUBLISHER, track, _QUALITY)
        decided = examined[-1].rule if examined and examined[-1].matched else ""
        if (verdict.rule if verdict is not None else "") != decided:
            raise Finding(f"{decided!r} decides, and {verdict} comes of it")
        if verdict is not None and track.type == AUDIO and of_video_alone(verdict.settings):
            raise Finding("what is for video is said of sound")


def _condition(data: bytes) -> None:
    """In its parts it comes to the same as in one."""
    source = data.decode("utf-8", "replace")[:4096]
    try:
        condition = condition_of(source, "condition")
    except InvalidExpression as error:
        presentable(error, *([source] if len(source) > 200 else []))
        return
    if condition is None or macros_in(source) > 1:
        # Each part may take as many steps as all of them in one.
        return
    expected = compile_condition(source, VARIABLES, "condition")
    rules = SubscriptionPolicy(rules=[SubscriptionRule(name="r", condition=source)])
    in_room, of_subscriber = RoomRules(rules).ruleset("", None), RoomRules(None).ruleset("a", rules)
    for track in _TRACKS:
        values = {"subscriber": _SUBSCRIBER, "publisher": _PUBLISHER, "track": track, "quality": _QUALITY}
        holds = expected(values) is True
        for ruleset in (in_room, of_subscriber):
            if ruleset is None or (ruleset.decide(_SUBSCRIBER, _PUBLISHER, track, _QUALITY) is not None) != holds:
                raise Finding(f"in its parts it is not {holds}")
        if holds and track.type != AUDIO and condition.of_sound_alone():
            raise Finding("it is about sound alone, and holds for video")


def _finish(work: Coroutine[Any, Any, object]) -> None:
    """Runs what only lets others run, without a loop."""
    try:
        while True:
            work.send(None)
    except StopIteration:
        return


_WAYS: Final = (_policy, _condition)


def _seeds() -> Iterator[bytes]:
    settings = SubscriptionSettings(quality=VIDEO_QUALITY_LOW, priority=3, enabled=False)
    for condition in _CONDITIONS:
        yield chosen(1, condition.encode())
        rule = SubscriptionRule(name="r", condition=condition, action=SUBSCRIBE, settings=for_sound(settings))
        policy = SubscriptionPolicy(room="r", participant_identity="a", rules=[rule, rule])
        policy.defaults.settings.CopyFrom(settings)
        yield chosen(0, policy.SerializeToString())


def target() -> Target:
    """See the module."""
    words = (
        *(f"{variable}." for variable in VARIABLES),
        *(
            "metadata",
            "attributes",
            ".exists(x, ",
            ".all(x, ",
            "has(",
            "&&",
            "||",
            "!",
            "? ",
            ": ",
            "==",
            "true",
            "false",
        ),
    )
    return Target(by_choice(_WAYS), _seeds, [word.encode() for word in words])
