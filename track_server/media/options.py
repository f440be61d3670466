"""From a PublicationSpec to the SDK's publish options. Defaults were filled in by the server."""

from collections.abc import Mapping
from typing import Any, Final

from livekit import rtc

from track.v1.publication_pb2 import DegradationPreference, PublicationSpec, VideoCodec, VideoOptions
from track.v1.track_pb2 import TrackSource, TrackType

_CODECS: Final = {
    VideoCodec.VIDEO_CODEC_UNSPECIFIED: rtc.VideoCodec.VP8,
    VideoCodec.VIDEO_CODEC_VP8: rtc.VideoCodec.VP8,
    VideoCodec.VIDEO_CODEC_H264: rtc.VideoCodec.H264,
    VideoCodec.VIDEO_CODEC_VP9: rtc.VideoCodec.VP9,
    VideoCodec.VIDEO_CODEC_AV1: rtc.VideoCodec.AV1,
}
_SOURCES: Final = {
    TrackSource.TRACK_SOURCE_UNSPECIFIED: rtc.TrackSource.SOURCE_UNKNOWN,
    TrackSource.TRACK_SOURCE_CAMERA: rtc.TrackSource.SOURCE_CAMERA,
    TrackSource.TRACK_SOURCE_MICROPHONE: rtc.TrackSource.SOURCE_MICROPHONE,
    TrackSource.TRACK_SOURCE_SCREEN_SHARE: rtc.TrackSource.SOURCE_SCREENSHARE,
    TrackSource.TRACK_SOURCE_SCREEN_SHARE_AUDIO: rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO,
}
_PREFERENCES: Final[Mapping[int, Any]] = {
    DegradationPreference.DEGRADATION_PREFERENCE_UNSPECIFIED: rtc.DegradationPreference.MAINTAIN_RESOLUTION,
    DegradationPreference.DEGRADATION_PREFERENCE_BALANCED: rtc.DegradationPreference.BALANCED,
    DegradationPreference.DEGRADATION_PREFERENCE_MAINTAIN_FRAMERATE: (rtc.DegradationPreference.MAINTAIN_FRAMERATE),
    DegradationPreference.DEGRADATION_PREFERENCE_MAINTAIN_RESOLUTION: (rtc.DegradationPreference.MAINTAIN_RESOLUTION),
}

SIMULCAST_EDGE: Final = 960
"""From this long edge on, in pixels, the SDK's layers differ in size. Its lower layers are fixed (320x180 and 640x360,
or 240x180 and 480x360 for 4:3): a smaller video would be sent twice in its full size."""

_LOWER_BPS: Final = 160_000 + 450_000
"""Of the SDK's two lower layers."""


def track_type(spec: PublicationSpec) -> TrackType.ValueType:
    """What the spec's input carries."""
    match spec.WhichOneof("input"):
        case "data":
            return TrackType.TRACK_TYPE_DATA
        case "tone":
            return TrackType.TRACK_TYPE_AUDIO
        case "push" if spec.push.HasField("data"):
            return TrackType.TRACK_TYPE_DATA
        case "push" if spec.push.HasField("pcm"):
            return TrackType.TRACK_TYPE_AUDIO
        case "file" if spec.file.type == TrackType.TRACK_TYPE_AUDIO:
            return TrackType.TRACK_TYPE_AUDIO
        case _:
            return TrackType.TRACK_TYPE_VIDEO


def publish_options(spec: PublicationSpec, stream: str) -> rtc.TrackPublishOptions:
    """Options for a media track. `stream` names the media stream: receivers play its tracks in sync."""
    options = rtc.TrackPublishOptions(source=_SOURCES[spec.source], stream=stream)
    if track_type(spec) == TrackType.TRACK_TYPE_AUDIO:
        options.audio_encoding.max_bitrate = spec.audio.max_bitrate_bps
        options.dtx = spec.audio.dtx
        options.red = spec.audio.red
    else:
        options.video_codec = _CODECS[spec.video.codec]
        options.simulcast = simulcast(spec.video)
        # The SDK's own choice is to give up resolution: a picture of 480x270 began as one of 320x176 (rtc 1.2.1).
        options.degradation_preference = _PREFERENCES[spec.video.degradation_preference]
        if spec.push.HasField("encoded_video"):
            # Any other lets the SDK take the access units for pictures: nothing is decoded from what it sends.
            options.video_encoder = rtc.VideoEncoderBackend.ENCODER_BACKEND_PRE_ENCODED
            options.simulcast = False
        if spec.video.scalability_mode:
            options.scalability_mode = spec.video.scalability_mode
        # Without it the SDK falls back on presets: 15 frames per second for a small camera, 3 for a screen.
        options.video_encoding.max_bitrate = spec.video.max_bitrate_bps
        options.video_encoding.max_framerate = spec.video.frames_per_second
    return options


def most_bps(spec: PublicationSpec) -> int:
    """Bits per second that a media track may take at most, all its layers together."""
    if track_type(spec) == TrackType.TRACK_TYPE_AUDIO:
        return spec.audio.max_bitrate_bps
    return spec.video.max_bitrate_bps + (_LOWER_BPS if simulcast(spec.video) else 0)


def simulcast(video: VideoOptions) -> bool:
    """Whether the SDK is to send layers. Where they were asked for one by one, they are those that it has."""
    return video.simulcast and (bool(video.layers) or max(video.width, video.height) >= SIMULCAST_EDGE)


def may_publish(spec: PublicationSpec, participant: rtc.Participant) -> bool:
    """Whether the participant's permissions, as LiveKit last told them, allow the spec's track."""
    permission = participant.permissions
    if track_type(spec) == TrackType.TRACK_TYPE_DATA:
        return permission.can_publish_data
    sources = permission.can_publish_sources
    return permission.can_publish and (not sources or _SOURCES[spec.source] in sources)
