"""The RPCs of TrackService as the contract declares them, and for each a valid request, made from its descriptor."""

from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from protovalidate import Validator, Violation

from tests.publications import TONE
from tests.refusals import first
from tests.track_process import Client
from track.v1 import access_pb2, pull_pb2, subscription_pb2, subscription_permission_pb2, track_service_pb2

METHODS: Final[Mapping[str, MethodDescriptor]] = {
    method.name: method for method in track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods
}
RULES: Final[Mapping[str, access_pb2.AccessRule]] = {
    name: method.GetOptions().Extensions[access_pb2.access] for name, method in METHODS.items()
}
"""What each RPC declares of who may call it."""

VALUES: Final[Mapping[str, Any]] = {
    "room": "r",
    "track_sid": "TR_a",
    "publication_id": "PUB_a",
    "participant_identity": "a",
    "spec": TONE,
    "operation": access_pb2.TRACK_OPERATION_OBSERVE,
    "rule": subscription_permission_pb2.TrackSubscriptionRule(nobody=True),
    "name": "n",
    "block_ids": "BLK_a",
    "json_schema": '{"type": "object"}',
    "filter": "true",
    "filepath": "recordings/{track_id}-{time}",
    "url": "https://hooks.example.com/",
    "frames": pull_pb2.PullFrames(),
    "focus": subscription_pb2.Focus(screen_share_first=True),
}
"""By the name of a field: what stands in it where the rules ask for something."""

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "unpublish.target": ("publication_id", "track_sid"),
    "restart.target": ("publication_id", "track_sid"),
    "mute.tracks": ("tracks",),
    "watch_events.room": ("room",),
}
"""Rules of a whole message that ask for one of several fields: what is given, the first one where no values are."""

_REPAIRS: Final = 20
_CALLS: Final = 20

_validator: Final = Validator()


class NoRequest(AssertionError):
    """The contract's rules find no request valid that has the values."""


def request_of(rpc: str, **values: Any) -> Any:
    """A request of the RPC that the contract's rules find valid: all fields that ``values`` names, at any depth, and
    beyond them as little as the rules ask for.

    Of a oneof, what ``values`` names first. Raises NoRequest where the rules refuse one of them, or ask for something
    that cannot be guessed here: give VALUES the field.
    """
    return _made(METHODS[rpc].input_type, values)


def every_request(**fields: Any) -> dict[str, Any]:
    """A request of each RPC that speaks of a room, valid but for ``fields``."""
    requests = {
        name: request_of(name) for name, method in METHODS.items() if "room" in method.input_type.fields_by_name
    }
    for request in requests.values():
        for name, value in fields.items():
            setattr(request, name, value)
    return requests


def called(client: Client, rpc: str, request: Any) -> Any:
    """The call, to be awaited; of a stream its first message. ``request``: of a stream the one that it begins with."""
    method = METHODS[rpc]
    if method.client_streaming:
        return _pushed(getattr(client, rpc), request, answers=method.server_streaming)
    call = getattr(client, rpc)(request, timeout=45)
    return first(call) if method.server_streaming else call


async def _pushed(rpc: Any, request: Any, *, answers: bool) -> Any:
    """The answer to a call that streams requests; ``answers``: the first one of a stream.

    Where the server has refused before the request was written, grpc.aio's client now and then tells of its own failure
    to write in the place of the server's status: then it is asked again.
    """
    for _ in range(_CALLS):
        try:
            call = rpc([request], timeout=45)
            return await (first(call) if answers else call)
        except grpc.aio.AioRpcError as error:
            if error.details() != "Internal error from Core":
                raise
    raise AssertionError("the client never told the server's status")


def _made(descriptor: Descriptor, values: Mapping[str, Any]) -> Message:
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.name in values and not _oneof(field):
            _set(message, field, values[field.name])
    for _ in range(_REPAIRS):
        violations = _validator.collect_violations(message)
        if not violations:
            return message
        for violation in violations:
            _repair(message, violation, values)
    raise NoRequest(f"no valid {descriptor.full_name} is known here")


def _repair(message: Message, violation: Violation, values: Mapping[str, Any]) -> None:
    """Gives the message what the rule asks for, one level down at a time."""
    order = [*values, *VALUES]
    elements = violation.proto.field.elements if violation.proto.field is not None else []
    rule = violation.proto.rule_id
    name = elements[0].field_name if len(elements) == 1 else ""
    if rule in CHOICES:
        name = next((name for name in values if name in CHOICES[rule]), CHOICES[rule][0])
        for other in CHOICES[rule]:
            message.ClearField(other)
    descriptor: Any = message.DESCRIPTOR
    members = [field for field in descriptor.fields if name and name in (field.name, _oneof(field))]
    if not members:
        raise NoRequest(f"no valid {descriptor.full_name} is known here: {violation.proto}")
    field = min(members, key=lambda member: order.index(member.name) if member.name in order else len(order))
    value = _value(field.name, values)
    if field.is_repeated and field.message_type is not None:
        getattr(message, field.name).append(_made(field.message_type, values))
    elif field.is_repeated and value is not None:
        getattr(message, field.name).append(value)
    elif value is not None and _set(message, field, value):
        pass
    elif field.message_type is not None and not field.is_repeated and rule == "required":
        getattr(message, field.name).CopyFrom(_made(field.message_type, values))
    elif field.enum_type is not None and not field.is_repeated and rule == "enum.not_in":
        setattr(message, field.name, next(value.number for value in field.enum_type.values if value.number))
    elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and rule == "string.min_bytes":
        setattr(message, field.name, "a")
    else:
        raise NoRequest(f"what is a valid {field.full_name}? {violation.proto.message}: give VALUES one")


def _value(name: str, values: Mapping[str, Any]) -> Any:
    return values.get(name, VALUES.get(name))


def _set(message: Message, field: FieldDescriptor, value: Any) -> bool:
    if field.is_repeated or (field.message_type is not None) != isinstance(value, Message):
        return False
    if isinstance(value, Message):
        if value.DESCRIPTOR is not field.message_type:
            return False
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)
    return True


def _oneof(field: FieldDescriptor) -> str:
    """The oneof that the contract wrote, if any; an `optional` field has one of its own, which nobody sees."""
    oneof = field.containing_oneof
    return "" if oneof is None or oneof.name == f"_{field.name}" else oneof.name
