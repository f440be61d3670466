"""What may be served at all, and in which order of concerns."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.chained_server import SERVICE, Harness, drained, failure, serving
from tests.interceptors.services import CHANGE, SERVER, TRACKS, handlers, service
from track.media.v1 import media_service_pb2, media_service_pb2_grpc
from track.v1 import access_pb2
from track_server.interceptors.chain import ChainedServer
from track_server.interceptors.method import OPEN_SERVICES, ContractError, declared

MEDIA = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"]
MUTATING = (
    *("Publish", "Unpublish", "Mute", "Unmute", "Update", "Restart", "Set", "Clear"),
    *("Delete", "Create", "Start", "Stop", "Lift", "RequestUnmute", "Apply"),
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


async def test_an_rpc_that_the_servicer_lacks_is_unimplemented(tmp_path: Path) -> None:
    def register(server: ChainedServer) -> None:
        add = media_service_pb2_grpc.add_MediaServiceServicer_to_server
        add(media_service_pb2_grpc.MediaServiceServicer(), server)  # type: ignore[abstract]  # as generated

    async with serving(tmp_path, register=register) as running:
        stub: Any = media_service_pb2_grpc.MediaServiceStub(running.channel)
        missing = await failure(drained(stub.Attach(iter([]))))
        assert missing.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "/track.media.v1.MediaService/Attach" in (missing.details() or "")
