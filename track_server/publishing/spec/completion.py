"""The caller's spec checked, and completed with the defaults that it leaves open. Pure."""

from track.v1.publication_pb2 import PublicationSpec
from track.v1.track_pb2 import TrackType
from track_server.access.bounds import UNBOUNDED, Bounds, Description
from track_server.errors import InvalidOptions
from track_server.publishing.spec.audio import complete_audio
from track_server.publishing.spec.data import complete_data, data_bps
from track_server.publishing.spec.fallback import complete_fallback
from track_server.publishing.spec.inputs import complete_input
from track_server.publishing.spec.kinds import AUDIO, DATA, SOURCES, VIDEO, Stream, likely_source, source_of, type_of
from track_server.publishing.spec.video import MAX_SIZE, complete_video


def description_of(
    spec: PublicationSpec, kind: "TrackType.ValueType" = TrackType.TRACK_TYPE_UNSPECIFIED
) -> Description:
    """What is said of the track so far, with the bitrate of its largest layer; ``kind`` where the input alone does not
    tell."""
    layer = spec.video.layers[-1].max_bitrate_bps if spec.video.layers else 0
    return Description(
        type=type_of(spec, None) or spec.file.type or kind,
        source=likely_source(spec),
        codec=spec.video.codec,
        width=spec.video.width,
        height=spec.video.height,
        frames_per_second=spec.video.frames_per_second,
        max_bitrate_bps=spec.video.max_bitrate_bps or layer or spec.audio.max_bitrate_bps or data_bps(spec),
    )


def beside_of(spec: PublicationSpec, kind: "TrackType.ValueType") -> Description:
    """What an ingress, whose completed ``spec`` stands for its track of type ``kind``, publishes beside that track."""
    if kind == VIDEO:
        source = SOURCES[AUDIO][SOURCES[VIDEO].index(spec.source)]
        return Description(type=AUDIO, source=source, max_bitrate_bps=spec.audio.max_bitrate_bps)
    video = spec.video
    return Description(
        type=VIDEO,
        source=SOURCES[VIDEO][SOURCES[AUDIO].index(spec.source)],
        codec=video.codec,
        width=video.width,
        height=video.height,
        frames_per_second=video.frames_per_second,
        max_bitrate_bps=video.max_bitrate_bps,
    )


def complete(
    spec: PublicationSpec,
    publication_id: str,
    stream: Stream | None,
    bounds: Bounds = UNBOUNDED,
    max_pixels: int = MAX_SIZE[0] * MAX_SIZE[1],
) -> PublicationSpec:
    """A copy of ``spec`` with every default filled in, within ``bounds`` and ``max_pixels``: what the caller asked for
    itself stays. Completing it again changes nothing.

    Raises InvalidOptions, InvalidField and NotSupported with the field at fault.
    """
    result = PublicationSpec()
    result.CopyFrom(spec)
    kind = type_of(spec, stream)
    _check_kind(result, kind)
    result.name = result.name or publication_id
    result.source = source_of(result, kind, bounds.sources)
    complete_input(result, kind, stream)
    if kind == DATA:
        complete_data(result, bounds)
    elif result.HasField("ingress"):
        _complete_ingress(result, kind, bounds, max_pixels)
    elif kind == VIDEO:
        complete_video(result, stream, bounds, max_pixels)
    else:
        complete_audio(result, bounds)
    complete_fallback(result)
    return result


def _complete_ingress(spec: PublicationSpec, kind: "TrackType.ValueType", bounds: Bounds, max_pixels: int) -> None:
    """What comes in is encoded again as the options say, or is passed through, and then nothing is known of it."""
    if not spec.ingress.enable_transcoding:
        for name in ("video", "audio"):
            if spec.HasField(name):
                raise InvalidOptions("what is not transcoded is published as it comes", field=f"spec.{name}")
        return
    if kind == VIDEO or spec.HasField("video"):
        complete_video(spec, None, bounds, max_pixels)
    if kind == AUDIO or spec.HasField("audio"):
        complete_audio(spec, bounds)


def _check_kind(spec: PublicationSpec, kind: "TrackType.ValueType") -> None:
    if spec.HasField("data_options") and kind != DATA:
        raise InvalidOptions("data options are for data", field="spec.data_options")
    if spec.HasField("encryption") and (spec.HasField("device") or spec.HasField("ingress")):
        raise InvalidOptions("only what this service hosts can be encrypted by it", field="spec.encryption")
    if spec.HasField("ingress"):
        if spec.HasField("fallback"):
            raise InvalidOptions("LiveKit Ingress is not tried with other options", field="spec.fallback")
        return
    if spec.HasField("video") and kind != VIDEO:
        raise InvalidOptions("video options are for video inputs", field="spec.video")
    if spec.HasField("audio") and kind != AUDIO:
        raise InvalidOptions("audio options are for audio inputs", field="spec.audio")
