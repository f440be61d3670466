"""What the contract declares of an RPC, read from its descriptor once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor

from track.v1 import access_pb2
from track.v1.access_pb2 import Permission
from track_server.access import rules

# The named exceptions to "no access rule, no call": they show nothing of any room.
OPEN_SERVICES: Final = frozenset(
    {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
)

_FOR_CALLERS: Final = "track.v1."


class ContractError(Exception):
    """The contract, or how it is served, is not fit to be served; the text names the RPC. Ends the start."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC."""

    path: str
    """`/package.Service/Method`."""
    service: str
    """`package.Service`."""
    name: str
    request_streaming: bool
    response_streaming: bool
    ours: bool
    """False for health and reflection: neither authenticated nor validated."""
    permission: "Permission.ValueType"
    mutation: bool
    recorded: bool
    """Whether it changes nothing, but each call is a row of the record all the same."""
    has_room: bool
    """Whether the request has a field `room`."""
    has_rooms: bool
    """Whether the request has a field `rooms` besides: several, each with its `room`."""
    decode: Callable[[bytes], Any]
    """Makes a request of its bytes."""
    encode: Callable[[Any], bytes]
    """Makes bytes of a response."""

    @property
    def for_callers(self) -> bool:
        """Whether it is of TrackService, the callers' own. Not probes, nor what media workers and permissions need."""
        return self.service.startswith(_FOR_CALLERS)

    @property
    def streams(self) -> bool:
        """Whether one of its sides streams."""
        return self.request_streaming or self.response_streaming

    @property
    def kind(self) -> str:
        """Prometheus' name for its shape: unary, client_stream, server_stream or bidi_stream."""
        if self.request_streaming:
            return "bidi_stream" if self.response_streaming else "client_stream"
        return "server_stream" if self.response_streaming else "unary"


def declared(descriptor: MethodDescriptor, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> Method:
    """The RPC as its descriptor declares it; raises ContractError where it may not be served."""
    service = descriptor.containing_service.full_name
    path = f"/{service}/{descriptor.name}"
    options = descriptor.GetOptions()
    rule = options.Extensions[access_pb2.access]
    ours = service not in OPEN_SERVICES
    fields = descriptor.input_type.fields_by_name
    if ours and rule.permission == Permission.PERMISSION_UNSPECIFIED:
        raise ContractError(f"{path} declares no permission: give it the option (track.v1.access).")
    if ours and "room" not in fields and rule.permission not in rules.ROOMLESS:
        raise ContractError(f"{path} needs a permission in a room, but its request has no field `room`.")
    if rule.mutation and (descriptor.client_streaming or descriptor.server_streaming):
        raise ContractError(f"{path} is a mutation that streams: its outcome cannot be kept.")
    if rule.recorded and (descriptor.client_streaming or descriptor.server_streaming):
        raise ContractError(f"{path} is recorded and streams: its outcome is not known before it is answered.")
    if rule.mutation and "request_id" not in fields:
        raise ContractError(f"{path} is a mutation, but its request has no field `request_id`.")
    if rule.mutation and "validate_only" not in fields:
        raise ContractError(f"{path} is a mutation, but its request has no field `validate_only`.")
    return Method(
        path=path,
        service=service,
        name=descriptor.name,
        request_streaming=descriptor.client_streaming,
        response_streaming=descriptor.server_streaming,
        ours=ours,
        permission=rule.permission,
        mutation=rule.mutation,
        recorded=rule.recorded,
        has_room="room" in fields,
        has_rooms="rooms" in fields,
        decode=decode,
        encode=encode,
    )
