"""The permission service as a program: its parts put together, from start to SIGTERM."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from track.permission.v1 import permission_service_pb2, permission_service_pb2_grpc
from track_server.access.access import Open
from track_server.config import PermissionServiceSettings, SettingsError
from track_server.config.limits import LimitSettings
from track_server.exposition import exposing
from track_server.interceptors.chain import Chain, ChainedServer
from track_server.interceptors.drain import DrainSwitch
from track_server.interceptors.streams import OpenStreams
from track_server.limits.connection import FIXED_OPTIONS
from track_server.listeners import bind, server_tls
from track_server.logs import EventWriter
from track_server.permissions.caller import CallerAuthenticator
from track_server.permissions.live import LiveRules
from track_server.permissions.metrics import DecisionMetrics
from track_server.permissions.rules_file import RulesError
from track_server.permissions.service import Permissions
from track_server.servicer.health import Health
from track_server.servicer.reflection import Symbols

log = structlog.get_logger(__name__)

SERVICE: Final = permission_service_pb2.DESCRIPTOR.services_by_name["PermissionService"].full_name
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_STOP_S: Final = 1.0

OPTIONS: Final[Sequence[tuple[str, Any]]] = (
    *FIXED_OPTIONS,
    # 500 questions about names of 256 bytes are below 1 MiB.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
)


@dataclass(frozen=True, slots=True)
class Running:
    """A permission service that runs. Addresses are `host:port` as really bound, or empty where there are none."""

    address: str
    metrics_address: str


@contextlib.asynccontextmanager
async def running(settings: PermissionServiceSettings, events: EventWriter | None = None) -> AsyncIterator[Running]:
    """The permission service, for the span of the block. Raises SettingsError, for wrong rules too."""
    async with contextlib.AsyncExitStack() as stack:
        registry = CollectorRegistry()
        metrics = DecisionMetrics(registry)
        rules = await stack.enter_async_context(_rules(settings, metrics))
        draining = DrainSwitch(OpenStreams(None))
        token = settings.permission_token.get_secret_value()
        certificates = settings.permission_server_tls_client_ca is not None
        chain = await stack.enter_async_context(
            Chain(
                authenticator=CallerAuthenticator(token, certificates=certificates),
                # Whoever is known is TrackService, which may ask everything; there is nothing else here.
                access=Open(),
                limits=LimitSettings.load(),
                store=None,
                registry=registry,
                draining=draining,
                events=events or EventWriter(),
            )
        )
        server = ChainedServer(aio.server(options=OPTIONS), chain)
        permission_service_pb2_grpc.add_PermissionServiceServicer_to_server(Permissions(rules, metrics), server)
        health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection(
            [SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
            server,
            Symbols(),  # type: ignore[arg-type]  # has what reflection looks up
        )
        tls = await stack.enter_async_context(server_tls(settings, "permission_server_"))
        address = bind(server, settings, "permission_listen", tls)
        metrics_address = stack.enter_context(
            exposing(registry, settings.permission_metrics_listen, settings.variable("permission_metrics_listen"))
        )
        await health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        await server.start()

        async def drain() -> None:
            await health.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
            draining.end_streams()
            await server.stop(_STOP_S)

        stack.push_async_callback(drain)
        yield Running(address, metrics_address)


async def serve(settings: PermissionServiceSettings, events: EventWriter | None = None) -> None:
    """Runs the permission service until SIGTERM or SIGINT. Raises SettingsError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, stop.set)
    async with running(settings, events) as service:
        log.info(
            "serving",
            address=service.address,
            metrics_address=service.metrics_address or None,
            rules=str(settings.permission_rules),
        )
        await stop.wait()
        log.info("draining", seconds=_STOP_S)
    for number in _ENDING:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


@contextlib.asynccontextmanager
async def _rules(settings: PermissionServiceSettings, metrics: DecisionMetrics) -> AsyncIterator[LiveRules]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            rules = await stack.enter_async_context(LiveRules(settings.permission_rules, metrics.refused))
        except RulesError as error:
            setting = settings.variable("permission_rules")
            raise SettingsError([f"{setting}: {sentence}." for sentence in error.sentences]) from error
        yield rules
