"""Every request of the contract: decoded, validated, refused, recorded."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.message import Message

from fuzz.target import Finding, Target, choice, chosen
from tests.refusals import INTERNAL
from tests.servicer.contract import METHODS, request_of
from track.v1 import access_pb2, audit_pb2
from track_server.audit.entry import Operation, entry_of
from track_server.errors import TrackError
from track_server.interceptors.errors import status_of
from track_server.interceptors.method import Method, declared
from track_server.interceptors.streams import OpenStreams
from track_server.interceptors.validation import Messages

# gRPC's limit on the metadata of an answer, less what else is in it.
_MAX_STATUS_BYTES: Final = 4096

Read = Callable[[Any, Any], Awaitable[Any]]


def _reading(method: Method) -> Read:
    """What the chain does with the bytes of a request."""

    async def inner(request: Any, call: Any) -> bytes:
        return b""

    read = Messages(OpenStreams(None)).wrap(method, inner)
    if not method.request_streaming:
        return read

    async def read_stream(raw: bytes, call: Any) -> Any:
        async def messages() -> AsyncIterator[bytes]:
            yield raw

        return await read(messages(), call)

    return read_stream


def _check(method: Method, read: Read, raw: bytes) -> None:
    call = SimpleNamespace(context=SimpleNamespace(write=None), request=None, room="", received=0)
    failure = None
    try:
        if method.request_streaming:
            # The first message of a stream is waited for.
            asyncio.run(_wait_for(read(raw, call)))
        else:
            _finish(read(raw, call))
    except TrackError as error:
        failure = error.problem()
        status = status_of(error)
        if len(status.SerializeToString()) > _MAX_STATUS_BYTES or not status.message:
            raise Finding("the status does not fit into the metadata of an answer") from error
        if INTERNAL.search(status.message):
            raise Finding(f"the message tells of what is inside: {status.message!r}") from error
    if call.request is not None:
        _check_record(method, call.request, failure)


async def _wait_for(reading: Awaitable[Any]) -> None:
    await reading


def _finish(reading: Awaitable[Any]) -> None:
    """Runs what waits for nothing, without a loop."""
    steps = reading.__await__()
    try:
        next(steps)
    except StopIteration:
        return
    raise Finding("reading a request waits for something")


def _check_record(method: Method, request: Message, failure: Any) -> None:
    entry = entry_of(
        Operation(
            method=method.path,
            permission=method.permission,
            request_id="id",
            principal=access_pb2.Principal(identity="alice"),
            peer="ipv4:127.0.0.1:1",
            room="room",
            begin_time=1.8e9,
            duration_s=0.1,
            request=request,
            response=None,
            failure=failure,
        )
    )
    page = audit_pb2.ListAuditEntriesResponse(entries=[entry])
    # What cannot be read again would spoil the record.
    audit_pb2.ListAuditEntriesResponse.FromString(page.SerializeToString())
    json.dumps({name: len(str(value)) for name, value in entry.request.fields.items()}).encode()


def target() -> Target:
    """See the module."""
    methods = [
        declared(rpc, message_factory.GetMessageClass(rpc.input_type).FromString, lambda _: b"")
        for rpc in METHODS.values()
    ]
    reads = [_reading(method) for method in methods]

    def run(data: bytes) -> None:
        place, raw = choice(data, len(methods))
        _check(methods[place], reads[place], raw)

    return Target(run, _seeds, [b"TR_a", b"PUB_a", b"true"])


def _seeds() -> Iterator[bytes]:
    for place, rpc in enumerate(METHODS):
        for fields in ({}, {"track_sid": "TR_a"}, {"publication_id": "PUB_a"}, {"participant_identity": "bob"}):
            yield chosen(place, request_of(rpc, room="room", **fields).SerializeToString())
        request = request_of(rpc, room="room")
        if "spec" in METHODS[rpc].input_type.fields_by_name:
            inner = request.spec.metadata
            for _ in range(30):
                inner = inner.fields["a"].struct_value
            inner.fields["a"].number_value = 1
            yield chosen(place, request.SerializeToString())
