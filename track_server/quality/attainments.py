"""How well live tracks keep to the targets of their quality policies, over the last hour."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from track.v1.quality_pb2 import QualityAttainment
from track.v1.quality_policy_pb2 import QualityPolicy, QualityTargets
from track.v1.track_pb2 import Track
from track_server.durations import duration_of
from track_server.quality.clock import Clock, Moment, SystemClock
from track_server.quality.core.assessment import Assessed
from track_server.quality.core.measuring.reading import Flow, Hop, Media
from track_server.quality.core.scoring.attainment import Attainment
from track_server.quality.core.watch import Seen, Watch
from track_server.quality.live.roomassessment import RoomAssessment

Holding = Callable[[str, str, str], QualityPolicy | None]
"""The policy that holds in a room, of an identity and a track."""

FRESH_S: Final = 5.0
"""A number older than this, in seconds, says nothing of now: the span over which loss is looked at."""


@dataclass(frozen=True, slots=True)
class Attained:
    """Of one track: seconds within its targets, of so many measured."""

    room: str
    track_sid: str
    within_s: float
    measured_s: float


@dataclass(slots=True)
class _Kept:
    """Of one life of a room, by track."""

    room: RoomAssessment
    tracks: dict[str, Attainment] = field(default_factory=dict)


class Attainments:
    """Owner of the attainment of live tracks. ``assessed`` and ``closed`` listen to Assessing.

    ``passed``: told of each second that was measured, and whether it was within.
    """

    def __init__(
        self,
        passed: Callable[[float, bool], None] = lambda _seconds, _within: None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._holding: Holding = lambda _room, _identity, _track_sid: None
        self._passed = passed
        self._clock: Clock = clock or SystemClock()
        self._rooms: dict[str, _Kept] = {}

    def hold_to(self, holding: Holding) -> None:
        """From now on targets are those of the policies that ``holding`` tells."""
        self._holding = holding

    def of(self, room: str, track_sid: str) -> QualityAttainment | None:
        """Of a track, over the last hour; None without targets, and where nothing of them was measured."""
        kept = self._rooms.get(room)
        attainment = kept.tracks.get(track_sid) if kept is not None else None
        if attainment is None:
            return None
        within_s, measured_s = attainment.seconds(self._clock.now().monotonic_s)
        if not measured_s:
            return None
        return QualityAttainment(within=duration_of(within_s), measured=duration_of(measured_s))

    def all(self) -> Iterator[Attained]:
        """Of all tracks of which something was measured."""
        now_s = self._clock.now().monotonic_s
        for room, kept in list(self._rooms.items()):
            for track_sid, attainment in list(kept.tracks.items()):
                within_s, measured_s = attainment.seconds(now_s)
                if measured_s:
                    yield Attained(room, track_sid, within_s, measured_s)

    def assessed(self, room: RoomAssessment, assessed: Assessed, moment: Moment) -> None:
        """One tick: a track is within where every hop that is measured keeps to the policy that holds for it."""
        found: dict[str, bool | None] = {}
        for flow, seen in assessed.seen.items():
            policy = self._holding(room.name, flow.identity, flow.track_sid)
            if policy is None or not policy.HasField("targets"):
                continue
            found.setdefault(flow.track_sid, None)
            watch = room.assessment.watches.get(flow)
            track = room.live.model.tracks.get(flow.track_sid)
            if watch is None or track is None or not watch.measured(moment.monotonic_s):
                continue
            holds = within(policy.targets, track, flow, watch, seen)
            if holds is not None:
                found[flow.track_sid] = holds and found[flow.track_sid] is not False
        self._take(room, found, moment)

    def closed(self, room: RoomAssessment) -> None:
        """The assessment ends."""
        kept = self._rooms.get(room.name)
        if kept is not None and kept.room is room:
            del self._rooms[room.name]

    def _take(self, room: RoomAssessment, found: dict[str, bool | None], moment: Moment) -> None:
        kept = self._rooms.get(room.name)
        if kept is None or kept.room is not room:
            if not found:
                return
            kept = self._rooms[room.name] = _Kept(room)
        # Without a policy, or without the track, there is nothing to attain.
        kept.tracks = {sid: kept.tracks.get(sid) or Attainment() for sid in found}
        for sid, holds in found.items():
            self._passed(kept.tracks[sid].add(holds, moment.monotonic_s), bool(holds))
        if not found:
            del self._rooms[room.name]


def within(targets: QualityTargets, track: Track, flow: Flow, watch: Watch, seen: Seen) -> bool | None:
    """Whether all targets hold on a hop now that are set for its kind of track and measured; None where none is."""
    sample = seen.sample
    held: list[bool] = []
    if sample is not None:
        loss, rtt, rate = sample.loss_after, sample.rtt_ms, sample.frames_per_second
        if targets.HasField("loss_percent") and loss is not None and loss.age_s <= FRESH_S:
            held.append(loss.percent <= targets.loss_percent)
        if targets.HasField("rtt_ms") and rtt is not None and rtt.age_s <= FRESH_S:
            held.append(rtt.value <= targets.rtt_ms)
        if watch.subject.media is Media.VIDEO and targets.HasField("frames_per_second") and rate is not None:
            held.append(rate.value >= targets.frames_per_second)
    if watch.subject.media is Media.AUDIO and targets.HasField("audio_mos") and seen.score is not None:
        held.append(seen.score >= targets.audio_mos)
    # Of a track with fewer layers the highest that there is; with one there is nothing to choose.
    most = min(targets.quality, len(track.layers))
    if most > 1 and flow.hop is Hop.DOWNLINK and watch.received is not None:
        held.append(watch.received >= most)
    if targets.level and seen.level is not None:
        held.append(seen.level <= targets.level)
    return all(held) if held else None
