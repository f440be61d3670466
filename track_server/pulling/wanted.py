"""What a request to pull asks for, and whether it goes together. Pure."""

from track.media.v1.media_service_pb2 import PullDesired
from track.v1 import track_pb2
from track.v1.pull_pb2 import PullContainer, PullMediaRequest
from track_server.durations import seconds_of
from track_server.errors import EncryptionKeyNeeded, InvalidField, InvalidOptions, NotForDataTracks
from track_server.pulling.layer import layer_of, refuse_settings
from track_server.rooms.reading import encrypted
from track_server.subscription.layers.video import message_quality

_AUDIO, _VIDEO, _DATA = track_pb2.TRACK_TYPE_AUDIO, track_pb2.TRACK_TYPE_VIDEO, track_pb2.TRACK_TYPE_DATA
_MATROSKA = PullContainer.PULL_CONTAINER_MATROSKA
_LEAST_SIDE = 16


def refuse_contradictions(request: PullMediaRequest) -> None:
    """Raises InvalidField, InvalidOptions for what cannot be meant, whatever the track is."""
    frames = request.frames
    if (frames.width == 0) != (frames.height == 0):
        raise InvalidField("width and height are given together", field="frames")
    for name, value in (("width", frames.width), ("height", frames.height)):
        if value and (value < _LEAST_SIDE or value % 2):
            raise InvalidField(f"{name} must be even, and {_LEAST_SIDE} at least", field=f"frames.{name}")
    if request.audio_track_sid:
        if request.container != _MATROSKA:
            raise InvalidOptions("two tracks go into one Matroska container only", field="audio_track_sid")
        if request.audio_track_sid == request.track_sid:
            raise InvalidOptions("audio_track_sid is the sound that goes with a video", field="audio_track_sid")


def refuse_format(request: PullMediaRequest, kind: track_pb2.TrackType.ValueType) -> None:
    """Raises InvalidOptions, NotForDataTracks where a track of that kind cannot be had as is asked for."""
    refuse_settings(request, kind)
    if kind == _DATA and request.container:
        raise NotForDataTracks("a data track can be pulled as frames only", field="container")
    if kind == _VIDEO and request.container not in (0, _MATROSKA):
        raise InvalidOptions("this container takes sound only", field="container")
    if kind != _VIDEO and request.frames.width:
        raise InvalidOptions("width and height are those of pictures, and the track has none", field="frames.width")
    if kind != _AUDIO and request.frames.channels:
        raise InvalidOptions("channels are those of sound, and the track has none", field="frames.channels")
    if kind != _VIDEO and request.audio_track_sid:
        raise InvalidOptions("audio_track_sid goes with a video track", field="audio_track_sid")


def refuse_without_key(request: PullMediaRequest, track: track_pb2.Track) -> None:
    """Raises EncryptionKeyNeeded where the track cannot be read with what was given."""
    if encrypted(track) and not request.encryption_key:
        raise EncryptionKeyNeeded("the track is end-to-end encrypted: pulling it needs its key", field="encryption_key")


def desired(
    request: PullMediaRequest, track: track_pb2.Track, sound: track_pb2.Track | None, first: PullDesired | None = None
) -> PullDesired:
    """What a session is told. ``sound``: the track that goes with a video. ``first``: what it was told first, whose
    form stays."""
    result = PullDesired(
        track_sid=track.sid,
        type=track.type,
        audio_track_sid=sound.sid if sound is not None else "",
        encrypted=encrypted(track),
        encryption_key=request.encryption_key,
    )
    if first is not None:
        result.channels, result.width, result.height = first.channels, first.width, first.height
    else:
        heard = sound if sound is not None else track
        result.channels = request.frames.channels or (2 if heard.stereo and request.container else 1)
        result.width, result.height = track.width & ~1, track.height & ~1
    if track.type == _VIDEO and request.HasField("settings"):
        layer = layer_of(request, track)
        if layer is None:
            # Another track of the publication, which does not have it.
            result.track_sid = ""
        else:
            result.quality = message_quality(layer.quality)
            if first is None:
                result.width, result.height = (layer.width or 0) & ~1, (layer.height or 0) & ~1
    if request.container:
        result.container = request.container
    else:
        result.frames.CopyFrom(request.frames)
    if request.HasField("max_duration"):
        result.max_duration_us = max(1, round(seconds_of(request.max_duration) * 1e6))
    return result
