"""What servicers offer gRPC, in all its shapes, as one: a coroutine over the request and the call."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final

import grpc
from grpc import aio

from track_server.interceptors.context import REQUEST_ID, Call, Handler
from track_server.interceptors.method import Method

_END: Final = object()


def adapted(method: Method, behavior: Callable[..., Any]) -> Handler:
    """The servicer's method ``behavior``: a coroutine, an asynchronous generator, or an ordinary function or generator,
    which runs on a thread."""
    if not method.response_streaming:
        return _unary(method, behavior)
    inner = _stream(behavior)

    async def handle(request: Any, call: Call) -> None:
        # The caller learns at once that the stream was accepted, and under which id.
        await call.context.send_initial_metadata(((REQUEST_ID, call.request_id),))
        await inner(request, call)

    return handle


def behavior_of(handler: "grpc.RpcMethodHandler[Any, Any]") -> Callable[..., Any]:
    """The servicer's method behind a handler that generated code registers."""
    known = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    return next(behavior for behavior in known if behavior is not None)


def registered(method: Method, behavior: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
    """A handler of the RPC's shape. It takes and gives bytes: the chain decodes and encodes."""
    if method.request_streaming:
        make: Callable[..., Any] = (
            grpc.stream_stream_rpc_method_handler if method.response_streaming else grpc.stream_unary_rpc_method_handler
        )
    else:
        make = (
            grpc.unary_stream_rpc_method_handler if method.response_streaming else grpc.unary_unary_rpc_method_handler
        )
    handler: grpc.RpcMethodHandler[Any, Any] = make(behavior)
    return handler


def _unary(method: Method, behavior: Callable[..., Any]) -> Handler:
    def plain(request: Any, call: Call) -> Awaitable[Any]:
        answer: Awaitable[Any] = behavior(request, call.context)
        return answer

    async def reading(requests: AsyncIterator[Any], call: Call) -> Any:
        return await behavior(requests, _StreamContext(call, requests))

    async def threaded(request: Any, call: Call) -> Any:
        given = _blocking(request) if method.request_streaming else request
        return await asyncio.to_thread(behavior, given, call.context)

    if not inspect.iscoroutinefunction(behavior):
        return threaded
    return reading if method.request_streaming else plain


def _stream(behavior: Callable[..., Any]) -> Handler:
    async def generated(request: Any, call: Call) -> None:
        write = call.write
        # Closed at once when the caller goes while a message is being written.
        async with aclosing(behavior(request, _StreamContext(call, request))) as messages:
            async for message in messages:
                await write(message)

    async def written(request: Any, call: Call) -> None:
        await behavior(request, _StreamContext(call, request))

    async def threaded(request: Any, call: Call) -> None:
        given = _blocking(request) if call.method.request_streaming else request
        messages = await asyncio.to_thread(behavior, given, call.context)
        while (message := await asyncio.to_thread(next, messages, _END)) is not _END:
            await call.write(message)

    if inspect.isasyncgenfunction(behavior):
        return generated
    return written if inspect.iscoroutinefunction(behavior) else threaded


class _StreamContext:
    """The context of a stream, for servicers that read and write through it: messages pass the chain."""

    def __init__(self, call: Call, requests: Any) -> None:
        self._call = call
        self._requests = requests

    async def write(self, message: Any) -> None:
        await self._call.write(message)

    async def read(self) -> Any:
        return await anext(self._requests, aio.EOF)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call.context, name)


def _blocking(requests: AsyncIterator[Any]) -> Iterator[Any]:
    """The requests for a handler on a thread."""
    loop = asyncio.get_running_loop()

    async def following() -> Any:
        return await anext(requests, _END)

    def messages() -> Iterator[Any]:
        while (request := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not _END:
            yield request

    return messages()
