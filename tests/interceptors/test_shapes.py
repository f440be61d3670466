"""Handlers of every shape and style, and those of health and reflection, pass the chain."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from tests.chained_server import Harness, drained, failure, serving, until
from tests.interceptors.services import SERVER, handlers, service
from track.v1 import tracks_pb2
from track_server.interceptors.chain import ChainedServer
from track_server.servicer.health import Health


class Shapes:
    """Every way to write a handler of every shape. Each answers `value` doubled, once a request."""

    def __init__(self, made: ServiceDescriptor) -> None:
        self.plain = message_factory.GetMessageClass(made.methods[0].output_type)

    def reply(self, request: Any) -> Any:
        return self.plain(value=request.value * 2)

    async def unary_coroutine(self, request: Any, context: Any) -> Any:
        return self.reply(request)

    def unary_sync(self, request: Any, context: Any) -> Any:
        return self.reply(request)

    async def unary_bytes(self, request: Any, context: Any) -> bytes:
        serialized: bytes = self.reply(request).SerializeToString()
        return serialized

    async def server_generator(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield self.reply(request)
        yield self.reply(request)

    async def server_write(self, request: Any, context: Any) -> None:
        await context.write(self.reply(request))
        await context.write(self.reply(request).SerializeToString())

    def server_sync(self, request: Any, context: Any) -> Iterator[Any]:
        yield self.reply(request)
        yield self.reply(request)

    async def client_iterator(self, requests: AsyncIterator[Any], context: Any) -> Any:
        return self.plain(value="".join([self.reply(request).value async for request in requests]))

    async def client_read(self, requests: AsyncIterator[Any], context: Any) -> Any:
        values = []
        while (request := await context.read()) is not aio.EOF:
            values.append(self.reply(request).value)
        return self.plain(value="".join(values))

    def client_sync(self, requests: Iterator[Any], context: Any) -> Any:
        return self.plain(value="".join([self.reply(request).value for request in requests]))

    async def both_generator(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield self.reply(request)

    async def both_read_write(self, requests: AsyncIterator[Any], context: Any) -> None:
        while (request := await context.read()) is not aio.EOF:
            await context.write(self.reply(request))

    def both_sync(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            yield self.reply(request)


async def test_handlers_of_every_shape_and_style_pass_the_chain(tmp_path: Path) -> None:
    names = [name for name in vars(Shapes) if name.startswith(("unary_", "server_", "client_", "both_"))]
    made = service(
        *(
            (
                name,
                {"client": name.startswith(("client", "both")), "server": name.startswith(("server", "both"))},
                SERVER,
            )
            for name in names
        )
    )
    shapes = Shapes(made)

    def register(server: ChainedServer) -> None:
        server.add_generic_rpc_handlers((handlers(made, {name: getattr(shapes, name) for name in names}),))

    async with serving(tmp_path, register=register) as running:
        for name in names:
            path = f"/{made.full_name}/{name}"
            channel: Any = running.channel
            kinds = {
                "request_serializer": shapes.plain.SerializeToString,
                "response_deserializer": shapes.plain.FromString,
            }
            requests = [shapes.plain(value="a"), shapes.plain(value="b")]
            async with asyncio.timeout(45):
                if name.startswith("unary"):
                    assert (await channel.unary_unary(path, **kinds)(requests[0])).value == "aa", name
                elif name.startswith("server"):
                    answers = await drained(channel.unary_stream(path, **kinds)(requests[0]))
                    assert [answer.value for answer in answers] == ["aa", "aa"], name
                elif name.startswith("client"):
                    assert (await channel.stream_unary(path, **kinds)(iter(requests))).value == "aabb", name
                else:
                    answers = await drained(channel.stream_stream(path, **kinds)(iter(requests)))
                    assert [answer.value for answer in answers] == ["aa", "bb"], name
        lines = {line["method"].rpartition("/")[2]: line for line in running.lines()}
    assert set(lines) == set(names)
    assert {line["code"] for line in lines.values()} == {"OK"}
    for name, line in lines.items():
        expected = (2 if name.startswith(("server", "both")) else 0, 2 if name.startswith(("client", "both")) else 0)
        assert (line.get("sent", 0), line.get("received", 0)) == expected, name


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
async def test_reflection_passes_the_chain_without_a_token(tmp_path: Path, kind: str) -> None:
    def register(server: ChainedServer) -> None:
        names = ["track.v1.TrackService", reflection.SERVICE_NAME]
        if kind == "asynchronous":
            reflection.enable_server_reflection(names, server)
        else:
            servicer = reflection.ReflectionServicer(names)
            add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
            add(servicer, server)

    async with serving(tmp_path, register=register) as running:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)  # type: ignore[arg-type]  # stubs of the sync one
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = await drained(stub.ServerReflectionInfo(iter([request, request])))
        assert len(answers) == 2
        assert "track.v1.TrackService" in {entry.name for entry in answers[1].list_services_response.service}


async def test_health_passes_the_chain_without_a_token_and_keeps_its_own_status(tmp_path: Path) -> None:
    servicer = Health()

    def register(server: ChainedServer) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async with serving(tmp_path, register=register) as running:
        stub: Any = health_pb2_grpc.HealthStub(running.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=""))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        unknown = await failure(stub.Check(health_pb2.HealthCheckRequest(service="nothing")))
        assert unknown.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="track.v1.TrackService"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        await servicer.set("track.v1.TrackService", health_pb2.HealthCheckResponse.SERVING)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        await until(lambda: len(running.lines()) == 3)
        assert [line["code"] for line in running.lines()] == ["OK", "NOT_FOUND", "CANCELLED"]
        assert {line["level"] for line in running.lines()} == {"debug"}


async def test_health_and_reflection_are_not_logged_above_debug(tmp_path: Path) -> None:
    def register(server: ChainedServer) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(Health(), server)

    async with serving(tmp_path, register=register, level="info") as running:
        running.on("ListTracks", _tracks)
        stub: Any = health_pb2_grpc.HealthStub(running.channel)
        await stub.Check(health_pb2.HealthCheckRequest(service=""))
        await running.stub.ListTracks(tracks_pb2.ListTracksRequest(room="room"))
        assert [line["method"] for line in running.lines()] == ["/track.v1.TrackService/ListTracks"]


async def _tracks(request: Any, context: Any) -> Any:
    return tracks_pb2.ListTracksResponse(next_page_token=request.room)


async def test_bytes_that_a_handler_returns_or_streams_go_out_as_they_are(harness: Harness) -> None:
    ready = tracks_pb2.ListTracksResponse(next_page_token="ready").SerializeToString()

    async def prepared(request: Any, context: Any) -> bytes:
        return ready

    harness.on("ListTracks", prepared)
    answer = await harness.stub.ListTracks(tracks_pb2.ListTracksRequest(room="room"))
    assert answer.next_page_token == "ready"
