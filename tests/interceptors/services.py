"""Services made for a test, and what would serve them."""

import itertools
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor

from track.v1 import access_pb2

_NUMBERS = itertools.count(1)


def service(
    *methods: tuple[str, dict[str, Any], access_pb2.AccessRule | None], package: str = "track.test"
) -> ServiceDescriptor:
    """A service made for the test, whose messages have `value` and, for some, `room` and `request_id`."""
    number = next(_NUMBERS)
    package = f"{package}.n{number}"
    file = descriptor_pb2.FileDescriptorProto(name=f"test/{number}.proto", package=package, syntax="proto3")
    file.dependency.append("track/v1/access.proto")
    for name, fields in (
        ("Plain", ["value"]),
        ("Roomy", ["value", "room"]),
        ("Named", ["value", "room", "request_id"]),
    ):
        message = file.message_type.add(name=name)
        for place, field in enumerate(fields, start=1):
            message.field.add(
                name=field,
                number=place,
                type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )
    made = file.service.add(name="Shapes")
    for name, shape, rule in methods:
        request = shape.get("request", "Plain")
        rpc = made.method.add(
            name=name,
            input_type=f".{package}.{request}",
            output_type=f".{package}.Plain",
            client_streaming=shape.get("client", False),
            server_streaming=shape.get("server", False),
        )
        if rule is not None:
            rpc.options.Extensions[access_pb2.access].CopyFrom(rule)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{package}.Shapes")


def handlers(made: ServiceDescriptor, behaviors: dict[str, Callable[..., Any]]) -> grpc.GenericRpcHandler:
    """What generated code would register."""
    table: dict[str, Any] = {}
    for rpc in made.methods:
        if rpc.name not in behaviors:
            continue
        kinds = {False: "unary", True: "stream"}
        shape = f"{kinds[rpc.client_streaming]}_{kinds[rpc.server_streaming]}"
        table[rpc.name] = getattr(grpc, f"{shape}_rpc_method_handler")(
            behaviors[rpc.name],
            request_deserializer=message_factory.GetMessageClass(rpc.input_type).FromString,
            response_serializer=message_factory.GetMessageClass(rpc.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(made.full_name, table)


SERVER = access_pb2.AccessRule(permission=access_pb2.PERMISSION_READ_SERVER)
TRACKS = access_pb2.AccessRule(permission=access_pb2.PERMISSION_READ_TRACKS)
CHANGE = access_pb2.AccessRule(permission=access_pb2.PERMISSION_MUTE, mutation=True)
