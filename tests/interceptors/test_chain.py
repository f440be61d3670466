"""What may be served at all, and in which shapes."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from tests.chained_server import SERVICE, Harness, drained, failure, serving, until
from track.media.v1 import media_service_pb2, media_service_pb2_grpc
from track.v1 import access_pb2, tracks_pb2
from track_server.interceptors.chain import ChainedServer
from track_server.interceptors.method import OPEN_SERVICES, ContractError, declared
from track_server.servicer.health import Health

MEDIA = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"]


MUTATING = (
    *("Publish", "Unpublish", "Mute", "Unmute", "Update", "Restart", "Set", "Clear"),
    *("Delete", "Create", "Start", "Stop", "Lift", "RequestUnmute"),
)


@pytest.mark.parametrize("rpc", [*SERVICE.methods, *MEDIA.methods], ids=lambda rpc: rpc.full_name)
def test_every_rpc_of_ours_declares_a_permission_and_mutations_take_a_request_id(rpc: Any) -> None:
    method = declared(rpc, lambda raw: raw, lambda message: message)
    assert method.ours
    assert method.permission != access_pb2.PERMISSION_UNSPECIFIED
    changes = rpc.name.startswith(MUTATING) and rpc.name != "CreateTrackToken"
    assert method.mutation == changes
    assert method.mutation == ("request_id" in rpc.input_type.fields_by_name)
    assert method.mutation == ("validate_only" in rpc.input_type.fields_by_name)


def test_health_and_reflection_are_the_only_services_that_need_no_permission() -> None:
    assert {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    } == OPEN_SERVICES


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


@pytest.mark.parametrize(
    ("name", "shape", "rule", "why"),
    [
        ("Bare", {"request": "Roomy"}, None, "declares no permission"),
        ("Empty", {"request": "Roomy"}, access_pb2.AccessRule(), "declares no permission"),
        ("Nowhere", {}, TRACKS, "no field `room`"),
        ("Upload", {"request": "Named", "client": True}, CHANGE, "mutation that streams"),
        ("Anew", {"request": "Roomy"}, CHANGE, "no field `request_id`"),
        ("Flow", {"request": "Named", "server": True}, CHANGE, "mutation that streams"),
    ],
)
async def test_a_server_whose_contract_has_a_gap_does_not_start_and_names_the_rpc(
    tmp_path: Path, name: str, shape: dict[str, Any], rule: access_pb2.AccessRule | None, why: str
) -> None:
    made = service((name, shape, rule))

    def register(server: ChainedServer) -> None:
        server.add_generic_rpc_handlers((handlers(made, {name: _unused}),))

    with pytest.raises(ContractError, match=why) as refused:
        async with serving(tmp_path, register=register):
            pass
    assert f"/{made.full_name}/{name}" in str(refused.value)


async def test_a_service_of_somebody_elses_without_permissions_does_not_start(tmp_path: Path) -> None:
    made = service(("Do", {}, None), package="elsewhere")

    def register(server: ChainedServer) -> None:
        server.add_generic_rpc_handlers((handlers(made, {"Do": _unused}),))

    with pytest.raises(ContractError, match="declares no permission"):
        async with serving(tmp_path, register=register):
            pass


async def test_an_rpc_that_nobody_serves_and_handlers_of_any_name_do_not_start(tmp_path: Path) -> None:
    made = service(("Served", {}, SERVER), ("Missing", {}, SERVER))

    class Anything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
            return None

    for generic, why in (
        (handlers(made, {"Served": _unused}), "Missing is in the contract, but nothing serves it"),
        (Anything(), "any method name"),
        (grpc.method_handlers_generic_handler("no.such.Service", {}), "no descriptor"),
    ):

        def register(server: ChainedServer, generic: grpc.GenericRpcHandler = generic) -> None:
            server.add_generic_rpc_handlers((generic,))

        with pytest.raises(ContractError, match=why):
            async with serving(tmp_path, register=register):
                pass


async def _unused(request: Any, context: Any) -> None:
    raise AssertionError("never called")


def test_the_chain_is_in_the_order_that_its_reasons_give(harness: Harness) -> None:
    assert [name for name, _ in harness.chain.concerns] == [
        "log",
        "metrics",
        "errors",
        "drain",
        "server limits",
        "denials",
        "authentication",
        "principal limits",
        "messages",
        "authorisation",
        "room limits",
        "idempotency",
        "operations",
        "streams",
    ]


@pytest.mark.parametrize(
    "path", ["/track.v1.TrackService/NoSuchMethod", "/no.Service/ListTracks", "track.v1.TrackService/ListTracks"]
)
async def test_an_unknown_method_is_unimplemented(harness: Harness, path: str) -> None:
    harness.on("ListTracks", _unused)
    call: Any = harness.channel.unary_unary(path)
    assert (await failure(call(b""))).code() == grpc.StatusCode.UNIMPLEMENTED


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


async def test_an_rpc_that_the_servicer_lacks_is_unimplemented(tmp_path: Path) -> None:
    def register(server: ChainedServer) -> None:
        add = media_service_pb2_grpc.add_MediaServiceServicer_to_server
        add(media_service_pb2_grpc.MediaServiceServicer(), server)  # type: ignore[abstract]  # as generated

    async with serving(tmp_path, register=register) as running:
        stub: Any = media_service_pb2_grpc.MediaServiceStub(running.channel)
        missing = await failure(drained(stub.Attach(iter([]))))
        assert missing.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "/track.media.v1.MediaService/Attach" in (missing.details() or "")


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
