"""Metadata of tracks that is not taken: what is no JSON, too large, too much, too often, against a schema, not the
caller's."""

import asyncio
import math
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.publications import TONE, publish
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from tests.tracks_metadata import (
    announced_microphone,
    get_metadata,
    patching,
    replacing,
    set_metadata,
    shown,
    struct,
    until_attributes,
)
from track.v1 import metadata_pb2 as pb
from track.v1 import publication_pb2

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def nested(depth: int) -> dict[str, Any]:
    """``depth`` objects within one another."""
    value: dict[str, Any] = {"a": 1}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def number(value: float) -> struct_pb2.Struct:
    """An object with that number in a list."""
    made = struct_pb2.Struct()
    made.fields["a"].list_value.values.add().number_value = value
    return made


async def test_every_limit_is_named_with_what_is_used_and_allowed(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)
        for value, limit, allowed, used in (
            (nested(17), "max_metadata_depth", 16, 17),
            ({f"k{n}": n for n in range(513)}, "max_metadata_keys", 512, 513),
            ({"é" * 129: 1}, "max_metadata_key_bytes", 256, 258),
            ({"a": "x" * 16377}, "max_metadata_bytes", 16384, 16385),
        ):
            for request in (replacing(room, mic.sid, value), patching(room, mic.sid, value)):
                refused = await refusal(admin.SetTrackMetadata(request))
                assert (refused.code, refused.quota) == (EXHAUSTED, (limit, allowed, "track"))
                assert refused.metadata["used"] == str(used)
                assert str(used) in refused.message
                assert refused.fields == (request.WhichOneof("change"),)
        # Together as well: what a patch adds to what is there.
        await set_metadata(admin, room, mic.sid, {"a": "x" * 10_000})
        refused = await refusal(admin.SetTrackMetadata(patching(room, mic.sid, {"b": "x" * 10_000})))
        assert refused.quota == ("max_metadata_bytes", 16384, "track")
        assert list(await shown(admin, room)) == [mic.sid]


@pytest.mark.parametrize(
    "value",
    [
        struct({"lk.x": 1}),
        struct({"track.metadata.TR_a": 1}),
        number(math.nan),
        number(math.inf),
        struct({"a\0": 1}),
        struct({"a": {"b": "\0"}}),
        struct_pb2.Struct(fields={"a": struct_pb2.Value()}),
    ],
    ids=["lk", "track", "nan", "inf", "nul in a key", "nul in a value", "no value"],
)
async def test_what_cannot_be_shown_to_everybody_is_refused(
    admin: Client, livekit: LiveKitProcess, room: str, value: struct_pb2.Struct
) -> None:
    spec = publication_pb2.PublicationSpec(tone=publication_pb2.ToneInput(), metadata=value)
    refused = await refusal(admin.PublishTrack(publication_pb2.PublishTrackRequest(room=room, spec=spec)))
    assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_FIELD", ("spec.metadata",))
    async with participant(livekit, room, "alice") as alice:
        request = pb.SetTrackMetadataRequest(
            room=room, track_sid=(await announced_microphone(alice)).sid, replace=value
        )
        refused = await refusal(admin.SetTrackMetadata(request))
        assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_FIELD", ("replace",))


async def test_what_is_deeper_than_protobuf_reads_is_refused_with_the_reason(track: TrackProcess, room: str) -> None:
    def field(number: int, content: bytes) -> bytes:
        length = len(content)
        assert length < 1 << 14
        return bytes([number << 3 | 2, length & 0x7F | 0x80, length >> 7]) + content

    struct_value = b""
    for _ in range(60):
        struct_value = field(1, field(1, b"a") + field(2, field(5, struct_value)))
    request = field(1, room.encode()) + field(2, b"TR_a") + field(4, struct_value)
    token = track.token("admin", room_admin=True, room=room)
    async with grpc.aio.insecure_channel(track.address) as channel:
        call: Any = channel.unary_unary("/track.v1.TrackService/SetTrackMetadata")
        refused = await refusal(call(request, metadata=[("authorization", f"Bearer {token}")], timeout=20))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_FIELD")
    assert "nested too deep" in refused.message


async def test_a_patch_with_a_value_that_is_not_set_is_refused(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    unset = struct_pb2.Struct(fields={"b": struct_pb2.Value()})
    listed = struct_pb2.ListValue(values=[struct_pb2.Value(struct_value=unset)])
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)
        before = await set_metadata(admin, room, mic.sid, {"b": 1})
        for patch in (unset, struct_pb2.Struct(fields={"a": struct_pb2.Value(list_value=listed)})):
            request = pb.SetTrackMetadataRequest(room=room, track_sid=mic.sid, merge_patch=patch)
            refused = await refusal(admin.SetTrackMetadata(request))
            assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_FIELD", ("merge_patch",))
        assert (await get_metadata(admin, room, mic.sid)).etag == before.etag


async def test_all_attributes_of_a_participant_count_the_application_s_own_too(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice", can_update_own_metadata=True) as alice:
        first = await announced_microphone(alice)
        second = await announced_microphone(alice, "other")
        await alice.local_participant.set_attributes({"app": "x" * 40_000})
        await until_attributes(livekit, room, "alice", lambda found: "app" in found)
        await set_metadata(admin, room, first.sid, {"a": "x" * 16_000})
        refused = await refusal(admin.SetTrackMetadata(replacing(room, second.sid, {"a": "x" * 16_000})))
        assert refused.quota == ("max_participant_attributes_bytes", 65_536, f"participant alice of room {room}")
        assert int(refused.metadata["used"]) > 72_000
        assert "application's own" in refused.message
        await set_metadata(admin, room, first.sid, {})
        await set_metadata(admin, room, second.sid, {"a": "x" * 16_000})


async def test_publications_of_one_participant_count_together(admin: Client, room: str) -> None:
    spec = publication_pb2.PublicationSpec(data=publication_pb2.DataInput(), metadata=struct({"a": "x" * 16_000}))
    for _ in range(4):
        await publish(admin, room, spec, "studio")
    request = publication_pb2.PublishTrackRequest(room=room, spec=spec, participant_identity="studio")
    for request.validate_only in (True, False):
        refused = await refusal(admin.PublishTrack(request, timeout=20))
        assert refused.quota == ("max_participant_attributes_bytes", 65_536, f"participant studio of room {room}")
        assert refused.fields == ("spec.metadata",)


async def test_too_often_is_refused_with_advice_and_when_to_try_again(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    settings = {
        "TRACK_MAX_METADATA_CHANGES_PER_SECOND_PER_PARTICIPANT": "3",
        "TRACK_MAX_METADATA_CHANGE_BYTES_PER_SECOND_PER_PARTICIPANT": "2000",
        "TRACK_MEDIA_WORKERS": "0",
    }
    server = await start_track(livekit, settings)
    async with (
        server.client("admin", room_admin=True, room=room) as admin,
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
    ):
        mic, large = await announced_microphone(alice), await announced_microphone(bob)
        calls = (admin.SetTrackMetadata(replacing(room, mic.sid, {"n": n})) for n in range(30))
        failed = [error for error in await asyncio.gather(*map(outcome, calls)) if error is not None]
        assert failed
        refused = await refusal(failing(failed[-1]))
        limit = "max_metadata_changes_per_second_per_participant"
        assert (refused.code, refused.quota) == (EXHAUSTED, (limit, 3, f"participant alice of room {room}"))
        assert refused.retry_s is not None
        assert 0 < refused.retry_s <= 1
        assert "several changes into one" in refused.message
        # Who waits as told gets through.
        await asyncio.sleep(refused.retry_s)
        await set_metadata(admin, room, mic.sid, {"n": "last"})
        calls = (admin.SetTrackMetadata(replacing(room, large.sid, {"n": str(n) * 9_000})) for n in range(9))
        failed = [error for error in await asyncio.gather(*map(outcome, calls)) if error is not None]
        limits = {(await refusal(failing(error))).quota for error in failed}
        limit = "max_metadata_change_bytes_per_second_per_participant"
        assert (limit, 2000, f"participant bob of room {room}") in limits


async def test_who_may_not_is_told_nothing_but_that(
    track: Any, livekit: LiveKitProcess, admin: Client, room: str
) -> None:
    tone = await publish(admin, room, TONE, "studio")
    async with track.client("carol", room_join=True, can_publish=False, room=room) as caller:
        for known in (tone.track_sid, tone.publication_id, "TR_missing", "PUB_missing"):
            refused = await refusal(caller.SetTrackMetadata(replacing(room, known, {})))
            assert refused.code is grpc.StatusCode.PERMISSION_DENIED


async def outcome(call: Any) -> grpc.aio.AioRpcError | None:
    """How it failed; None where it did not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def failing(error: grpc.aio.AioRpcError) -> None:
    """Fails so."""
    raise error
