"""What PushMedia refuses: with a clear error, and the publication unharmed."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.media.encoded import HEIGHT, WIDTH, encoded, picture
from tests.publications import DATA, publication, publish, unpublish
from tests.servicer import pushing as push
from tests.servicer.records import record
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import push_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

PICTURE = picture(0)
VP8 = encoded("vp8", 3)
H264 = encoded("h264", 3)


def avcc(annex_b: bytes) -> bytes:
    """The same NAL units, with lengths before them."""
    nal_units = annex_b.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")[1:]
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nal_units)


def spec_of(kind: str) -> pb.PublicationSpec:
    """What is published."""
    if kind == "h264":
        return push.push_spec("encoded_video", video=push.video_of(pb.VIDEO_CODEC_H264))
    if kind == "json":
        spec = push.push_spec("data")
        spec.data_options.payload_type = pb.PAYLOAD_TYPE_JSON
        spec.data_options.max_payload_bytes = 100
        return spec
    return push.push_spec("encoded_video" if kind == "vp8" else kind)


BAD: dict[str, tuple[str, list[push.Request], str, str]] = {
    "another format": ("raw_video", [push.unit(0, VP8[0], keyframe=True)], "encoded_video", "raw_video"),
    "a picture of another size": ("raw_video", [push.raw(0, PICTURE[:-2])], "raw_video.data", "has 86400 bytes"),
    "an empty picture": ("raw_video", [push.raw(0, b"")], "raw_video.data", "must not be empty"),
    "pictures back in time": (
        "raw_video",
        [push.raw(0, PICTURE, at=5000), push.raw(1, PICTURE, at=5000)],
        "raw_video.timestamp_us",
        "later than that of the frame before",
    ),
    "a time before the beginning": ("raw_video", [push.raw(0, PICTURE, at=-1)], "raw_video.timestamp_us", "0"),
    "a message without frame": ("raw_video", [push.Request()], "frame", "no frame"),
    "a room in a later message": ("raw_video", [push.Request(room="r")], "room", "first message alone"),
    "VP8 that begins without keyframe": (
        "vp8",
        [push.unit(0, VP8[1], keyframe=False)],
        "encoded_video.keyframe",
        "first",
    ),
    "VP8 that is no keyframe": ("vp8", [push.unit(0, VP8[1], keyframe=True)], "encoded_video.keyframe", "none"),
    "VP8 that is a keyframe after all": (
        "vp8",
        [push.unit(0, VP8[0], keyframe=True), push.unit(1, VP8[0], keyframe=False)],
        "encoded_video.keyframe",
        "is one",
    ),
    "H.264 for VP8": ("vp8", [push.unit(0, H264[0], keyframe=True)], "encoded_video.data", "no VP8 frame"),
    "VP8 for H.264": ("h264", [push.unit(0, VP8[0], keyframe=True)], "encoded_video.data", "Annex B"),
    "AVCC": ("h264", [push.unit(0, avcc(H264[0]), keyframe=True)], "encoded_video.data", "AVCC"),
    "H.264 that is no keyframe": ("h264", [push.unit(0, H264[1], keyframe=True)], "encoded_video.keyframe", "none"),
    "an empty access unit": ("h264", [push.unit(0, b"", keyframe=True)], "encoded_video.data", "must not be empty"),
    "an access unit too long": (
        "vp8",
        [push.unit(0, VP8[0] + bytes(2 * 1024 * 1024), keyframe=True)],
        "encoded_video.data",
        "2097152",
    ),
    "sound of half a sample": ("pcm", [push.Request(pcm=push_pb2.PcmFrame(data=bytes(1001)))], "pcm.data", "2 bytes"),
    "sound too long": ("pcm", [push.sound(0, 1.5, 48_000, 500)], "pcm.data", "1 ms to 1 s"),
    "sound that overlaps": (
        "pcm",
        [push.sound(0, 0.02, 48_000, 500), push.sound(0.01, 0.02, 48_000, 500)],
        "pcm.timestamp_us",
        "before the end of the sound before",
    ),
    "no JSON": ("json", [push.payload(b"{}"), push.payload(b"{")], "data.payload", "not JSON"),
    "a payload too long": ("json", [push.payload(b"1" * 101)], "data.payload", "100 bytes"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_frame_ends_the_stream_alone(admin: Client, room: str, case: str) -> None:
    kind, requests, field, words = BAD[case]
    known = await push.publish_push(admin, room, spec_of(kind))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        await pusher.send(*requests)
        refused = await pusher.refused()
    assert (refused.code, refused.reason) == (INVALID, "INVALID_FIELD")
    assert refused.fields == (field,)
    assert words in refused.message
    assert (await publication(admin, room, known.publication_id)).state != pb.PUBLICATION_STATE_ENDED
    async with push.taken_up(admin, known) as again:
        await again.ready()


@pytest.mark.parametrize(
    ("first", "field"),
    [
        (push.Request(publication_id="PUB_a"), "room"),
        (push.Request(room="{room}"), "publication_id"),
        (push.Request(room="{room}", publication_id="PUB_a", end=push_pb2.EndOfMedia()), "frame"),
        (push.END, "room"),
    ],
)
async def test_the_first_message_names_the_publication(
    admin: Client, room: str, first: push.Request, field: str
) -> None:
    message = push.Request()
    message.CopyFrom(first)
    message.room = first.room.format(room=room)
    async with push.opened(admin, message) as pusher:
        refused = await pusher.refused()
    assert (refused.code, refused.fields) == (INVALID, (field,))


async def test_a_stream_without_messages_is_refused(admin: Client, room: str) -> None:
    call: Any = admin.PushMedia(iter(()), timeout=30)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await anext(aiter(call))
    assert failed.value.code() is INVALID


async def test_what_cannot_be_pushed_into_is_told(admin: Client, room: str) -> None:
    other, over = await publish(admin, room, DATA), await push.publish_push(admin, room, push.push_spec("data"))
    await unpublish(admin, over)
    cases: list[tuple[str, grpc.StatusCode, str]] = [
        (other.publication_id, INVALID, "INVALID_FIELD"),
        (over.publication_id, PRECONDITION, "PUBLICATION_ENDED"),
        ("PUB_missing", grpc.StatusCode.NOT_FOUND, "PUBLICATION_NOT_FOUND"),
    ]
    for publication_id, code, reason in cases:
        async with push.opened(admin, push.Request(room=room, publication_id=publication_id)) as pusher:
            refused = await pusher.refused()
        assert (refused.code, refused.reason, refused.fields) == (code, reason, ("publication_id",))


async def test_one_stream_a_publication_at_a_time(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("data"))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        async with push.pushing(admin, known) as second:
            refused = await second.refused()
        assert (refused.code, refused.reason) == (PRECONDITION, "PUSH_IN_PROGRESS")
        await pusher.send(push.payload(b"a"))
        assert (await pusher.finish()).frames_taken == 1


async def test_anothers_publication_is_denied_and_not_told_apart_from_none(
    track: TrackProcess, admin: Client, room: str
) -> None:
    denials: list[Any] = []
    async with (
        track.client("alice", room_join=True, room=room) as alice,
        track.client("bob", room_join=True, room=room) as bob,
    ):
        known = await push.publish_push(alice, room, push.push_spec("data"))
        assert known.participant_identity == "alice"
        for publication_id in (known.publication_id, "PUB_missing"):
            async with push.opened(bob, push.Request(room=room, publication_id=publication_id)) as pusher:
                refused = await pusher.refused()
            assert refused.code is DENIED
            denials.append(refused)
        assert denials[0] == denials[1]
        written = [entry for entry in await record(admin, room) if entry.method.endswith("/PushMedia")]
        assert [entry.principal.identity for entry in written] == ["bob", "bob"]
        assert {entry.code for entry in written} == {DENIED.value[0]}
        for caller in (alice, admin):
            async with push.taken_up(caller, known) as pusher:
                await pusher.ready()


async def test_a_frame_beyond_the_limit_is_refused_when_it_is_published_or_pushed(
    start_track: Callable[..., Any], livekit: Any, room: str
) -> None:
    limited = await start_track(livekit, {"TRACK_MAX_FRAME_BYTES": "65536"})
    async with limited.client("admin", room_admin=True, room=room) as admin:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await push.publish_push(admin, room, push.push_spec("raw_video"))
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        known = await push.publish_push(admin, room, push.push_spec("encoded_video"))
        async with push.pushing(admin, known) as pusher:
            await pusher.ready()
            await pusher.send(push.unit(0, VP8[0] + bytes(65536), keyframe=True))
            refused = await pusher.refused()
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.quota == ("max_frame_bytes", 65536, "frame")
    assert refused.fields == ("encoded_video.data",)
    assert WIDTH * HEIGHT * 3 // 2 > 65536
