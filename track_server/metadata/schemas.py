"""Schemas of metadata: kept, listed, and what metadata is held against."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

import orjson
import structlog
from google.protobuf import struct_pb2, timestamp_pb2

from track.v1.metadata_pb2 import ListMetadataSchemasRequest, ListMetadataSchemasResponse, MetadataSchema
from track.v1.track_pb2 import Track
from track_server.cel import Predicate, compile_filter
from track_server.errors import (
    InvalidSchema,
    LimitExceeded,
    SchemaNotFound,
    SchemaViolation,
    StoreUnavailable,
)
from track_server.etags import compare, new_etag
from track_server.metadata.checking import Checking
from track_server.metadata.content import plain
from track_server.metadata.expansion import multiplied
from track_server.metadata.record import NONE
from track_server.paging import Position, page_of
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_KIND: Final = "metadata_schema"
_DEPTH: Final = 64
"""Objects and lists within one another in a schema."""
_FIELD: Final = "schema.json_schema"
_Path = tuple[str | int, ...]


class SchemaLimits(Protocol):
    """Settings of the limits: see LimitSettings."""

    max_metadata_schemas: int
    max_metadata_schemas_per_room: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """A schema. ``matches``: whether it is for a track, None: for all."""

    schema: MetadataSchema
    matches: Predicate | None


class Schemas:
    """Owner of the schemas. ``checking``: what holds metadata against them."""

    def __init__(self, store: Store, checking: Checking, limits: SchemaLimits) -> None:
        self._store = store
        self._checking = checking
        self._limits = limits
        self._rooms: dict[str, dict[str, _Kept]] = {}
        self._turn = asyncio.Lock()

    async def load(self) -> None:
        """Reads what an earlier run left."""
        for record in await self._store.list(_KIND):
            self._take(MetadataSchema.FromString(record.body))

    async def check(self, track: Track, metadata: struct_pb2.Struct, field: str) -> None:
        """Returns where the metadata satisfies all schemas that are for the track. Raises SchemaViolation."""
        for kept in [*self._rooms.get("", {}).values(), *self._rooms.get(track.room, {}).values()]:
            if kept.matches is None or kept.matches(track):
                await self._check_one(kept.schema, metadata, field)

    async def _check_one(self, schema: MetadataSchema, metadata: struct_pb2.Struct, field: str) -> None:
        answer = await self._checking.ask({"schema": schema.json_schema, "instance": plain(metadata)})
        if answer == {}:
            return
        if answer is None or "instance" not in answer:
            raise SchemaViolation(
                f"the metadata cannot be held against the schema {schema.name!r} in the time for it",
                field=field,
                metadata={"schema": schema.name, "path": "", "keyword": ""},
            )
        fault = answer["instance"]
        path = pointer(fault["path"])
        raise SchemaViolation(
            f"the metadata breaks {fault['keyword'] or 'false'!r} of the schema {schema.name!r} at {path!r}",
            field=field,
            metadata={"schema": schema.name, "path": path, "keyword": fault["keyword"]},
        )

    # The schemas themselves.

    async def set(self, asked: MetadataSchema, etag: str, *, validate_only: bool) -> MetadataSchema:
        """Keeps the schema in the place of the one of that room and name.

        Raises InvalidSchema, InvalidExpression, EtagMismatch, LimitExceeded, StoreUnavailable.
        """
        compile_filter(asked.filter, "track", "schema.filter")
        await self._refuse_invalid(asked.json_schema)
        async with self._turn:
            known = self._find(asked.room, asked.name)
            compare(_etag(known), etag, "schema", absent=NONE)
            if known is None:
                self._admit(asked.room)
            schema = MetadataSchema(
                room=asked.room, name=asked.name, json_schema=asked.json_schema, filter=asked.filter, etag=new_etag()
            )
            schema.update_time.CopyFrom(_now())
            if validate_only:
                schema.etag = _etag(known)
                return schema
            try:
                await self._store.put(_KIND, schema.room, schema.name, schema.SerializeToString())
            except StoreError as error:
                raise StoreUnavailable("the schema cannot be stored now") from error
            self._take(schema)
            return schema

    def get(self, room: str, name: str) -> MetadataSchema:
        """Raises SchemaNotFound."""
        known = self._find(room, name)
        if known is None:
            of = "of all rooms" if room == "" else "of the room"
            raise SchemaNotFound(f"no schema {name!r} {of}", field="name")
        return known

    async def delete(self, room: str, name: str, etag: str, *, validate_only: bool) -> MetadataSchema:
        """Raises SchemaNotFound, EtagMismatch, StoreUnavailable."""
        async with self._turn:
            known = self.get(room, name)
            compare(_etag(known), etag, "schema", absent=NONE)
            if not validate_only:
                try:
                    await self._store.delete(_KIND, room, name)
                except StoreError as error:
                    raise StoreUnavailable("the schema cannot be removed now") from error
                del self._rooms[room][name]
            return known

    def page(self, request: ListMetadataSchemasRequest) -> ListMetadataSchemasResponse:
        """Those for all rooms first, each group by name. Raises InvalidPageToken."""
        rooms = {"", request.room}
        schemas, token = page_of(
            [kept.schema for room in rooms for kept in self._rooms.get(room, {}).values()],
            _position,
            size=request.page_size,
            token=request.page_token,
            query=("metadata_schemas", request.room),
        )
        return ListMetadataSchemasResponse(schemas=schemas, next_page_token=token)

    def _find(self, room: str, name: str) -> MetadataSchema | None:
        kept = self._rooms.get(room, {}).get(name)
        return kept.schema if kept is not None else None

    def _take(self, schema: MetadataSchema) -> None:
        matches = compile_filter(schema.filter, "track", "schema.filter")
        self._rooms.setdefault(schema.room, {})[schema.name] = _Kept(schema, matches)

    def _admit(self, room: str) -> None:
        limits = self._limits
        everywhere = sum(len(kept) for kept in self._rooms.values()) + 1
        there = len(self._rooms.get(room, {})) + 1
        if there > limits.max_metadata_schemas_per_room:
            subject = f"room {room}" if room else "all rooms"
            most = limits.max_metadata_schemas_per_room
            raise LimitExceeded("max_metadata_schemas_per_room", most, subject, used=there)
        if everywhere > limits.max_metadata_schemas:
            raise LimitExceeded("max_metadata_schemas", limits.max_metadata_schemas, "server", used=everywhere)

    async def _refuse_invalid(self, text: str) -> None:
        """Raises InvalidSchema."""
        schema = _read(text)
        if (place := multiplied(places(schema))) is not None:
            raise _invalid(f"the references at {place!r} multiply: that takes exponential time", place)
        answer = await self._checking.ask({"schema": text})
        if answer is None:
            raise _invalid("the schema takes too long to be checked", "")
        if "schema" not in answer:
            return
        fault = answer["schema"]
        if fault["referencing"]:
            path, outside = _reference(schema)
            what = "refers to another document" if outside else "has a reference that leads nowhere"
            raise _invalid(f"the schema {what}", path)
        path = pointer(fault["path"])
        raise _invalid(f"the schema is not valid at {path!r}: {fault['message']}", path)


def _read(text: str) -> Any:
    """What the text says. Raises InvalidSchema."""
    try:
        schema = orjson.loads(text)
    except ValueError as error:
        raise _invalid("the schema is not JSON", "") from error
    if not isinstance(schema, (dict, bool)):
        raise _invalid("the schema must be an object, or true or false", "")
    for path, _ in _parts(schema):
        if len(path) > _DEPTH:
            raise _invalid(f"the schema is nested more than {_DEPTH} deep", pointer(path))
    dialect = schema.get("$schema", DIALECT) if isinstance(schema, dict) else DIALECT
    if dialect not in (DIALECT, f"{DIALECT}#"):
        raise _invalid(f"the schema must be of the dialect {DIALECT}", "/$schema")
    return schema


def _parts(value: Any) -> Iterator[tuple[_Path, Any]]:
    """All values within one another, each with its place; the outer ones first."""
    inside: list[tuple[_Path, Any]] = [((), value)]
    while inside:
        path, value = inside.pop()
        yield path, value
        if isinstance(value, dict):
            inside += [((*path, key), child) for key, child in value.items()]
        elif isinstance(value, list):
            inside += [((*path, index), child) for index, child in enumerate(value)]


def places(schema: Any) -> dict[str, Any]:
    """All values within one another by JSON Pointer."""
    return {pointer(path): value for path, value in _parts(schema)}


def _reference(schema: Any) -> tuple[str, bool]:
    """Where the schema refers to something that is not in it, as JSON Pointer, and whether that is another document."""
    there = places(schema).keys()
    nowhere = ""
    for path, value in _parts(schema):
        if path and path[-1] in ("$ref", "$dynamicRef") and isinstance(value, str):
            if not value.startswith("#"):
                return pointer(path), True
            if value[1:2] == "/" and unquote(value[1:]) not in there:
                nowhere = pointer(path)
    return nowhere, False


def pointer(path: Iterable[str | int]) -> str:
    """As JSON Pointer, RFC 6901. The root is empty."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _invalid(message: str, path: str) -> InvalidSchema:
    return InvalidSchema(message, field=_FIELD, metadata={"path": path})


def _etag(known: MetadataSchema | None) -> str:
    return known.etag if known is not None else NONE


def _position(schema: MetadataSchema) -> Position:
    return (schema.room != "", schema.name)


def _now() -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(time.time_ns())
    return stamp
