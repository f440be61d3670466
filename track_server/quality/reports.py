"""Quality reports from what is known: tracks, LiveKit's scores, and the counters of hosted publications. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from track.v1.event_pb2 import ParticipantQuality
from track.v1.quality_pb2 import (
    CONNECTION_QUALITY_UNSPECIFIED,
    QUALITY_SOURCE_SFU_SCORE,
    QualitySample,
    TrackQualityReport,
)
from track.v1.track_pb2 import TRACK_TYPE_DATA, Track
from track_server.errors import ParticipantNotFound, TrackNotFound
from track_server.quality.clock import Moment
from track_server.quality.counters import History
from track_server.quality.room import Model


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tracks of a room: of one participant ("" for all), and of these SIDs (none for all)."""

    participant_identity: str = ""
    track_sids: frozenset[str] = frozenset()

    def holds(self, track: Track) -> bool:
        """Whether ``track`` is one of them."""
        return self.participant_identity in ("", track.participant_identity) and (
            not self.track_sids or track.sid in self.track_sids
        )

    def require(self, model: Model) -> None:
        """Raises ParticipantNotFound or TrackNotFound where something named is not in the room."""
        identity = self.participant_identity
        if identity and identity not in model.participants:
            raise ParticipantNotFound(f"participant {identity!r} is not in the room", field="participant_identity")
        for sid in sorted(self.track_sids):
            track = find_track(model, sid, "track_sids")
            if identity not in ("", track.participant_identity):
                raise TrackNotFound(f"track {sid!r} is not of participant {identity!r}", field="track_sids")


def find_track(model: Model, sid: str, field: str) -> Track:
    """The track of that SID. Raises TrackNotFound; ``field`` is the request field that named it."""
    track = model.tracks.get(sid)
    if track is None:
        raise TrackNotFound(f"track {sid!r} is not in the room", field=field)
    return track


def track_reports(
    tracks: Iterable[Track],
    qualities: Mapping[str, ParticipantQuality],
    histories: Mapping[str, History],
    now: Moment,
    window_s: float,
) -> list[TrackQualityReport]:
    """A report for each of ``tracks``, by participant identity and SID.

    ``qualities`` by identity, ``histories`` by publication id.
    """
    return [
        track_report(
            track, qualities.get(track.participant_identity), histories.get(track.publication_id), now, window_s
        )
        for track in sorted(tracks, key=lambda track: (track.participant_identity, track.sid))
    ]


def track_report(
    track: Track, quality: ParticipantQuality | None, history: History | None, now: Moment, window_s: float
) -> TrackQualityReport:
    """The report of one track. ``quality``: of its publisher. ``history``: of the publication behind it."""
    report = TrackQualityReport(
        track_sid=track.sid,
        participant_identity=track.participant_identity,
        publication_id=track.publication_id,
        type=track.type,
        source=track.source,
        muted=track.muted,
    )
    if track.publication_id and history is not None and history.track_sid == track.sid:
        sample = history.sample(window_s, now.monotonic_s, track.type)
        if sample is not None:
            report.samples.append(sample)
    # LiveKit scores RTP; of a data track it knows nothing.
    if quality is not None and track.type != TRACK_TYPE_DATA:
        score = _score(quality, now)
        if score is not None:
            report.samples.append(score)
    return report


def _score(quality: ParticipantQuality, now: Moment) -> QualitySample | None:
    if quality.connection_quality == CONNECTION_QUALITY_UNSPECIFIED and not quality.HasField("score"):
        return None
    sample = QualitySample(
        source=QUALITY_SOURCE_SFU_SCORE,
        measure_time=quality.measure_time,
        connection_quality=quality.connection_quality,
    )
    if quality.HasField("score"):
        sample.score = quality.score
    age_ns = round(now.time_s * 1e9) - quality.measure_time.ToNanoseconds()
    sample.age.FromNanoseconds(max(0, age_ns))
    return sample
