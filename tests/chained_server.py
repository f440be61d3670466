"""A real grpc.aio server with the whole chain, and a servicer whose methods the test writes."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jwt
import orjson
import pytest
from grpc import aio
from prometheus_client import CollectorRegistry

from track.v1 import track_service_pb2, track_service_pb2_grpc
from track_server.access.access import Open
from track_server.access.grants import GrantAccess
from track_server.access.tokens import Authenticator, Unguarded
from track_server.config.limits import LimitSettings
from track_server.interceptors.chain import Chain, ChainedServer
from track_server.interceptors.drain import DrainSwitch
from track_server.interceptors.streams import OpenStreams
from track_server.limits.connection import connection_options
from track_server.logs import EventWriter
from track_server.store.records import Store
from track_server.store.sqlite import SqliteStore

API_KEY = "APIkey"
API_SECRET = "secret-of-the-tests-with-more-than-32-bytes"

SERVICE = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"]


def token(identity: str = "alice", **video: object) -> str:
    """A LiveKit access token with the grants given."""
    claims = {"iss": API_KEY, "sub": identity, "exp": int(time.time()) + 600, "video": video}
    return jwt.encode(claims, API_SECRET, algorithm="HS256")


def bearer(identity: str = "alice", **video: object) -> tuple[tuple[str, str], ...]:
    """Metadata with such a token."""
    return (("authorization", f"Bearer {token(identity, **video)}"),)


@dataclass
class Harness:
    """A running server. `on(name, behavior)` makes a method of TrackService do what the test wants."""

    chain: Chain
    draining: DrainSwitch
    registry: CollectorRegistry
    store: Store
    log: io.BytesIO
    port: int = 0
    channel: aio.Channel = field(init=False)
    stub: Any = field(init=False)
    behaviors: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def on(self, name: str, behavior: Callable[..., Any]) -> None:
        self.behaviors[name] = behavior

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the call log so far."""
        self.chain._log.flush()
        return [orjson.loads(line) for line in self.log.getvalue().splitlines()]

    async def logged(self, count: int) -> list[dict[str, Any]]:
        """The lines once there are as many: a call that fails is logged after its caller has the status."""
        await until(lambda: len(self.lines()) >= count)
        return self.lines()


class Register(Protocol):
    """Adds servicers to the server before it starts."""

    def __call__(self, server: ChainedServer) -> None: ...


def _servicer(behaviors: dict[str, Callable[..., Any]]) -> Any:
    """A TrackServiceServicer whose methods look their behavior up at every call."""

    def unary(name: str) -> Callable[..., Any]:
        async def method(self: object, request: Any, context: Any) -> Any:
            return await behaviors[name](request, context)

        return method

    def stream(name: str) -> Callable[..., Any]:
        async def method(self: object, request: Any, context: Any) -> AsyncIterator[Any]:
            async with aclosing(behaviors[name](request, context)) as messages:
                async for message in messages:
                    yield message

        return method

    methods = {rpc.name: stream(rpc.name) if rpc.server_streaming else unary(rpc.name) for rpc in SERVICE.methods}
    return type("Scripted", (track_service_pb2_grpc.TrackServiceServicer,), methods)()


async def nobody_there(room: str, identity: str) -> None:
    """No caller is a participant of its room."""


@asynccontextmanager
async def serving(
    directory: Path,
    *,
    authenticator: Authenticator | None = None,
    register: Register | None = None,
    level: str = "debug",
    store: Store | None = None,
    limits: Mapping[str, int] | None = None,
) -> AsyncIterator[Harness]:
    """A server of the whole chain on port 0, with TrackService and whatever ``register`` adds."""
    settings = LimitSettings(**(limits or {}))
    async with AsyncExitStack() as stack:
        if store is None:
            store = await stack.enter_async_context(SqliteStore(directory / "store.sqlite3"))
        log, registry, draining = io.BytesIO(), CollectorRegistry(), DrainSwitch(OpenStreams(None))
        chain = await stack.enter_async_context(
            Chain(
                authenticator=authenticator or Unguarded(),
                access=Open() if authenticator is None else GrantAccess(nobody_there),
                limits=settings,
                store=store,
                registry=registry,
                draining=draining,
                events=EventWriter(level, log),
            )
        )
        harness = Harness(chain, draining, registry, store, log)
        server = ChainedServer(aio.server(options=connection_options(settings)), chain)
        track_service_pb2_grpc.add_TrackServiceServicer_to_server(_servicer(harness.behaviors), server)
        if register is not None:
            register(server)
        harness.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        harness.channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{harness.port}"))
        harness.stub = track_service_pb2_grpc.TrackServiceStub(harness.channel)
        yield harness


async def failure(call: Awaitable[Any]) -> aio.AioRpcError:
    """The error with which the call fails."""
    with pytest.raises(aio.AioRpcError) as failed:
        async with asyncio.timeout(45):
            await call
    return failed.value


async def drained(call: Any) -> list[Any]:
    """All messages of a stream."""
    async with asyncio.timeout(45):
        return [message async for message in call]


async def until(condition: Callable[[], Any]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(45):
        while not condition():
            await asyncio.sleep(0.005)


def metadata_of(error: aio.AioRpcError, name: str) -> Any:
    """One value of the trailing metadata, None where it is missing."""
    return next((value for key, value in error.trailing_metadata() or () if key == name), None)
