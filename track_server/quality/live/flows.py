"""Which flows of a room are watched, and what is expected of each: brought in line with the room's model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from track.v1.event_pb2 import ParticipantQuality
from track.v1.quality_alert_pb2 import QualityAlert
from track.v1.quality_pb2 import QualityAttainment
from track.v1.track_pb2 import TRACK_SOURCE_SCREEN_SHARE, TRACK_TYPE_VIDEO, Track
from track_server.durations import seconds_of
from track_server.livekit.debug import DownTrack
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Hop, Source
from track_server.quality.core.measuring.stream import HISTORY_S
from track_server.quality.core.scoring.picture import CODEC_FACTORS
from track_server.quality.core.scoring.score import Picture
from track_server.quality.core.watch import Subject
from track_server.quality.live.room import Room
from track_server.quality.messages import MEDIA
from track_server.quality.sources.forwarding import Forwarding

LOOKED_S: Final = 10.0
"""What LiveKit's debug view showed is good for so long, in seconds: looks come each second, or less often where they
are dear."""

Tap = Callable[[str, str, Flow, object], None]
"""Told of all that an assessment is given: room, kind (`begin`, `end`, `readings`, `expect`, `receives`), flow, and
what: Subject, None, the readings, Expected, the layer."""


@dataclass(slots=True)
class Context:
    """What assessments ask of the rest of the service. None of it waits or raises.

    ``wanted``: by room, subscriber's identity and track SID, whether that subscriber is meant to receive it; None
    where nobody says. ``alerts_of``: by room and track SID, those that are on. ``attainment_of``: by room and track
    SID. ``tap``: for recordings; it is told of what happens from then on.
    """

    wanted: Callable[[str, str, str], bool | None] = lambda _room, _identity, _sid: None
    alerts_of: Callable[[str, str], Sequence[QualityAlert]] = lambda _room, _sid: ()
    attainment_of: Callable[[str, str], QualityAttainment | None] = lambda _room, _sid: None
    tap: Tap | None = None


_NOT_TOLD: Final = Expected()


@dataclass(slots=True)
class _Down:
    """One subscriber of a track. ``session``: SID of its participant; empty for a hidden one."""

    flow: Flow
    session: str
    heard_s: float
    expected: Expected = _NOT_TOLD
    packets: int = 0
    moved_s: float | None = None
    """When LiveKit was last seen to send it packets."""


@dataclass(slots=True)
class _Up:
    """One track. ``hosted``: a session of this service publishes it. ``rated``: LiveKit's last word that was taken."""

    flow: Flow
    track: Track
    hosted: bool = False
    rated: ParticipantQuality | None = None
    expected: Expected = _NOT_TOLD
    forwarding: Forwarding = field(default_factory=Forwarding)
    downs: dict[str, _Down] = field(default_factory=dict)


class Flows:
    """Owner of the flows of one assessment: who begins and ends them."""

    def __init__(self, live: Room, assessment: Assessment, context: Context) -> None:
        self._live = live
        self._assessment = assessment
        self._context = context
        self._ups: dict[str, _Up] = {}
        self._version = -1
        self._copies: Mapping[tuple[str, str], DownTrack] = {}
        self._looked_s: float | None = None

    def of(self, track_sid: str) -> Iterator[Flow]:
        """Those of a track: the uplink, then the downlinks by subscriber."""
        up = self._ups.get(track_sid)
        if up is not None:
            yield up.flow
            for identity in sorted(up.downs):
                yield up.downs[identity].flow

    def sync(self) -> bool:
        """Begins and ends flows as the model tells; False where it did not change since."""
        model = self._live.model
        if model.version == self._version:
            return False
        self._version = model.version
        for sid in [sid for sid in self._ups if sid not in model.tracks]:
            self._end(self._ups.pop(sid))
        for track in model.tracks.values():
            self.track(track)
        for up in self._ups.values():
            for down in list(up.downs.values()):
                participant = model.participants.get(down.flow.identity)
                if down.session and (participant is None or participant.sid != down.session):
                    self._leave(up, down)
        return True

    def track(self, track: Track) -> None:
        """A track of the room, as it is now."""
        if track.type not in MEDIA:
            return
        up = self._ups.get(track.sid)
        if up is not None and up.track is track:
            return
        if up is not None and up.track.participant_sid != track.participant_sid:
            self._end(self._ups.pop(track.sid))
            up = None
        if up is None:
            up = self._ups[track.sid] = _Up(Flow(track.sid, Hop.UPLINK, track.participant_identity), track)
        known, up.track = up.track, track
        if known is track or known.mime_type != track.mime_type:
            # Who begins anew is to be told all of it.
            self._begin(up.flow, up.track)
            up.expected, up.rated = _NOT_TOLD, None
            for down in up.downs.values():
                self._begin(down.flow, up.track)
                down.expected = _NOT_TOLD
        if known.muted != track.muted or track.muted:
            self._expect_up(up, None)
            for down in up.downs.values():
                self._expect_down(up, down, None, None)

    def gone(self, track_sid: str) -> None:
        """A track that is unpublished."""
        up = self._ups.pop(track_sid, None)
        if up is not None:
            self._end(up)

    def admit(self, flow: Flow, source: Source, now: Moment) -> bool:
        """Whether readings of that flow may be: a downlink begins with its first ones."""
        self.sync()
        up = self._ups.get(flow.track_sid)
        if up is None:
            return False
        publisher = up.track.participant_identity
        if flow.hop is Hop.UPLINK:
            up.hosted = up.hosted or source is Source.PUBLISHER_STATS
            return flow.identity == publisher
        down = up.downs.get(flow.identity)
        if down is None:
            participant = self._live.model.participants.get(flow.identity)
            # The sessions of this service are hidden participants, which the model leaves out.
            if flow.identity == publisher or (participant is None and source is not Source.SUBSCRIBER_STATS):
                return False
            down = up.downs[flow.identity] = _Down(
                flow, "" if participant is None else participant.sid, now.monotonic_s
            )
            self._begin(flow, up.track)
            self._expect_down(up, down, None, now)
        down.heard_s = now.monotonic_s
        return True

    def leave(self, flow: Flow) -> None:
        """A subscription has ended."""
        up = self._ups.get(flow.track_sid)
        down = up.downs.get(flow.identity) if up is not None and flow.hop is Hop.DOWNLINK else None
        if up is not None and down is not None:
            self._leave(up, down)

    def looked(self, copies: Mapping[tuple[str, str], DownTrack], now: Moment) -> None:
        """LiveKit's debug view, by subscriber's identity and track SID."""
        self._copies, self._looked_s = copies, now.monotonic_s
        by_track: dict[str, list[DownTrack]] = {}
        for (_, sid), each in copies.items():
            by_track.setdefault(sid, []).append(each)
        for sid, up in self._ups.items():
            video = up.track.type == TRACK_TYPE_VIDEO
            reading = up.forwarding.look(by_track.get(sid, ()), video=video, now=now)
            if reading is not None:
                self.tell("readings", up.flow, [reading])
                self._assessment.add(up.flow, [reading])
            for down in up.downs.values():
                copy = copies.get((down.flow.identity, down.flow.track_sid))
                layer = None
                if copy is not None:
                    if copy.packets > down.packets:
                        down.moved_s = now.monotonic_s
                    down.packets = copy.packets
                    # As the ladder counts: OFF is 0. Where there is one layer, it says nothing of the network.
                    if len(up.track.layers) > 1 and not (copy.disabled or up.track.muted):
                        layer = copy.spatial_layer + 1
                if self._assessment.watches[down.flow].received != layer:
                    self.tell("receives", down.flow, layer)
                    self._assessment.receives(down.flow, layer)

    def expect(self, last: Assessed, now: Moment) -> None:
        """Before a tick: LiveKit's score, and what is expected of each flow by the tick before. Downlinks that nobody
        tells of any more end."""
        for up in self._ups.values():
            self._rate(up, now)
            sends = _sends(last, up.flow)
            self._expect_up(up, sends)
            for down in list(up.downs.values()):
                if now.monotonic_s - down.heard_s > HISTORY_S:
                    self._leave(up, down)
                else:
                    self._expect_down(up, down, sends, now)

    def rate(self, track_sid: str, now: Moment) -> None:
        """Takes LiveKit's score of that track's publisher, if it is a new one."""
        up = self._ups.get(track_sid)
        if up is not None:
            self._rate(up, now)

    def _rate(self, up: _Up, now: Moment) -> None:
        quality = self._live.model.qualities.get(up.flow.identity)
        if quality is None or quality is up.rated:
            return
        up.rated = quality
        if quality.HasField("score"):
            told_s = now.monotonic_s - max(0.0, now.time_s - seconds_of(quality.measure_time))
            self._assessment.watches[up.flow].meter.score(quality.score, told_s)

    def _expect_up(self, up: _Up, sends: bool | None) -> None:
        # A client may send no picture because nobody subscribes (dynacast), or because its screen stands still; a
        # session of this service always sends.
        wanted = up.hosted or up.forwarding.served
        still = up.track.type == TRACK_TYPE_VIDEO and (not wanted or up.track.source == TRACK_SOURCE_SCREEN_SHARE)
        expected = Expected(muted=up.track.muted, sent=True if sends else None, screen=still)
        if expected != up.expected:
            up.expected = expected
            self._expect(up.flow, expected)

    def _expect_down(self, up: _Up, down: _Down, sends: bool | None, now: Moment | None) -> None:
        wanted = down.expected.wanted
        if now is not None:
            wanted = self._is_wanted(down.flow, now)
            if sends is None and down.moved_s is not None and now.monotonic_s - down.moved_s <= LOOKED_S:
                sends = True
        expected = Expected(
            muted=up.track.muted,
            wanted=wanted,
            sent=sends,
            screen=up.track.source == TRACK_SOURCE_SCREEN_SHARE,
        )
        if expected != down.expected:
            down.expected = expected
            self._expect(down.flow, expected)

    def _is_wanted(self, flow: Flow, now: Moment) -> bool:
        if self._looked_s is not None and now.monotonic_s - self._looked_s <= LOOKED_S:
            copy = self._copies.get((flow.identity, flow.track_sid))
            if copy is not None and copy.disabled:
                return False
        return self._context.wanted(self._live.name, flow.identity, flow.track_sid) is not False

    def _begin(self, flow: Flow, track: Track) -> None:
        subject = Subject(track.sid, track.participant_identity, MEDIA[track.type], _picture(track))
        self.tell("begin", flow, subject)
        self._assessment.begin(flow, subject)

    def _expect(self, flow: Flow, expected: Expected) -> None:
        self.tell("expect", flow, expected)
        self._assessment.expect(flow, expected)

    def _leave(self, up: _Up, down: _Down) -> None:
        del up.downs[down.flow.identity]
        self.tell("end", down.flow, None)
        self._assessment.end(down.flow)

    def _end(self, up: _Up) -> None:
        for down in list(up.downs.values()):
            self._leave(up, down)
        self.tell("end", up.flow, None)
        self._assessment.end(up.flow)

    def tell(self, kind: str, flow: Flow, what: object) -> None:
        """Tells the tap, where there is one."""
        if self._context.tap is not None:
            self._context.tap(self._live.name, kind, flow, what)


def _sends(last: Assessed, flow: Flow) -> bool | None:
    seen = last.seen.get(flow)
    return seen.sample.sends if seen is not None and seen.sample is not None else None


def _picture(track: Track) -> Picture | None:
    """What its codec makes of a bit; None where that is nothing special. Its size is what it is: a layer that nobody
    wants is not sent."""
    factor = CODEC_FACTORS.get(track.mime_type.lower().removeprefix("video/"))
    return None if factor is None else Picture(0, 0, 0.0, factor)
