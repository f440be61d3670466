"""How values of the contract read for people. What was not measured reads as a dash."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from track.v1.event_pb2 import RoomEvent, RoomSnapshot, SnapshotReason
from track.v1.publication_pb2 import Evidence, Publication, PublicationEndCause, PublicationState, Stage
from track.v1.quality_pb2 import ConnectionQuality, QualitySample, QualitySource, TrackQualityReport
from track.v1.track_pb2 import FreshnessSource, Participant, ParticipantKind, Track, TrackSource, TrackType
from track.v1.tracks_pb2 import SubscriptionResult
from track_server.commands.wording import words_of
from track_server.durations import seconds_of

ABSENT: Final = "\N{EN DASH}"


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A measured number."""
    return ABSENT if value is None else f"{value:,.{digits}f}{unit}"


def bitrate(bits_per_second: float | None) -> str:
    """Bits per second, as kbit/s or Mbit/s."""
    if bits_per_second is None:
        return ABSENT
    if bits_per_second >= 1e6:
        return f"{bits_per_second / 1e6:.2f} Mbit/s"
    return f"{bits_per_second / 1e3:.0f} kbit/s"


def size(width: int | None, height: int | None) -> str:
    """Width by height in pixels."""
    return f"{width}\N{MULTIPLICATION SIGN}{height}" if width and height else ABSENT


def word(name_of: Callable[[Any], str], value: int, prefix: str) -> str:
    """The name of an enum's value without its prefix, in small letters; "" for UNSPECIFIED."""
    name = name_of(value).removeprefix(prefix).lower().replace("_", " ")
    return "" if name == "unspecified" else name


def type_word(track: Track) -> str:
    """audio, video or data."""
    return word(TrackType.Name, track.type, "TRACK_TYPE_")


def source_word(track: Track) -> str:
    """camera, microphone, ..."""
    return word(TrackSource.Name, track.source, "TRACK_SOURCE_")


def state_word(publication: Publication) -> str:
    """live, pending, ..."""
    return word(PublicationState.Name, publication.state, "PUBLICATION_STATE_")


def quality_word(level: ConnectionQuality.ValueType) -> str:
    """excellent, good, ..."""
    return word(ConnectionQuality.Name, level, "CONNECTION_QUALITY_") or ABSENT


def shape(track: Track) -> str:
    """What a track is declared to be: its size, how many layers, its codec."""
    # RED is the name of a format, and looks like a colour where it stands alone.
    codec = track.mime_type if track.type == TrackType.TRACK_TYPE_AUDIO else track.mime_type.partition("/")[2]
    parts = [size(track.width, track.height)] if track.width else []
    if len(track.layers) > 1:
        parts.append(f"{len(track.layers)} layers")
    return " ".join([*parts, codec]) or ABSENT


def sample_of(report: TrackQualityReport | None, source: QualitySource.ValueType) -> QualitySample | None:
    """What that source measured of a track."""
    found = (sample for sample in (report.samples if report is not None else ()) if sample.source == source)
    return next(found, None)


def measured(sample: QualitySample | None, name: str) -> float | None:
    """A number of a sample; None where it is absent."""
    if sample is None or not sample.HasField(name):  # type: ignore[arg-type]
        return None
    value: float = getattr(sample, name)
    return value


def age_s(sample: QualitySample | None) -> float | None:
    """How old a sample was when its report was made, in seconds."""
    if sample is None or not sample.HasField("age"):
        return None
    return seconds_of(sample.age)


def subscription_word(result: SubscriptionResult) -> str:
    """How far a subscription got."""
    if result.HasField("problem"):
        return f"failed: {result.problem.message}"
    evidence = word(Evidence.Name, result.evidence, "EVIDENCE_")
    return word(Stage.Name, result.stage, "STAGE_") + (f" in the {evidence}" if evidence else "")


def describe(happened: RoomEvent | RoomSnapshot) -> str:
    """What happened, in one line."""
    if isinstance(happened, RoomSnapshot):
        reason = word(SnapshotReason.Name, happened.reason, "SNAPSHOT_REASON_")
        return f"{reason}: {len(happened.participants)} participants, {len(happened.tracks)} tracks"
    match happened.WhichOneof("change"):
        case "track_published" | "track_unpublished" | "track_muted" | "track_unmuted" | "track_updated" as change:
            return _track(getattr(happened, change))
        case "participant_joined" | "participant_left" | "participant_updated" as change:
            return _participant(getattr(happened, change))
        case "subscription_changed":
            changed = happened.subscription_changed
            how = "receives" if changed.subscribed else "receives no more of"
            stage = word(Stage.Name, changed.stage, "STAGE_")
            return f"{changed.participant_identity} {how} {changed.track_sid}: {stage}"
        case "received_layer_changed":
            layer = happened.received_layer_changed
            which = f"layer {layer.spatial_layer}" if layer.HasField("spatial_layer") else "nothing"
            return f"{layer.participant_identity} gets {which} of {layer.track_sid}"
        case "metadata_changed":
            metadata = happened.metadata_changed.metadata
            about = metadata.track_sid or metadata.publication_id
            return " ".join((f"{metadata.participant_identity} {about}:", *words_of(happened)[1:]))
        case "quality_changed":
            quality = happened.quality_changed
            score = f" ({quality.score:.2f})" if quality.HasField("score") else ""
            return f"{quality.participant_identity}: {quality_word(quality.connection_quality)}{score}"
        case "publication_moved":
            return _publication(happened.publication_moved)
        case "room_closed":
            return happened.room_closed.reason
        case "freshness_changed":
            return word(FreshnessSource.Name, happened.freshness_changed.source, "FRESHNESS_SOURCE_")
        case _:
            return " ".join(words_of(happened)[1:]) or ABSENT


def _track(track: Track) -> str:
    kind = "" if track.type == TrackType.TRACK_TYPE_AUDIO else type_word(track)
    what = " ".join(part for part in (kind, source_word(track), shape(track)) if part not in ("", ABSENT))
    return f"{track.participant_identity}/{track.name}: {what}, {track.sid}"


def _participant(participant: Participant) -> str:
    return f"{participant.identity} ({word(ParticipantKind.Name, participant.kind, 'PARTICIPANT_KIND_')})"


def _publication(publication: Publication) -> str:
    text = f"{publication.participant_identity}/{publication.spec.name}: {state_word(publication)}"
    cause = word(PublicationEndCause.Name, publication.end_cause, "PUBLICATION_END_CAUSE_")
    if cause:
        text += f", {cause}"
    if publication.muted:
        text += ", muted"
    if publication.HasField("problem"):
        text += f": {publication.problem.message}"
    elif publication.moves and publication.moves[-1].detail:
        text += f": {publication.moves[-1].detail}"
    return text


def totals(counts: Mapping[str, int]) -> str:
    """Counts in one line, largest first."""
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{name} {count}" for name, count in ranked) or "none"
