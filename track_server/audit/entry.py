"""The entry of one operation. Pure."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from google.protobuf.message import Message

from track.v1 import access_pb2
from track.v1.access_pb2 import Permission
from track.v1.audit_pb2 import AuditEntry
from track.v1.error_pb2 import Problem
from track_server.audit.redaction import redacted
from track_server.audit.targets import targets_of
from track_server.durations import duration_of
from track_server.texts import cleaned

_MAX_MESSAGE_CHARS: Final = 512


@dataclass(frozen=True, slots=True)
class Operation:
    """What is known of a call when it is over. ``peer``: the caller's address as gRPC has it."""

    method: str
    permission: "Permission.ValueType"
    request_id: str
    principal: access_pb2.Principal
    peer: str
    room: str
    begin_time: float
    """In seconds since 1970 UTC."""
    duration_s: float
    request: Message | None
    """None where the call was denied before it was read."""
    response: Message | None
    """None where the call failed."""
    failure: Problem | None
    """How it failed; None where it did not."""


def entry_of(operation: Operation) -> AuditEntry:
    """The entry, without its sequence number, and without what must not be kept (see `redaction`)."""
    request, failure = operation.request, operation.failure
    entry = AuditEntry(
        request_id=operation.request_id,
        principal=operation.principal,
        peer=address_of(operation.peer),
        method=operation.method,
        permission=operation.permission,
        room=operation.room,
        duration=duration_of(operation.duration_s),
    )
    entry.time.FromNanoseconds(round(operation.begin_time * 1e9))
    if request is not None:
        fields, entry.request_truncated = redacted(request)
        entry.request.update(fields)
        entry.targets.extend(targets_of(request, operation.response, failure))
        entry.validate_only = bool(getattr(request, "validate_only", False))
    if failure is not None:
        entry.code = failure.code
        entry.reason = failure.reason
        entry.message = cleaned(failure.message)[:_MAX_MESSAGE_CHARS]
    return entry


def address_of(peer: str) -> str:
    """Host and port of gRPC's name for a peer: `ipv4:1.2.3.4:5` is `1.2.3.4:5`, `ipv6:%5B::1%5D:5` is `[::1]:5`."""
    scheme, _, address = peer.partition(":")
    return unquote(address) if scheme in ("ipv4", "ipv6") else peer
