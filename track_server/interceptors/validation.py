"""Requests become messages here, and are held against the contract's `buf.validate` rules."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, Self

from google.protobuf.message import DecodeError
from protovalidate import Validator

from track_server.errors import InvalidField
from track_server.faults import fault_of, path_of
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import Method
from track_server.interceptors.streams import OpenStreams

# Named in the message; BadRequest has more of them.
_NAMED: Final = 3

# Requests known to be valid, per RPC, and the longest that is remembered.
_REMEMBERED: Final = 1024
_REMEMBERED_BYTES: Final = 512
# A stream whose caller has not said its room yet is not looked at when permissions change.
_FIRST_S: Final = 10.0


class InvalidRequest(InvalidField):
    """Fields of the request are out of their range. ``violations``: path and fault of each."""

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        named = "; ".join(f"{field}: {fault}" if field else fault for field, fault in violations[:_NAMED])
        more = f"; and {len(violations) - _NAMED} more" if len(violations) > _NAMED else ""
        super().__init__(f"{named}{more}", field=violations[0][0])
        self.violations = tuple(violations)


class Messages:
    """Decodes requests, validates those of ours, encodes responses.

    Here and not in gRPC, which would answer UNKNOWN with the text of the exception. A handler may return or write bytes
    instead of a message: they go out as they are. ``streams`` may end one that waits for its first message.
    """

    def __init__(self, streams: OpenStreams) -> None:
        self._streams = streams
        self._validator = Validator()

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        read = self._reader(method)
        encode = method.encode
        if method.ours:
            # Compiles the rules now: a contract with bad ones does not start.
            self._validator.collect_violations(method.decode(b""))

        async def unary(raw: bytes, call: Call) -> Any:
            request = call.request = read(raw)
            if method.has_room:
                call.room = request.room
            response = await inner(request, call)
            return response if type(response) is bytes else encode(response)

        def streaming_response(raw: bytes, call: Call) -> Awaitable[Any]:
            request = call.request = read(raw)
            if method.has_room:
                call.room = request.room
            if method.has_rooms:
                call.rooms = [position.room for position in request.rooms]
            call.write = _writer(call, encode)
            return inner(request, call)

        async def name_room(requests: _Received, call: Call) -> None:
            """Of a stream that needs a permission in a room, the first message names it."""
            if method.has_room:
                with self._streams.open(method):
                    call.room = (await requests.first()).room
                if not call.room:
                    raise InvalidField("the first message must name the room", field="room")

        async def streaming_request(raws: AsyncIterable[bytes], call: Call) -> Any:
            async with aclosing(_Received(raws, call, read)) as requests:
                await name_room(requests, call)
                response = await inner(requests, call)
            return response if type(response) is bytes else encode(response)

        async def streaming_both(raws: AsyncIterable[bytes], call: Call) -> Any:
            call.write = _writer(call, encode)
            async with aclosing(_Received(raws, call, read)) as requests:
                await name_room(requests, call)
                await inner(requests, call)

        if method.request_streaming:
            return streaming_both if method.response_streaming else streaming_request
        return streaming_response if method.response_streaming else unary

    def _reader(self, method: Method) -> Callable[[bytes], Any]:
        decode, validated, violations_of = method.decode, method.ours, self._validator.collect_violations

        # The rules look at the request alone, so the same bytes are valid again: callers that poll skip the validation.
        valid: set[bytes] = set()

        def read(raw: bytes) -> Any:
            try:
                request = decode(raw)
            except DecodeError as error:
                # protobuf's own limit: 100 messages within one another, about 33 objects of JSON.
                why = ": it is nested too deep" if "MaxDepth" in str(error) else ""
                raise InvalidField(f"the request of {method.path} cannot be decoded{why}") from error
            # Hashing a frame of some megabytes would take as long as copying it.
            if validated and (len(raw) > _REMEMBERED_BYTES or raw not in valid):
                if violations := violations_of(request):
                    raise InvalidRequest([(path_of(violation), fault_of(violation)) for violation in violations])
                if len(raw) <= _REMEMBERED_BYTES:
                    if len(valid) >= _REMEMBERED:
                        valid.clear()
                    valid.add(raw)
            return request

        return read


class _Received:
    """The requests of a stream, decoded one by one."""

    def __init__(self, raws: AsyncIterable[bytes], call: Call, read: Callable[[bytes], Any]) -> None:
        self._raws = raws
        self._call = call
        self._read = read
        self._messages: Any = None
        self._first: Any = None

    async def first(self) -> Any:
        """The first request, which the iteration yields too. Raises InvalidField where none comes."""
        try:
            async with asyncio.timeout(_FIRST_S):
                self._first = self._call.request = await anext(self)
        except TimeoutError:
            raise InvalidField(f"the first message must come within {_FIRST_S:g} s") from None
        except StopAsyncIteration:
            raise InvalidField("the stream ended before its first message") from None
        return self._first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._messages is None:
            self._messages = aiter(self._raws)
        raw = await anext(self._messages)
        self._call.received += 1
        return self._read(raw)

    async def aclose(self) -> None:
        """Close gRPC's generator, which complains when it is found unfinished."""
        if self._messages is not None and not self._messages.ag_running:
            await self._messages.aclose()


def _writer(call: Call, encode: Callable[[Any], bytes]) -> Callable[[Any], Awaitable[None]]:
    send = call.context.write

    # No coroutine of its own: a stream of small messages would pay a tenth for it.
    def write(message: Any) -> Awaitable[None]:
        call.sent += 1
        return send(message if type(message) is bytes else encode(message))

    return write
