"""The chain that every call passes, in one order, put together once per RPC and kept."""

from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc import aio
from prometheus_client import CollectorRegistry

# Loads the service's descriptor: generated service code imports the messages' files alone, and this one has none.
from track.v1 import track_service_pb2 as _track_service_pb2  # noqa: F401
from track_server.access.access import Access
from track_server.access.tokens import Authenticator
from track_server.audit.recorder import Recorder
from track_server.audit.strangers import Strangers
from track_server.config.limits import LimitSettings
from track_server.interceptors.access import Authentication, Authorisation
from track_server.interceptors.audit import Denials, Operations, RecordMetrics
from track_server.interceptors.context import CallIds, Concern, entry
from track_server.interceptors.drain import DrainSwitch
from track_server.interceptors.errors import ErrorStatuses
from track_server.interceptors.handlers import adapted, behavior_of, registered
from track_server.interceptors.idempotency import Idempotency
from track_server.interceptors.limits import PrincipalLimits, RoomLimits, ServerLimits, StrangerLimits
from track_server.interceptors.log import CallLog
from track_server.interceptors.method import ContractError, Method, declared
from track_server.interceptors.metrics import CallMetrics
from track_server.interceptors.validation import Messages
from track_server.lifetime import Closing
from track_server.logs import EventWriter
from track_server.store.records import Store


class Chain(Closing):
    """The concerns in their order. One for all listeners of a server; `async with` owns the mutations that run.

    ``store``: None where no mutation is served, else registering it raises ContractError. ``draining`` is the switch
    that the server's shutdown turns; ``events`` takes one line a call.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        access: Access,
        limits: LimitSettings,
        store: Store | None,
        registry: CollectorRegistry,
        draining: DrainSwitch,
        events: EventWriter,
    ) -> None:
        self._log = CallLog(events)
        self._idempotency = Idempotency(store)
        self._recorder = None if store is None else Recorder(store)
        strangers = Strangers()
        RecordMetrics(self._recorder, strangers, registry)
        self._call_ids = CallIds()
        # Outermost first. Before all of them, `context.entry` makes the Call, which each of them needs.
        self.concerns: tuple[tuple[str, Concern], ...] = (
            # Outside of errors, to see the status in which everything ends.
            ("log", self._log),
            ("metrics", CallMetrics(registry)),
            # Outside of all that may raise.
            ("errors", ErrorStatuses()),
            # Before any work is put into a call that is refused.
            ("drain", draining),
            # Before anything is done for the call.
            ("server limits", ServerLimits(limits)),
            # Outside of all that may deny, and the last to wait before an answer leaves.
            ("denials", Denials(self._recorder, strangers)),
            # Before the request is decoded: nobody whom we do not know makes us parse anything.
            ("authentication", Authentication(authenticator, StrangerLimits(limits))),
            # As soon as it is known who calls, and before the request is decoded.
            ("principal limits", PrincipalLimits(limits)),
            # Before authorisation, which needs the request's room; a nameless room is a wrong request, not a denial.
            ("messages", Messages(draining.streams)),
            # Before idempotency, which would hand out answers.
            ("authorisation", Authorisation(access)),
            # Behind authorisation: who may do nothing in a room must not use up what is for the room.
            ("room limits", RoomLimits(limits)),
            # Innermost: what it keeps for later is the handler's own answer.
            ("idempotency", self._idempotency),
            # Inside of idempotency: what is sent again is not recorded again.
            ("operations", Operations(self._recorder)),
            # Innermost too: the others see the error with which a stream is ended.
            ("streams", draining.streams),
        )

    async def finish(self) -> None:
        """End the mutations that still run: a moment to finish, then cancelled."""
        await self._idempotency.aclose()

    async def aclose(self) -> None:
        """End the mutations that still run, and write the lines of the log that wait. May be called twice."""
        await self.finish()
        if self._recorder is not None:
            await self._recorder.aclose()
        self._log.flush()

    def around(self, method: Method, behavior: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
        """The handler to register for an RPC that the servicer's method ``behavior`` serves."""
        handler = adapted(method, behavior)
        for _, concern in reversed(self.concerns):
            handler = concern.wrap(method, handler)
        return registered(method, entry(method, handler, self._call_ids))


class ChainedServer(aio.Server):
    """A `grpc.aio.Server` whose RPCs all pass the chain: give it to `add_..._to_server` in the server's place.

    Registering raises ContractError for an RPC that may not be served: every service other than health and reflection
    must declare permissions.
    """

    def __init__(self, server: aio.Server, chain: Chain) -> None:
        self._server = server
        self._chain = chain

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Register services, each RPC wrapped now and for good."""
        for service in generic_rpc_handlers:
            if not isinstance(service, grpc.ServiceRpcHandler):
                raise ContractError(f"{service!r} serves any method name, so its permissions cannot be known.")
            name = service.service_name()
            wrapped = self._wrapped(name, service)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, wrapped),))

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Nothing: generated code registers the same handlers generically, and that is what grpc.aio looks at."""

    def _wrapped(self, service: str, handlers: grpc.GenericRpcHandler) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        try:
            descriptor = descriptor_pool.Default().FindServiceByName(service)
        except KeyError:
            raise ContractError(f"{service} has no descriptor, so its permissions cannot be known.") from None
        wrapped = {}
        for rpc in descriptor.methods:
            handler = handlers.service(_Details(f"/{service}/{rpc.name}"))
            if handler is None:
                raise ContractError(f"/{service}/{rpc.name} is in the contract, but nothing serves it.")
            decode, encode = handler.request_deserializer, handler.response_serializer
            if decode is None or encode is None:
                raise ContractError(f"/{service}/{rpc.name} is registered without its message types.")
            wrapped[rpc.name] = self._chain.around(declared(rpc, decode, encode), behavior_of(handler))
        return wrapped

    def add_insecure_port(self, address: str) -> int:
        """As of the server."""
        return self._server.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """As of the server."""
        return self._server.add_secure_port(address, server_credentials)

    async def start(self) -> None:
        """As of the server."""
        await self._server.start()

    async def stop(self, grace: float | None) -> None:
        """As of the server."""
        await self._server.stop(grace)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  gRPC's own signature
        """As of the server."""
        return await self._server.wait_for_termination(timeout)


class _Details(grpc.HandlerCallDetails):
    """Asks a generic handler for one method."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()
