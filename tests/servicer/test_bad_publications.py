"""Publications that cannot be: each is refused with the field at fault, and leaves nothing behind."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import struct_pb2

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import participants, rooms
from tests.media.clips import write_clip, write_sound
from tests.publications import pattern, publish, unpublish
from tests.refusals import refusal
from tests.servicer.bad_options import BAD_OPTIONS, file, labelled
from tests.track_process import Client, TrackProcess
from tests.updates import update
from track.v1 import publication_pb2, track_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LONG = "x" * 257

Pub = publication_pb2
Spec = publication_pb2.PublicationSpec


def big_metadata() -> struct_pb2.Struct:
    """More than 16 KiB."""
    struct = struct_pb2.Struct()
    struct.update({"text": "x" * 17_000})
    return struct


def nested(depth: int) -> struct_pb2.Struct:
    """Metadata of so many objects within one another."""
    struct = struct_pb2.Struct()
    inner = struct
    for _ in range(depth - 1):
        inner = inner.fields["a"].struct_value
    inner.fields["a"].bool_value = True
    return struct


NOT_A_NUMBER = struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=float("nan"))})
NO_VALUE = struct_pb2.Struct(fields={"a": struct_pb2.Value()})
VIDEO = track_pb2.TRACK_TYPE_VIDEO
AUDIO = track_pb2.TRACK_TYPE_AUDIO
SPECS = [
    # name, spec, code, reason, field
    ("no input", Spec(), INVALID, "INVALID_FIELD", "spec.input"),
    ("tone too low", Spec(tone=Pub.ToneInput(frequency_hz=19)), INVALID, "INVALID_FIELD", "spec.tone.frequency_hz"),
    ("tone too loud", Spec(tone=Pub.ToneInput(level_dbfs=1)), INVALID, "INVALID_FIELD", "spec.tone.level_dbfs"),
    (
        "tone no number",
        Spec(tone=Pub.ToneInput(frequency_hz=float("nan"))),
        INVALID,
        "INVALID_FIELD",
        "spec.tone.frequency_hz",
    ),
    ("odd width", pattern(321, 180), INVALID, "INVALID_FIELD", "spec.video.width"),
    ("too small", pattern(8, 8), INVALID, "INVALID_FIELD", "spec.video.width"),
    ("too large", pattern(3842, 2160), INVALID, "INVALID_FIELD", "spec.video.width"),
    ("width alone", pattern(320, 0), INVALID, "INVALID_OPTIONS", "spec.video.height"),
    ("too many frames", pattern(fps=61), INVALID, "INVALID_FIELD", "spec.video.frames_per_second"),
    ("bitrate too low", pattern(max_bitrate_bps=1000), INVALID, "INVALID_FIELD", "spec.video.max_bitrate_bps"),
    ("bitrate negative", pattern(max_bitrate_bps=-1), INVALID, "INVALID_FIELD", "spec.video.max_bitrate_bps"),
    ("no such codec", pattern(codec=99), INVALID, "INVALID_FIELD", "spec.video.codec"),
    (
        "simulcast of vp9",
        pattern(codec=Pub.VIDEO_CODEC_VP9, simulcast=True),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.simulcast",
    ),
    (
        "simulcast of av1",
        pattern(codec=Pub.VIDEO_CODEC_AV1, simulcast=True),
        INVALID,
        "INVALID_OPTIONS",
        "spec.video.simulcast",
    ),
    ("video options of a tone", labelled(video=Pub.VideoOptions()), INVALID, "INVALID_OPTIONS", "spec.video"),
    (
        "audio options of a picture",
        Spec(test_pattern=Pub.TestPatternInput(), audio=Pub.AudioOptions()),
        INVALID,
        "INVALID_OPTIONS",
        "spec.audio",
    ),
    (
        "audio bitrate",
        labelled(audio=Pub.AudioOptions(max_bitrate_bps=1)),
        INVALID,
        "INVALID_FIELD",
        "spec.audio.max_bitrate_bps",
    ),
    ("a camera that sounds", labelled(source=track_pb2.TRACK_SOURCE_CAMERA), INVALID, "INVALID_OPTIONS", "spec.source"),
    ("no such source", labelled(source=77), INVALID, "INVALID_FIELD", "spec.source"),
    ("name too long", labelled(name=LONG), INVALID, "INVALID_FIELD", "spec.name"),
    ("metadata too large", labelled(metadata=big_metadata()), EXHAUSTED, "LIMIT_EXCEEDED", "spec.metadata"),
    ("metadata too deep", labelled(metadata=nested(17)), EXHAUSTED, "LIMIT_EXCEEDED", "spec.metadata"),
    ("metadata as deep as can be sent", labelled(metadata=nested(32)), EXHAUSTED, "LIMIT_EXCEEDED", "spec.metadata"),
    ("metadata no JSON number", labelled(metadata=NOT_A_NUMBER), INVALID, "INVALID_FIELD", "spec.metadata"),
    ("metadata without a value", labelled(metadata=NO_VALUE), INVALID, "INVALID_FIELD", "spec.metadata"),
    (
        "data too often",
        Spec(data=Pub.DataInput(frames_per_second=201)),
        INVALID,
        "INVALID_FIELD",
        "spec.data.frames_per_second",
    ),
    ("data too small", Spec(data=Pub.DataInput(frame_bytes=15)), INVALID, "INVALID_FIELD", "spec.data.frame_bytes"),
    (
        "payload and size",
        Spec(data=Pub.DataInput(frame_bytes=16, payload=b"x")),
        INVALID,
        "INVALID_OPTIONS",
        "spec.data.frame_bytes",
    ),
    (
        "payload too large",
        Spec(data=Pub.DataInput(payload=b"x" * 65_537)),
        INVALID,
        "INVALID_FIELD",
        "spec.data.payload",
    ),
    ("file not there", file("none.mp4"), NOT_FOUND, "MEDIA_NOT_FOUND", "spec.file.uri"),
    ("file not media", file("words.txt"), INVALID, "MEDIA_INVALID", "spec.file.uri"),
    ("media of another container", file("list.m3u8"), INVALID, "MEDIA_INVALID", "spec.file.uri"),
    ("no stream of the type", file("silent.mkv", type=AUDIO), INVALID, "MEDIA_INVALID", "spec.file.type"),
    ("a folder", file("."), NOT_FOUND, "MEDIA_NOT_FOUND", "spec.file.uri"),
    ("outside by dots", file("../track.log"), INVALID, "MEDIA_NOT_ALLOWED", "spec.file.uri"),
    ("outside absolutely", file("/etc/passwd"), INVALID, "MEDIA_NOT_ALLOWED", "spec.file.uri"),
    ("outside by a link", file("link.txt"), INVALID, "MEDIA_NOT_ALLOWED", "spec.file.uri"),
    ("scheme not allowed", file("ftp://example.com/a.mp4"), INVALID, "MEDIA_NOT_ALLOWED", "spec.file.uri"),
    ("file scheme", file("file:///etc/passwd"), INVALID, "MEDIA_NOT_ALLOWED", "spec.file.uri"),
    ("host not allowed", file("https://example.com/a.mp4"), INVALID, "MEDIA_NOT_ALLOWED", "spec.file.uri"),
    ("control characters", file("a\nb.mp4"), INVALID, "INVALID_FIELD", "spec.file.uri"),
    ("uri too long", file("x" * 2049), INVALID, "INVALID_FIELD", "spec.file.uri"),
    ("no uri", file(""), INVALID, "INVALID_FIELD", "spec.file.uri"),
    ("a file of data", file("silent.mkv", type=3), INVALID, "INVALID_FIELD", "spec.file.type"),
    *BAD_OPTIONS,
]


@pytest.fixture(scope="session")
def media(track: TrackProcess) -> Path:
    """The media folder, with files that are not to be played."""
    folder = track.directory / "media"
    write_clip(folder / "silent.mkv", 0.5, audio=False)
    (folder / "words.txt").write_text("This is no media.\n" * 20)
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n")
    (folder / "link.txt").symlink_to(track.directory / "track.log")
    return folder


@pytest.mark.parametrize(
    ("spec", "code", "reason", "field"), [case[1:] for case in SPECS], ids=[case[0] for case in SPECS]
)
async def test_a_publication_that_cannot_be_leaves_nothing_behind(
    admin: Client,
    livekit: LiveKitProcess,
    media: Path,
    room_name: str,
    spec: Spec,
    code: grpc.StatusCode,
    reason: str,
    field: str,
) -> None:
    request = Pub.PublishTrackRequest(room=room_name, create_room=True, spec=spec, participant_identity="host")
    refused = await refusal(admin.PublishTrack(request, timeout=45))
    assert (refused.code, refused.reason) == (code, reason), refused
    assert field in refused.fields
    assert str(media) not in refused.message
    assert await rooms(livekit, room_name) == []
    assert not (await admin.ListPublications(Pub.ListPublicationsRequest(room=room_name))).publications


async def test_what_only_the_media_worker_finds_out_names_its_field_alike(
    admin: Client, media: Path, room: str
) -> None:
    write_sound(media / "silence.wav", np.zeros(0))
    refused = await refusal(
        admin.PublishTrack(Pub.PublishTrackRequest(room=room, spec=file("silence.wav")), timeout=45)
    )
    assert (refused.code, refused.reason, refused.fields) == (INVALID, "MEDIA_INVALID", ("spec.file.uri",))


async def test_nobody_came_into_the_room_of_refused_commands(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    for spec in (Spec(), pattern(codec=Pub.VIDEO_CODEC_VP9, simulcast=True), file("none.mp4")):
        await refusal(admin.PublishTrack(Pub.PublishTrackRequest(room=room, spec=spec), timeout=45))
    assert await participants(livekit, room) == set()


async def test_a_participant_has_one_data_track_of_a_name(admin: Client, room: str) -> None:
    spec = Spec(data=Pub.DataInput(), name="cursors")
    known = await publish(admin, room, spec, "host")
    request = Pub.PublishTrackRequest(room=room, spec=spec, participant_identity="host")
    for request.validate_only in (False, True):
        refused = await refusal(admin.PublishTrack(request, timeout=45))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SOURCE_IN_USE"), refused
        assert refused.fields == ("spec.name",)
    listed = await admin.ListPublications(Pub.ListPublicationsRequest(room=room))
    assert [found.publication_id for found in listed.publications] == [known.publication_id]
    # A change of name is held against the same; messages, and others' tracks, may have it.
    other = await publish(admin, room, Spec(data=Pub.DataInput()), "host")
    renamed = await refusal(update(admin, other, spec, "name"))
    assert (renamed.reason, renamed.fields) == ("SOURCE_IN_USE", ("spec.name",))
    messages = Pub.DataOptions(delivery=Pub.DATA_DELIVERY_LOSSY_MESSAGES)
    await publish(admin, room, Spec(data=Pub.DataInput(), data_options=messages, name="cursors"), "host")
    await publish(admin, room, spec, "another")
    await update(admin, known, Spec(data=Pub.DataInput(frames_per_second=5)), "data.frames_per_second")
    await unpublish(admin, known)
    await publish(admin, room, spec, "host")
