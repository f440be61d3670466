"""What a change of a publication's spec means for its media. Pure; server and media worker decide by it alike."""

import hashlib

from track.v1.publication_pb2 import (
    DATA_DELIVERY_LOSSY_MESSAGES,
    DATA_DELIVERY_RELIABLE_MESSAGES,
    PublicationSpec,
)


def same_media(before: PublicationSpec, after: PublicationSpec) -> bool:
    """Whether nothing that is sent differs."""
    return _sent(before) == _sent(after)


def digest(spec: PublicationSpec) -> bytes:
    """The same for specs of which nothing that is sent differs; 16 bytes."""
    return hashlib.blake2b(_sent(spec).SerializeToString(deterministic=True), digest_size=16).digest()


def in_place(before: PublicationSpec, after: PublicationSpec) -> bool:
    """Whether the track that is there can go on: what feeds it can change, or the pace of it.

    LiveKit's SDK has no call that changes how a published track is encoded (rtc 1.2.1). A test pattern may be fed more
    slowly than its encoder allows, never faster.
    """
    first, second = _sent(before), _sent(after)
    if first.HasField("test_pattern") and second.video.frames_per_second < first.video.frames_per_second:
        second.video.frames_per_second = first.video.frames_per_second
    return _without_live(first) == _without_live(second)


def same_feed(before: PublicationSpec, after: PublicationSpec) -> bool:
    """Whether one source can feed the tracks of both: it has the same pictures or sound, however they are encoded."""
    return _feed(before) == _feed(after)


def _sent(spec: PublicationSpec) -> PublicationSpec:
    """What has an effect on what is sent."""
    result = PublicationSpec()
    result.CopyFrom(spec)
    result.ClearField("metadata")
    result.ClearField("fallback")
    return result


def _without_live(spec: PublicationSpec) -> PublicationSpec:
    """Without what a feeder takes over while it feeds. It is called with a copy."""
    match spec.WhichOneof("input"):
        case "tone":
            spec.tone.Clear()
        case "data":
            spec.data.Clear()
        case "file":
            spec.file.ClearField("loop")
            _without_processing(spec)
        case "push":
            for name in ("stall_mute", "stall_end", "resume_grace"):
                spec.push.ClearField(name)
            _without_processing(spec)
        case _:
            pass
    # Of a data track LiveKit is told the name alone; of messages nothing before they are sent.
    if spec.data_options.delivery in (DATA_DELIVERY_RELIABLE_MESSAGES, DATA_DELIVERY_LOSSY_MESSAGES):
        spec.ClearField("name")
    spec.ClearField("data_options")
    return spec


def _without_processing(spec: PublicationSpec) -> None:
    for name in ("noise_suppression", "echo_cancellation", "auto_gain_control"):
        spec.audio.ClearField(name)


def _feed(spec: PublicationSpec) -> PublicationSpec:
    """What a source makes its pictures or sound of."""
    result = PublicationSpec()
    result.CopyFrom(spec)
    for name in ("name", "source", "video", "audio", "metadata", "fallback", "encryption"):
        result.ClearField(name)
    video, audio = spec.video, spec.audio
    result.video.width, result.video.height = video.width, video.height
    if spec.HasField("file"):
        # Pushed pictures come as often as they come, and a test pattern paints as many as are asked for.
        result.video.frames_per_second = video.frames_per_second
    if spec.push.HasField("encoded_video"):
        result.video.codec = video.codec
    result.audio.stereo = audio.stereo
    return _without_live(result)
