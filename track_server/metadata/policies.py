"""Set-, Get-, Delete- and ListMetadataSchemas."""

from track.v1.event_pb2 import EventCause, PolicyChanged, PolicyKind, RoomEvent
from track.v1.metadata_pb2 import (
    DeleteMetadataSchemaRequest,
    DeleteMetadataSchemaResponse,
    GetMetadataSchemaRequest,
    GetMetadataSchemaResponse,
    ListMetadataSchemasRequest,
    ListMetadataSchemasResponse,
    MetadataSchema,
    SetMetadataSchemaRequest,
    SetMetadataSchemaResponse,
)
from track_server.errors import InvalidField
from track_server.metadata.schemas import Schemas
from track_server.rooms.rooms import Rooms


class SchemaPolicies:
    """Answers them, and tells the rooms of changes. Who may was decided before: they are about the room as such."""

    def __init__(self, schemas: Schemas, rooms: Rooms) -> None:
        self._schemas = schemas
        self._rooms = rooms

    async def set(self, request: SetMetadataSchemaRequest, cause: EventCause) -> SetMetadataSchemaResponse:
        """Raises InvalidField, InvalidSchema, InvalidExpression, EtagMismatch, LimitExceeded, StoreUnavailable."""
        asked = request.schema
        if asked.room not in ("", request.room):
            raise InvalidField("the schema is of another room than the request", field="schema.room")
        asked.room = request.room
        schema = await self._schemas.set(asked, request.etag, validate_only=request.validate_only)
        if not request.validate_only:
            self._tell(schema, cause, removed=False)
        return SetMetadataSchemaResponse(schema=schema)

    def get(self, request: GetMetadataSchemaRequest) -> GetMetadataSchemaResponse:
        """Raises SchemaNotFound."""
        return GetMetadataSchemaResponse(schema=self._schemas.get(request.room, request.name))

    async def delete(self, request: DeleteMetadataSchemaRequest, cause: EventCause) -> DeleteMetadataSchemaResponse:
        """Raises SchemaNotFound, EtagMismatch, StoreUnavailable."""
        validate_only = request.validate_only
        schema = await self._schemas.delete(request.room, request.name, request.etag, validate_only=validate_only)
        if not validate_only:
            self._tell(schema, cause, removed=True)
        return DeleteMetadataSchemaResponse(schema=schema)

    def list_page(self, request: ListMetadataSchemasRequest) -> ListMetadataSchemasResponse:
        """Raises InvalidPageToken."""
        return self._schemas.page(request)

    def _tell(self, schema: MetadataSchema, cause: EventCause, *, removed: bool) -> None:
        change = PolicyChanged(
            kind=PolicyKind.POLICY_KIND_METADATA_SCHEMA,
            name=schema.name,
            all_rooms=schema.room == "",
            removed=removed,
        )
        for room in [schema.room] if schema.room else self._rooms.watched():
            self._rooms.announce(room, RoomEvent(policy_changed=change, cause=cause))
