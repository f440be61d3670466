"""One life of one room: its model and what is measured there, brought together; and its reports."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from track.media.v1.media_service_pb2 import HostedTrackStats
from track.v1.event_pb2 import RoomEvent
from track.v1.quality_pb2 import QualityMeasurement, TrackQualityReport
from track.v1.track_pb2 import TRACK_TYPE_DATA, Track
from track_server.livekit.debug import DownTrack
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.measuring.reading import Flow, Hop, Reading, Source
from track_server.quality.live.flows import Context, Flows
from track_server.quality.live.room import Room
from track_server.quality.messages import measurement_of, set_score, sfu_sample, source_sample
from track_server.quality.sources.data import DataCounters
from track_server.quality.sources.hosted import hosted_readings

_AT_ONCE: Final = frozenset({"track_muted", "track_unmuted", "track_published"})


class RoomAssessment:
    """The assessment of one life of one room.

    Its flows follow the room's model: uplinks are those of its tracks, and downlinks begin with the first reading of a
    subscriber. What is told by LiveKit's events and its debug view goes into what is expected of them.
    """

    def __init__(self, live: Room, assessment: Assessment, context: Context) -> None:
        self.live: Final = live
        self.assessment: Final = assessment
        self.tick = 0
        """Grows with every tick."""
        self.last = Assessed()
        """What the last tick found."""
        self._context = context
        self._flows = Flows(live, assessment, context)
        self._data: dict[str, DataCounters] = {}

    @property
    def name(self) -> str:
        """The room's name."""
        return self.live.name

    def flows(self, track_sid: str) -> list[Flow]:
        """Those of a track: its uplink, then its downlinks by subscriber. Empty for data tracks."""
        return list(self._flows.of(track_sid))

    # Readings.

    def add(self, flow: Flow, readings: Sequence[Reading], now: Moment) -> bool:
        """See Assessing."""
        if not readings or not self._flows.admit(flow, readings[0].source, now):
            return False
        self._flows.tell("readings", flow, readings)
        return self.assessment.add(flow, readings)

    def record(self, identity: str, stats: HostedTrackStats, now: Moment) -> bool:
        """Takes what the session of that participant tells of a track that it publishes; False where there is none of
        that SID and publisher."""
        if not stats.HasField("data"):
            flow = Flow(stats.track_sid, Hop.UPLINK, identity)
            return self.add(flow, hosted_readings(stats, now.monotonic_s), now)
        track = self.live.model.tracks.get(stats.track_sid)
        if track is None or track.type != TRACK_TYPE_DATA or track.participant_identity != identity:
            return False
        self._data.setdefault(stats.track_sid, DataCounters()).add(stats, now.monotonic_s)
        return True

    def end(self, flow: Flow) -> None:
        """A subscription has ended."""
        self._flows.leave(flow)

    def measured(self, track: Track, now: Moment, max_age_s: float) -> bool:
        """Whether there is a window of the track's uplink that ended at most ``max_age_s`` ago."""
        if track.type == TRACK_TYPE_DATA:
            counters = self._data.get(track.sid)
            return counters is not None and counters.measured(now.monotonic_s, max_age_s)
        watch = self.assessment.watches.get(Flow(track.sid, Hop.UPLINK, track.participant_identity))
        told = watch.meter.told(0.0, now.monotonic_s) if watch is not None else ()
        return any(
            each.age_s <= max_age_s and each.total.window_s is not None
            for each in told
            if each.source is not Source.DEBUG_VIEW
        )

    # What is told by LiveKit.

    def sync(self) -> None:
        """Brings the flows in line with the room's model."""
        if self._flows.sync():
            tracks = self.live.model.tracks
            for sid in [sid for sid in self._data if sid not in tracks]:
                del self._data[sid]

    def happened(self, event: RoomEvent) -> None:
        """LiveKit changed something in the room. Its model has it already."""
        change = event.WhichOneof("change")
        if change in _AT_ONCE:
            # Not at the next tick: numbers before a mute and after it do not mix.
            self._flows.track(getattr(event, change))
        elif change == "track_unpublished":
            self._flows.gone(event.track_unpublished.sid)

    def looked(self, copies: Sequence[DownTrack], now: Moment) -> None:
        """The debug view was looked at."""
        self._flows.looked({(copy.subscriber_identity, copy.track_sid): copy for copy in copies if copy.bound}, now)

    def look(self, now: Moment) -> Iterator[None]:
        """One tick, in steps, between which others may have their turn. What it found is in ``last`` then."""
        self.sync()
        self._flows.expect(self.last, now)
        self.last = yield from self.assessment.ticking(now.monotonic_s)
        self.tick += 1

    # Reports.

    def report(
        self, track: Track, windows: Sequence[float], moment: Moment, *, span_s: float | None = None
    ) -> TrackQualityReport:
        """All that is known of a track of the room.

        ``windows``: spans of the measurements in seconds, one or more; ``span_s``: that of ``samples``, the first
        window where it is not given.
        """
        self.sync()
        self._flows.rate(track.sid, moment)
        report = TrackQualityReport(
            track_sid=track.sid,
            participant_identity=track.participant_identity,
            publication_id=track.publication_id,
            type=track.type,
            source=track.source,
            muted=track.muted,
        )
        self._add_samples(report, track, windows[0] if span_s is None else span_s, moment)
        flows = self.flows(track.sid)
        for window_s in sorted(set(windows)):
            for flow in flows:
                measurement = self.measurement(flow, window_s, moment, layers=True)
                if measurement is not None:
                    report.measurements.append(measurement)
        report.alerts.extend(self._context.alerts_of(self.name, track.sid))
        attainment = self._context.attainment_of(self.name, track.sid)
        if attainment is not None:
            report.attainment.CopyFrom(attainment)
        return report

    def measurement(self, flow: Flow, window_s: float, moment: Moment, *, layers: bool) -> QualityMeasurement | None:
        """What was measured of a flow over about the last ``window_s``; None where nobody did of late. ``layers``:
        with those of a simulcast uplink."""
        watch = self.assessment.watches.get(flow)
        sample = watch.meter.total(window_s, moment.monotonic_s) if watch is not None else None
        if watch is None or sample is None:
            return None
        found = watch.meter.layers(window_s, moment.monotonic_s) if layers and flow.hop is Hop.UPLINK else []
        message = measurement_of(flow, sample, found if len(found) > 1 else ())
        scored = watch.score(sample, self._other_rtt_ms(flow))
        seen = self.last.seen.get(flow)
        set_score(
            message,
            watch.subject.media,
            None if scored is None else scored.score,
            None if seen is None else seen.level,
        )
        return message

    def _add_samples(self, report: TrackQualityReport, track: Track, span_s: float, moment: Moment) -> None:
        """The old form: the uplink as each source told it, and LiveKit's score."""
        if track.type == TRACK_TYPE_DATA:
            counters = self._data.get(track.sid)
            pushed = counters.sample(span_s, moment.monotonic_s) if counters is not None else None
            if pushed is not None:
                report.samples.append(pushed)
            # LiveKit scores RTP; of a data track it knows nothing.
            return
        watch = self.assessment.watches.get(Flow(track.sid, Hop.UPLINK, track.participant_identity))
        if watch is not None:
            told = watch.meter.told(span_s, moment.monotonic_s)
            # The debug view has none of a sample's numbers.
            told = [each for each in told if each.source is not Source.DEBUG_VIEW]
            report.samples.extend(source_sample(each, watch.subject.media) for each in told)
        quality = self.live.model.qualities.get(track.participant_identity)
        score = sfu_sample(quality, moment) if quality is not None else None
        if score is not None:
            report.samples.append(score)

    def _other_rtt_ms(self, flow: Flow) -> float:
        """The round trip of the publisher's hop, for what a subscriber hears."""
        if flow.hop is Hop.UPLINK:
            return 0.0
        uplink = next(self._flows.of(flow.track_sid), None)
        return 0.0 if uplink is None else self.assessment.watches[uplink].rtt_ms or 0.0


def unfollowed(live: Room, context: Context) -> RoomAssessment:
    """One of a room that nobody follows: it knows what the room itself tells, and no recording is told of it."""
    return RoomAssessment(live, Assessment(), replace(context, tap=None))
