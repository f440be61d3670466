"""Schemas that metadata of tracks must satisfy, and those that are not taken."""

import asyncio
import json
import time
from typing import Any, Final

import grpc
import pytest
from google.protobuf import field_mask_pb2

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.publications import TONE, publish
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import Client, TrackProcess
from tests.tracks_metadata import announced_microphone, patching, plain, replacing, set_metadata, shown, struct
from track.v1 import event_pb2, publication_pb2, publication_update_pb2, server_info_pb2
from track.v1 import metadata_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ROLES: Final = {
    "type": "object",
    "properties": {
        "role": {"enum": ["presenter", "guest"]},
        "seats": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "mail": {"type": "string", "pattern": "^[^@]+@[^@]+$"},
    },
    "required": ["role"],
    "additionalProperties": False,
}


def setting(room: str, name: str, schema: Any, **fields: Any) -> pb.SetMetadataSchemaRequest:
    """A request. ``schema``: as JSON, or its text."""
    text = schema if isinstance(schema, str) else json.dumps(schema)
    made = pb.MetadataSchema(name=name, json_schema=text, filter=fields.pop("filter", ""))
    return pb.SetMetadataSchemaRequest(room=room, schema=made, **fields)


async def test_metadata_must_satisfy_it_and_the_error_tells_where_it_does_not(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, events(admin, room) as stream:
        await stream.snapshot()
        mic = await announced_microphone(alice)
        await admin.SetMetadataSchema(setting(room, "roles", ROLES), timeout=30)
        told = await stream.until("policy_changed")
        assert (told.kind, told.name, told.all_rooms, told.removed) == (
            event_pb2.POLICY_KIND_METADATA_SCHEMA,
            "roles",
            False,
            False,
        )
        assert stream.seen[-1].event.cause.principal_identity == "admin"
        for value, path, keyword in (
            ({"role": "chair"}, "/role", "enum"),
            ({}, "", "required"),
            ({"role": "guest", "seats": [1, 2, 0]}, "/seats/2", "minimum"),
            ({"role": "guest", "seats": [1.5]}, "/seats/0", "type"),
            ({"role": "guest", "mail": "x"}, "/mail", "pattern"),
            ({"role": "guest", "a/b~c": 1}, "", "additionalProperties"),
        ):
            refused = await refusal(admin.SetTrackMetadata(replacing(room, mic.sid, value)))
            assert (refused.code, refused.reason) == (INVALID, "SCHEMA_VIOLATION")
            assert (refused.metadata["schema"], refused.metadata["path"]) == ("roles", path)
            assert (refused.metadata["keyword"], refused.fields) == (keyword, ("replace",))
        assert not await shown(admin, room)
        good = {"role": "guest", "seats": [1, 2], "mail": "a@b"}
        assert plain(await set_metadata(admin, room, mic.sid, good)) == good
        refused = await refusal(admin.SetTrackMetadata(patching(room, mic.sid, {"role": None})))
        assert (refused.reason, refused.fields) == ("SCHEMA_VIOLATION", ("merge_patch",))


async def test_it_holds_for_what_is_published_through_this_service(admin: Client, room: str) -> None:
    await admin.SetMetadataSchema(setting(room, "roles", ROLES), timeout=30)
    spec = publication_pb2.PublicationSpec(tone=publication_pb2.ToneInput(), metadata=struct({"role": "chair"}))
    request = publication_pb2.PublishTrackRequest(room=room, spec=spec)
    for request.validate_only in (True, False):
        refused = await refusal(admin.PublishTrack(request, timeout=20))
        assert (refused.reason, refused.fields) == ("SCHEMA_VIOLATION", ("spec.metadata",))
        assert refused.metadata["path"] == "/role"
    tone = await publish(admin, room, TONE, "studio")
    update = publication_update_pb2.UpdatePublicationRequest(
        room=room,
        publication_id=tone.publication_id,
        spec=spec,
        update_mask=field_mask_pb2.FieldMask(paths=["metadata"]),
    )
    refused = await refusal(admin.UpdatePublication(update, timeout=20))
    assert (refused.reason, refused.fields) == ("SCHEMA_VIOLATION", ("spec.metadata",))
    assert not await shown(admin, room)
    # What is there already is not looked at again until it changes.
    update.spec.metadata.CopyFrom(struct({"role": "guest"}))
    await admin.UpdatePublication(update, timeout=20)
    await admin.SetMetadataSchema(setting(room, "nothing", False), timeout=30)
    update.spec.name = "another"
    update.update_mask.paths[:] = ["name"]
    await admin.UpdatePublication(update, timeout=40)
    assert [value["role"] for value in (await shown(admin, room)).values()] == ["guest"]


async def test_it_is_for_the_tracks_that_its_filter_names(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        first, second = await announced_microphone(alice, "first"), await announced_microphone(alice, "second")
        await admin.SetMetadataSchema(setting(room, "never", False, filter='track.name == "first"'), timeout=30)
        refused = await refusal(admin.SetTrackMetadata(replacing(room, first.sid, {})))
        assert (refused.reason, refused.metadata["schema"]) == ("SCHEMA_VIOLATION", "never")
        await set_metadata(admin, room, second.sid, {})
        refused = await refusal(admin.SetMetadataSchema(setting(room, "x", True, filter="track.nme == 1")))
        assert (refused.reason, refused.fields) == ("INVALID_EXPRESSION", ("schema.filter",))


async def test_schemas_of_a_room_and_of_all_are_kept_apart_and_both_hold(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    server = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with (
        server.client("admin", room_admin=True, room=room) as admin,
        server.client("operator", room_create=True, room_list=True) as operator,
        participant(livekit, room, "alice") as alice,
    ):
        mic = await announced_microphone(alice)
        async with events(admin, room) as stream:
            await stream.snapshot()
            everywhere = (await operator.SetMetadataSchema(setting("", "small", {"maxProperties": 1}))).schema
            assert (await stream.until("policy_changed")).all_rooms
        await admin.SetMetadataSchema(setting(room, "roles", {"required": ["role"]}))
        await admin.SetMetadataSchema(setting(room, "a.first", True))
        refused = await refusal(admin.SetMetadataSchema(setting("", "small", True)))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
        for value, schema in (({"role": 1, "b": 2}, "small"), ({"b": 2}, "roles")):
            refused = await refusal(admin.SetTrackMetadata(replacing(room, mic.sid, value)))
            assert refused.metadata["schema"] == schema
        request = pb.ListMetadataSchemasRequest(room=room, page_size=2)
        page = await admin.ListMetadataSchemas(request)
        assert [(found.room, found.name) for found in page.schemas] == [("", "small"), (room, "a.first")]
        request.page_token = page.next_page_token
        page = await admin.ListMetadataSchemas(request)
        assert [(found.room, found.name) for found in page.schemas] == [(room, "roles")]
        listed = await operator.ListMetadataSchemas(pb.ListMetadataSchemasRequest())
        assert list(listed.schemas) == [everywhere]
        await server.kill()
        await server.start()
    async with (
        server.client("admin", room_admin=True, room=room) as admin,
        server.client("operator", room_create=True, room_list=True) as operator,
        participant(livekit, room, "alice") as alice,
    ):
        listed = await admin.ListMetadataSchemas(pb.ListMetadataSchemasRequest(room=room))
        assert [found.name for found in listed.schemas] == ["small", "a.first", "roles"]
        again = await operator.GetMetadataSchema(pb.GetMetadataSchemaRequest(name="small"))
        assert again.schema == everywhere
        mic = await announced_microphone(alice)
        refused = await refusal(admin.SetTrackMetadata(replacing(room, mic.sid, {"b": 2})))
        assert refused.metadata["schema"] == "roles"
        gone = await operator.DeleteMetadataSchema(pb.DeleteMetadataSchemaRequest(name="small"))
        assert gone.schema == everywhere
        refused = await refusal(operator.GetMetadataSchema(pb.GetMetadataSchemaRequest(name="small")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "SCHEMA_NOT_FOUND")
        refused = await refusal(operator.DeleteMetadataSchema(pb.DeleteMetadataSchemaRequest(name="small")))
        assert refused.reason == "SCHEMA_NOT_FOUND"
        await set_metadata(admin, room, mic.sid, {"role": 1, "b": 2})


async def test_etags_and_validate_only_hold_for_schemas_too(admin: Client, room: str) -> None:
    first = (await admin.SetMetadataSchema(setting(room, "s", True, etag="0"), timeout=30)).schema
    refused = await refusal(admin.SetMetadataSchema(setting(room, "s", False, etag="0")))
    assert (refused.code, refused.metadata["etag"]) == (grpc.StatusCode.ABORTED, first.etag)
    second = (await admin.SetMetadataSchema(setting(room, "s", False, etag=first.etag), timeout=30)).schema
    assert second.etag != first.etag
    delete = pb.DeleteMetadataSchemaRequest(room=room, name="s", etag=first.etag)
    assert (await refusal(admin.DeleteMetadataSchema(delete))).reason == "ETAG_MISMATCH"
    would = (await admin.SetMetadataSchema(setting(room, "s", True, validate_only=True))).schema
    assert would.json_schema == "true"
    await admin.DeleteMetadataSchema(pb.DeleteMetadataSchemaRequest(room=room, name="s", validate_only=True))
    kept = await admin.GetMetadataSchema(pb.GetMetadataSchemaRequest(room=room, name="s"))
    assert kept.schema == second
    await admin.DeleteMetadataSchema(pb.DeleteMetadataSchemaRequest(room=room, name="s", etag=second.etag))
    of_another = setting(room, "s", True)
    of_another.schema.room = "elsewhere"
    assert (await refusal(admin.SetMetadataSchema(of_another))).fields == ("schema.room",)


def doubling(keyword: str, levels: int) -> dict[str, Any]:
    """A schema that takes two steps for each one of the level above: 2 to the power of ``levels``."""
    definitions: dict[str, Any] = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(levels)
    }
    definitions[f"d{levels}"] = {"type": "string"} if keyword != "allOf" else True
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


BAD: Final[dict[str, tuple[Any, str]]] = {
    "no JSON": ("{", ""),
    "no schema": ([], ""),
    "a text": ('"x"', ""),
    "no type of that name": ({"properties": {"a": {"type": "stringg"}}}, "/properties/a/type"),
    "a keyword of another type": ({"required": "a"}, "/required"),
    "another dialect": ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
    "a remote reference": ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, "/properties/a/$ref"),
    "a file": ({"$ref": "file:///etc/passwd"}, "/$ref"),
    "a reference to nowhere": ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "/properties/a/$ref"),
    "a pattern that is none": ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern"),
    "a pattern with back-references": ({"pattern": "(a*)*\\1"}, "/pattern"),
    "a pattern that looks ahead": ({"patternProperties": {"(?=a)a": True}}, "/patternProperties/(?=a)a"),
    "a pattern that counts high": ({"pattern": "((a{1,100}){1,100}){1,100}"}, "/pattern"),
    "exponential time": (doubling("anyOf", 40), ""),
    "exponential time in oneOf": (doubling("oneOf", 40), ""),
    "exponential time in a property": (
        {"$defs": doubling("anyOf", 30)["$defs"], "properties": {"a": {"$ref": "#/$defs/d0"}}},
        "/properties/a",
    ),
    "too deep": ("[" * 2000 + "]" * 2000, ""),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_schema_that_cannot_be_checked_safely_is_refused(admin: Client, room: str, case: str) -> None:
    schema, path = BAD[case]
    refused = await refusal(admin.SetMetadataSchema(setting(room, "bad", schema), timeout=30))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_SCHEMA")
    assert (refused.metadata["path"], refused.fields) == (path, ("schema.json_schema",))
    assert not (await admin.ListMetadataSchemas(pb.ListMetadataSchemasRequest(room=room))).schemas


async def test_what_would_backtrack_for_ever_takes_linear_time(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    schema = {"properties": {"a": {"pattern": "^(a+)+$"}}, "patternProperties": {"^(b|b)*$": {"type": "integer"}}}
    await admin.SetMetadataSchema(setting(room, "patterns", schema), timeout=30)
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)
        value = {"a": "a" * 16_000 + "!"}
        refused = await refusal(admin.SetTrackMetadata(replacing(room, mic.sid, value), timeout=30))
        assert (refused.metadata["path"], refused.metadata["keyword"]) == ("/a", "pattern")
        await set_metadata(admin, room, mic.sid, {"a": "a" * 16_000})


async def test_a_schema_that_takes_long_on_what_it_is_given_holds_up_nobody(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    # It goes three ways at each level, and fails at the last.
    within = {"anyOf": [{"additionalProperties": {"$ref": "#/$defs/s"}, "minProperties": n + 1} for n in range(1)] * 9}
    schema = {"$defs": {"s": {"if": {"type": "object"}, "then": within, "else": False}}, "$ref": "#/$defs/s"}
    try:
        await admin.SetMetadataSchema(setting(room, "slow", schema), timeout=30)
    except grpc.aio.AioRpcError as error:
        pytest.fail(f"it is quick on little: {error.details()}")
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)
        value: dict[str, Any] = {"a": 1}
        for _ in range(14):
            value = {"a": value}
        slow = asyncio.ensure_future(refusal(admin.SetTrackMetadata(replacing(room, mic.sid, value), timeout=60)))
        answered = 0
        while not slow.done():
            begun = time.monotonic()
            await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())
            assert time.monotonic() - begun < 10
            answered += 1
        refused = await slow
        assert (refused.code, refused.reason) == (INVALID, "SCHEMA_VIOLATION")
        assert (refused.metadata["schema"], refused.metadata["path"]) == ("slow", "")
        assert "time" in refused.message
        assert answered > 1
        # What is checked after it is checked as before.
        other = await refusal(admin.SetTrackMetadata(replacing(room, mic.sid, {"a": 1}), timeout=30))
        assert other.metadata["path"] != "" or other.metadata["keyword"] != ""


async def test_there_are_so_many_schemas_and_no_more(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    settings = {
        "TRACK_MAX_METADATA_SCHEMAS_PER_ROOM": "2",
        "TRACK_MAX_METADATA_SCHEMAS": "3",
        "TRACK_MEDIA_WORKERS": "0",
    }
    server = await start_track(livekit, settings)
    async with server.client("admin", room_admin=True, room=room) as admin:
        for name in ("a", "b", "a"):
            await admin.SetMetadataSchema(setting(room, name, True), timeout=30)
        refused = await refusal(admin.SetMetadataSchema(setting(room, "c", True), timeout=30))
        assert refused.quota == ("max_metadata_schemas_per_room", 2, f"room {room}")
    async with server.client("admin", room_admin=True, room="another") as admin:
        await admin.SetMetadataSchema(setting("another", "a", True), timeout=30)
        refused = await refusal(admin.SetMetadataSchema(setting("another", "b", True), timeout=30))
        assert refused.quota == ("max_metadata_schemas", 3, "server")
