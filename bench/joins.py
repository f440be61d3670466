"""What deciding about all tracks takes when somebody joins a room with rules, a focus and a budget."""

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from bench.figures import Figure, at_most, told
from bench.rounds import spread
from bench.stand import Stand
from track.v1.subscription_pb2 import (
    SubscriptionAction,
    SubscriptionDefaults,
    SubscriptionPolicy,
    SubscriptionRule,
    SubscriptionSettings,
)
from track.v1.track_pb2 import Participant, Track, TrackSource, TrackType, VideoLayer, VideoQuality
from track_server.subscription.controller.fitting import Fitting, Situation
from track_server.subscription.controller.fitting import told as to_tell
from track_server.subscription.controller.limits import Limits
from track_server.subscription.controller.outcome import outcome
from track_server.subscription.controller.videos import Videos
from track_server.subscription.focus.view import FocusView
from track_server.subscription.layers.cost import sound_bps
from track_server.subscription.layers.decision import Budget
from track_server.subscription.policies.policies import RoomRules
from track_server.subscription.policies.ruleset import Ruleset

_SIZES: Final = (10, 100, 1000)
_SUBSCRIBERS: Final = 100
_GOAL_MS: Final = 100.0
# What a track costs more in a larger room is noise of the machine below this.
_LINEAR: Final = 1.1
_LAYERS: Final = ((320, 180, 160_000), (640, 360, 450_000), (1280, 720, 1_700_000))
_LOW: Final = SubscriptionSettings(quality=VideoQuality.VIDEO_QUALITY_LOW)
_RULES: Final = (
    'track.metadata.role == "presenter"',
    'subscriber.attributes["seat"] == "back" && track.source == TrackSource.TRACK_SOURCE_CAMERA',
    'publisher.attributes["role"] == "moderator"',
    'track.name.startsWith("hidden")',
    'track.metadata.role == "audience" && subscriber.attributes["role"] != "moderator"',
    "track.muted && track.type == TrackType.TRACK_TYPE_VIDEO",
    'subscriber.attributes["seat"] == publisher.attributes["seat"]',
    'track.source == TrackSource.TRACK_SOURCE_SCREEN_SHARE || track.name == "slides"',
    "quality.connection_quality == ConnectionQuality.CONNECTION_QUALITY_LOST",
    'publisher.identity.matches("^guest-[0-9]+$")',
)


async def measure(stand: Stand) -> list[Figure]:
    """Rooms of 10, 100 and 1,000 tracks and 100 subscribers; those who join come one after the other, rooms in turn."""
    rooms = [_Room(size) for size in _SIZES]
    for room in rooms:
        for subscriber in room.participants:
            room.decide(subscriber)
    for number in range(stand.effort.rounds * 4):
        for room in rooms:
            room.join(number)
    per_track = [median(room.joins_ms) / room.size for room in rooms]
    whole = rooms[-1]
    note = (
        f"{_SUBSCRIBERS} subscribers, {len(_RULES)} rules, focus and a budget; {len(whole.joins_ms)} joins; processor"
        f" time of deciding about every track: rules, terms, allocation, and what the client is told; {{}} ms"
    )
    figures = [
        at_most(
            "CPU of one join, 1,000 tracks", median(whole.joins_ms), "ms", _GOAL_MS, note.format(spread(whole.joins_ms))
        )
    ]
    for room, cost in zip(rooms[1:], per_track[1:], strict=True):
        figures.append(
            at_most(
                f"CPU of one join for a track, {room.size} tracks against {rooms[0].size}",
                cost / per_track[0],
                "ratio",
                _LINEAR,
                note.format(f"{spread(room.joins_ms)} against {spread(rooms[0].joins_ms)}"),
            )
        )
    published = [whole.publish() for _ in range(stand.effort.rounds)]
    note = f"the same of one new track for all {_SUBSCRIBERS} subscribers; {spread(published)} ms"
    figures.append(told("CPU of one published track, 1,000 tracks", median(published), "ms", note))
    return figures


class _Room:
    """Participants who publish ``size`` tracks between them, as a live room has them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.joins_ms: list[float] = []
        self.participants = [_participant(number) for number in range(_SUBSCRIBERS)]
        self._by_identity = {each.identity: each for each in self.participants}
        self._tracks = [_track(number, self.participants[number % _SUBSCRIBERS]) for number in range(size)]
        self._videos = Videos()
        self._limits = Limits()
        self._fittings: list[tuple[Participant, Fitting, int]] = []
        others = SubscriptionSettings(quality=VideoQuality.VIDEO_QUALITY_LOW)
        self._situation = Situation(FocusView({}, others), None, {}, 0)
        self._ruleset = _ruleset()

    def decide(self, subscriber: Participant) -> None:
        """About every track for one who came."""
        fitting = Fitting("bench", subscriber.identity, self._limits)
        sound = self._place(subscriber, fitting, self._tracks)
        self._fit(fitting, sound, [track.sid for track in self._tracks])
        self._fittings.append((subscriber, fitting, sound))

    def join(self, number: int) -> None:
        """One more, measured, who is then gone."""
        subscriber = _participant(_SUBSCRIBERS + number)
        begun = time.thread_time()
        self.decide(subscriber)
        self.joins_ms.append((time.thread_time() - begun) * 1e3)
        self._fittings.pop()

    def publish(self) -> float:
        """Milliseconds for one more track, which all decide about."""
        track = _track(len(self._tracks) * 2, self.participants[0])
        self._tracks.append(track)
        begun = time.thread_time()
        for subscriber, fitting, sound in self._fittings:
            self._fit(fitting, sound + self._place(subscriber, fitting, [track]), [track.sid])
        return (time.thread_time() - begun) * 1e3

    def _place(self, subscriber: Participant, fitting: Fitting, tracks: Sequence[Track]) -> int:
        """Bits per second of sound."""
        sound = 0
        for track in tracks:
            publisher = self._by_identity[track.participant_identity]
            if publisher is subscriber:
                continue
            found = outcome(
                refused=False, choice=None, verdict=self._ruleset.decide(subscriber, publisher, track, None)
            )
            if found is not None and found.subscribed is False:
                continue
            if track.type == TrackType.TRACK_TYPE_VIDEO:
                fitting.place(self._situation, found, self._videos.of(track))
            else:
                sound += sound_bps(track)
        return sound

    def _fit(self, made: Fitting, sound: int, sids: Sequence[str]) -> None:
        changed = made.fit(0.0, Budget(1_000_000_000), sound, sids)
        for sid in changed:
            to_tell(None, made.of(sid))


def _ruleset() -> Ruleset:
    """Ten rules as they come: over metadata, attributes, sources and names. Most tracks fall through all of them."""
    policy = SubscriptionPolicy(
        room="bench",
        rules=[
            SubscriptionRule(
                name=f"rule-{number}",
                condition=condition,
                action=SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE,
                settings=_LOW,
            )
            for number, condition in enumerate(_RULES)
        ],
        defaults=SubscriptionDefaults(action=SubscriptionAction.SUBSCRIPTION_ACTION_SUBSCRIBE),
    )
    found = RoomRules(policy).ruleset("", None)
    assert found is not None
    return found


def _participant(number: int) -> Participant:
    role, seat = ("moderator" if number % 20 == 0 else "guest"), ("back" if number % 3 == 0 else f"row-{number % 7}")
    return Participant(identity=f"participant-{number}", sid=f"PA_{number}", attributes={"role": role, "seat": seat})


def _track(number: int, publisher: Participant) -> Track:
    track = Track(
        sid=f"TR_{number}",
        room="bench",
        participant_identity=publisher.identity,
        name=f"track-{number}",
    )
    track.metadata["role"] = ("audience", "guest", "presenter")[number % 3]
    if number // _SUBSCRIBERS % 2:
        track.type, track.source = TrackType.TRACK_TYPE_AUDIO, TrackSource.TRACK_SOURCE_MICROPHONE
        track.mime_type = "audio/red"
        return track
    track.type, track.source, track.mime_type = TrackType.TRACK_TYPE_VIDEO, TrackSource.TRACK_SOURCE_CAMERA, "video/VP8"
    track.layers.extend(_layers())
    return track


def _layers() -> Iterator[VideoLayer]:
    for number, (width, height, bitrate_bps) in enumerate(_LAYERS):
        quality = VideoQuality.values()[number + 1]
        yield VideoLayer(quality=quality, width=width, height=height, bitrate_bps=bitrate_bps)
