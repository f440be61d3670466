"""The server: the parts behind their listeners, from the start to the drain."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from track.media.v1 import media_service_pb2_grpc
from track.v1 import track_service_pb2_grpc
from track_server.composition.authority import Authority, deciding
from track_server.composition.foundation import Foundation, founded
from track_server.composition.service import track_service
from track_server.composition.work import Work, working
from track_server.config import Settings, environment_name
from track_server.exposition import exposing
from track_server.health import SERVICE, Condition, LiveKitAddress, Readiness
from track_server.interceptors.chain import Chain, ChainedServer
from track_server.interceptors.drain import DrainSwitch
from track_server.interceptors.streams import OpenStreams
from track_server.limits.connection import MEDIA_OPTIONS, connection_options
from track_server.listeners import bind, server_tls
from track_server.logs import EventWriter
from track_server.servicer.health import Health
from track_server.servicer.media import MediaSessions
from track_server.servicer.reflection import Symbols
from track_server.supervisor import Supervisor, worker_environment

log = structlog.get_logger(__name__)

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs. Addresses are `host:port` as really bound, or empty where there are none."""

    address: str
    media_address: str
    metrics_address: str
    webhook_address: str


@contextlib.asynccontextmanager
async def running(settings: Settings, events: EventWriter | None = None) -> AsyncIterator[Running]:
    """TrackService with everything that belongs to it, for the span of the block. Raises SettingsError, StoreError."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tls = await enter(server_tls(settings))
        ground = await enter(founded(settings))
        authority = await enter(deciding(ground))
        draining = DrainSwitch(OpenStreams(authority.revocation))
        chain = await enter(
            Chain(
                authenticator=authority.authenticator,
                access=authority.access,
                limits=settings,
                store=ground.store,
                registry=ground.registry,
                draining=draining,
                events=events or EventWriter(),
            )
        )
        media_server = ChainedServer(aio.server(options=MEDIA_OPTIONS), chain)
        media_address = bind(media_server, settings, "media_listen")
        workers = Supervisor(settings.media_workers, lambda: worker_environment(settings, ground.keys))
        work = await enter(working(ground, authority, settings.media_address or media_address, workers))
        workers.follow(work.hosted.sessions.worker_came)
        media_service_pb2_grpc.add_MediaServiceServicer_to_server(MediaSessions(work.hosted.sessions), media_server)
        await media_server.start()
        stack.push_async_callback(media_server.stop, 0.5)
        stack.callback(draining.end_streams)

        server = ChainedServer(aio.server(options=connection_options(settings)), chain)
        address = bind(server, settings, "listen", tls)
        readiness = _register(server, ground, authority, work)
        await enter(workers)
        # Ends before the workers do: a session must not look for another worker while ours go home.
        await work.resume(stack)
        await enter(authority.revocation)
        metrics_address = stack.enter_context(
            exposing(ground.registry, settings.metrics_listen, environment_name("metrics_listen"))
        )
        await enter(readiness)
        webhook_address = (await enter(work.hooks.endpoint)).address
        await server.start()

        async def drain() -> None:
            draining.begin()
            await readiness.drain()
            await draining.end_probes()
            await server.stop(settings.drain_seconds)
            # While there is still all that they work with.
            await chain.finish()

        stack.push_async_callback(drain)
        yield Running(address, media_address, metrics_address, webhook_address)


async def serve(settings: Settings, events: EventWriter | None = None) -> None:
    """Runs TrackService until SIGTERM or SIGINT, then drains. Raises SettingsError, StoreError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, stop.set)
    if settings.auth_mode == "off":
        log.warning("AUTH MODE IS OFF: everybody on this machine may do everything in every room")
    async with running(settings, events) as server:
        log.info(
            "serving",
            address=server.address,
            media_address=server.media_address,
            metrics_address=server.metrics_address or None,
            webhook_address=server.webhook_address or None,
            livekit=settings.livekit_url,
            auth_mode=settings.auth_mode,
        )
        await stop.wait()
        log.info("draining", seconds=settings.drain_seconds)
    # Everything is let go of: asked again now, the process must not seem to have been killed.
    for number in _ENDING:
        # Not taken off the loop first: for a moment the signal would end the process.
        signal.signal(number, signal.SIG_IGN)


def _register(server: ChainedServer, ground: Foundation, authority: Authority, work: Work) -> Readiness:
    """Puts TrackService, health and reflection on the server; returns who tells health of readiness."""
    health = Health()
    permissions = authority.permissions
    conditions = [] if permissions is None else [Condition("permission_service", permissions.answering)]
    address = LiveKitAddress(ground.settings.livekit_ws_url, ground.keys)
    readiness = Readiness(health, ground.api, ground.store, address, conditions)
    servicer = track_service(ground, authority, work, readiness)
    track_service_pb2_grpc.add_TrackServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        [SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
        server,
        Symbols(),  # type: ignore[arg-type]  # has what reflection looks up
    )
    return readiness
