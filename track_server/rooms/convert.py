"""LiveKit's messages as the contract's: the one place where a ``track.v1.Track`` or ``Participant`` is built.

LiveKit's enums begin at 0 with a meaning, ours with UNSPECIFIED: each is converted by a table, never cast.
"""

from collections.abc import Mapping

from google.protobuf import timestamp_pb2
from livekit.protocol import models

from track.v1 import event_pb2, quality_pb2, track_pb2

TYPES: Mapping[int, track_pb2.TrackType.ValueType] = {
    models.TrackType.AUDIO: track_pb2.TRACK_TYPE_AUDIO,
    models.TrackType.VIDEO: track_pb2.TRACK_TYPE_VIDEO,
    models.TrackType.DATA: track_pb2.TRACK_TYPE_DATA,
}
SOURCES: Mapping[int, track_pb2.TrackSource.ValueType] = {
    models.TrackSource.CAMERA: track_pb2.TRACK_SOURCE_CAMERA,
    models.TrackSource.MICROPHONE: track_pb2.TRACK_SOURCE_MICROPHONE,
    models.TrackSource.SCREEN_SHARE: track_pb2.TRACK_SOURCE_SCREEN_SHARE,
    models.TrackSource.SCREEN_SHARE_AUDIO: track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO,
}
QUALITIES: Mapping[int, track_pb2.VideoQuality.ValueType] = {
    models.VideoQuality.LOW: track_pb2.VIDEO_QUALITY_LOW,
    models.VideoQuality.MEDIUM: track_pb2.VIDEO_QUALITY_MEDIUM,
    models.VideoQuality.HIGH: track_pb2.VIDEO_QUALITY_HIGH,
    models.VideoQuality.OFF: track_pb2.VIDEO_QUALITY_OFF,
}
ENCRYPTIONS: Mapping[int, track_pb2.Encryption.ValueType] = {
    models.Encryption.NONE: track_pb2.ENCRYPTION_NONE,
    models.Encryption.GCM: track_pb2.ENCRYPTION_GCM,
    models.Encryption.CUSTOM: track_pb2.ENCRYPTION_CUSTOM,
}
CONNECTION_QUALITIES: Mapping[int, quality_pb2.ConnectionQuality.ValueType] = {
    models.ConnectionQuality.POOR: quality_pb2.CONNECTION_QUALITY_POOR,
    models.ConnectionQuality.GOOD: quality_pb2.CONNECTION_QUALITY_GOOD,
    models.ConnectionQuality.EXCELLENT: quality_pb2.CONNECTION_QUALITY_EXCELLENT,
    models.ConnectionQuality.LOST: quality_pb2.CONNECTION_QUALITY_LOST,
}
KINDS: Mapping[int, track_pb2.ParticipantKind.ValueType] = {
    models.ParticipantInfo.STANDARD: track_pb2.PARTICIPANT_KIND_STANDARD,
    models.ParticipantInfo.INGRESS: track_pb2.PARTICIPANT_KIND_INGRESS,
    models.ParticipantInfo.EGRESS: track_pb2.PARTICIPANT_KIND_EGRESS,
    models.ParticipantInfo.SIP: track_pb2.PARTICIPANT_KIND_SIP,
    models.ParticipantInfo.AGENT: track_pb2.PARTICIPANT_KIND_AGENT,
    models.ParticipantInfo.CONNECTOR: track_pb2.PARTICIPANT_KIND_CONNECTOR,
    models.ParticipantInfo.BRIDGE: track_pb2.PARTICIPANT_KIND_BRIDGE,
}


def room_state(room: models.Room) -> event_pb2.RoomState:
    """The room itself."""
    return event_pb2.RoomState(sid=room.sid, metadata=room.metadata, active_recording=room.active_recording)


def participant(info: models.ParticipantInfo) -> track_pb2.Participant:
    """A participant, without its tracks."""
    result = track_pb2.Participant(
        sid=info.sid,
        identity=info.identity,
        name=info.name,
        kind=KINDS.get(info.kind, track_pb2.PARTICIPANT_KIND_UNSPECIFIED),
        metadata=info.metadata,
        attributes=info.attributes,
    )
    joined_ms = info.joined_at_ms or info.joined_at * 1000
    if joined_ms:
        result.join_time.CopyFrom(
            timestamp_pb2.Timestamp(seconds=joined_ms // 1000, nanos=joined_ms % 1000 * 1_000_000)
        )
    if info.HasField("permission"):
        allowed = info.permission
        result.permission.CopyFrom(
            track_pb2.ParticipantPermission(
                can_subscribe=allowed.can_subscribe,
                can_publish=allowed.can_publish,
                can_publish_data=allowed.can_publish_data,
                can_publish_sources=[
                    SOURCES.get(source, track_pb2.TRACK_SOURCE_UNSPECIFIED) for source in allowed.can_publish_sources
                ],
            )
        )
    return result


def disconnect_reason(info: models.ParticipantInfo) -> str:
    """Why the participant left, in LiveKit's words; empty where LiveKit did not tell."""
    reason = info.disconnect_reason
    known = reason in models.DisconnectReason.values() and reason != models.DisconnectReason.UNKNOWN_REASON
    return models.DisconnectReason.Name(reason) if known else ""


def infos(info: models.ParticipantInfo) -> dict[str, models.TrackInfo | models.DataTrackInfo]:
    """LiveKit's own messages of the participant's media and data tracks, by SID."""
    result: dict[str, models.TrackInfo | models.DataTrackInfo] = {found.sid: found for found in info.tracks}
    result.update({found.sid: found for found in info.data_tracks})
    return result


def tracks(room: str, info: models.ParticipantInfo) -> dict[str, track_pb2.Track]:
    """The participant's media and data tracks, by SID."""
    return {sid: track(room, info, found) for sid, found in infos(info).items()}


def track(room: str, info: models.ParticipantInfo, found: models.TrackInfo | models.DataTrackInfo) -> track_pb2.Track:
    """A track of ``info``."""
    return media_track(room, info, found) if isinstance(found, models.TrackInfo) else data_track(room, info, found)


def data_track(room: str, info: models.ParticipantInfo, data: models.DataTrackInfo) -> track_pb2.Track:
    """A data track of ``info``."""
    return track_pb2.Track(
        sid=data.sid,
        room=room,
        participant_identity=info.identity,
        participant_sid=info.sid,
        name=data.name,
        type=track_pb2.TRACK_TYPE_DATA,
        encryption=ENCRYPTIONS.get(data.encryption, track_pb2.ENCRYPTION_UNSPECIFIED),
    )


def media_track(room: str, info: models.ParticipantInfo, track: models.TrackInfo) -> track_pb2.Track:
    """An audio or video track of ``info``."""
    kind = TYPES.get(track.type, track_pb2.TRACK_TYPE_UNSPECIFIED)
    audio = kind == track_pb2.TRACK_TYPE_AUDIO
    mime = track.mime_type or next((codec.mime_type for codec in track.codecs if codec.mime_type), "")
    # By quality, not by size: rtc SDKs that were given no encoding declare the full size for every layer.
    layers = sorted(track.layers, key=lambda layer: layer.quality)
    return track_pb2.Track(
        sid=track.sid,
        room=room,
        participant_identity=info.identity,
        participant_sid=info.sid,
        name=track.name,
        type=kind,
        source=SOURCES.get(track.source, track_pb2.TRACK_SOURCE_UNSPECIFIED),
        muted=track.muted,
        mime_type=mime,
        width=track.width,
        height=track.height,
        simulcast=track.simulcast or len(layers) > 1,
        layers=[] if audio else [video_layer(layer) for layer in layers],
        stereo=audio and (track.stereo or models.AudioTrackFeature.TF_STEREO in track.audio_features),
        red=audio and mime.lower() == "audio/red",
        dtx=audio and not (track.disable_dtx or models.AudioTrackFeature.TF_NO_DTX in track.audio_features),
        encryption=ENCRYPTIONS.get(track.encryption, track_pb2.ENCRYPTION_UNSPECIFIED),
        stream=track.stream,
    )


def video_layer(layer: models.VideoLayer) -> track_pb2.VideoLayer:
    """A declared layer; a bitrate of 0 is one that was not declared."""
    return track_pb2.VideoLayer(
        quality=QUALITIES.get(layer.quality, track_pb2.VIDEO_QUALITY_UNSPECIFIED),
        width=layer.width,
        height=layer.height,
        bitrate_bps=layer.bitrate or None,
        rid=layer.rid,
    )
