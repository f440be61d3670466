"""The composition root: the one place where the parts are put together."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from track.media.v1 import media_service_pb2_grpc
from track.v1 import event_pb2, server_info_pb2, track_service_pb2_grpc
from track.v1.publication_pb2 import Publication
from track_server.access.tokens import Authenticator, TokenAuthenticator, Unguarded
from track_server.config import Settings, SettingsError, environment_name, split_address
from track_server.errors import duration_of
from track_server.health import SERVICE, LiveKitAddress, Readiness
from track_server.interceptors.chain import Chain, ChainedServer
from track_server.interceptors.context import DEFAULT_WAIT_S
from track_server.interceptors.drain import Draining
from track_server.livekit.api import LiveKitApi
from track_server.livekit.debug import DebugView
from track_server.livekit.tokens import TokenMint
from track_server.logs import EventWriter
from track_server.moderation.mutes import Mutes
from track_server.paging import MAX_PAGE_SIZE
from track_server.publishing.book import Book
from track_server.publishing.hosting import Sessions
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.publishing import Publishing
from track_server.publishing.session import Hosting
from track_server.quality.demand import SHORTEST_S
from track_server.quality.quality import Quality
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.servicer.health import Health
from track_server.servicer.media import MediaSessions
from track_server.servicer.reflection import Symbols
from track_server.servicer.track import TrackService
from track_server.store.sqlite import SqliteStore
from track_server.subscription.updates import SubscriptionUpdates
from track_server.supervisor import Supervisor

log = structlog.get_logger(__name__)

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)

MAX_REQUEST_BYTES: Final = 1024 * 1024
"""The largest request has 500 subscriptions or 16 KiB of metadata; a page of 1000 tracks goes the other way."""
MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024

OPTIONS: Final[Sequence[tuple[str, Any]]] = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
    # A client that vanished is noticed within 40 s, so that its streams do not live on.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients may ping as often as every 10 s, with no call as well; who pings more is disconnected.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A second server on the same port is a mistake, not a way to share the load.
    ("grpc.so_reuseport", 0),
)

AUTH_MODES: Final = {"off": server_info_pb2.AUTH_MODE_OFF, "token": server_info_pb2.AUTH_MODE_TOKEN}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs. Addresses are `host:port` as really bound, or empty where there are none."""

    address: str
    media_address: str
    metrics_address: str


@contextlib.asynccontextmanager
async def running(settings: Settings, events: EventWriter | None = None) -> AsyncIterator[Running]:
    """TrackService with everything that belongs to it, for the span of the block. Raises SettingsError, StoreError."""
    async with contextlib.AsyncExitStack() as stack:
        secret = settings.livekit_api_secret.get_secret_value()
        tokens = TokenMint(settings.livekit_api_key, secret)
        store = await stack.enter_async_context(SqliteStore(settings.store))
        api = await stack.enter_async_context(LiveKitApi(settings.livekit_http_url, tokens))
        debug = DebugView(settings.livekit_debug_url) if settings.livekit_debug_url else None
        if debug is not None:
            await stack.enter_async_context(debug)
        rooms = await stack.enter_async_context(
            Rooms(
                settings.livekit_ws_url,
                api,
                tokens,
                linger_s=settings.room_linger_seconds,
                max_events=settings.max_events_per_room,
                transport_timeout_s=settings.transport_timeout_seconds,
            )
        )
        registry = CollectorRegistry()
        draining = Draining()
        chain = await stack.enter_async_context(
            Chain(
                authenticator=_authenticator(settings),
                store=store,
                registry=registry,
                draining=draining,
                events=events or EventWriter(),
            )
        )

        quality = await stack.enter_async_context(Quality(lambda room, _: sessions.refresh_stats(room)))
        book = Book(store, lambda before, after: _announce(rooms, quality, before, after))
        await book.load()

        media_server = ChainedServer(aio.server(options=OPTIONS), chain)
        media_address = _bind(media_server, settings, "media_listen")
        hosting = Hosting(rooms, api, book, settings.media_address or media_address)
        sessions = Sessions(hosting, quality.record, quality.stats_interval)
        media_service_pb2_grpc.add_MediaServiceServicer_to_server(MediaSessions(sessions), media_server)
        await media_server.start()
        stack.push_async_callback(media_server.stop, 0.5)
        stack.callback(draining.end_streams)

        health = Health()
        address_of_livekit = LiveKitAddress(settings.livekit_ws_url, settings.livekit_api_key, secret)
        readiness = Readiness(health, api, store, address_of_livekit)
        server = ChainedServer(aio.server(options=OPTIONS), chain)
        address = _bind(server, settings, "listen")
        servicer = TrackService(
            rooms=rooms,
            reader=Reader(rooms, api),
            publishing=Publishing(
                rooms, api, book, sessions, media_dir=settings.media_dir, url_hosts=settings.media_url_hosts
            ),
            mutes=Mutes(rooms, api),
            subscriptions=SubscriptionUpdates(rooms, api, debug),
            quality=quality,
            readiness=readiness,
            about=_about(settings),
            debug_view=debug is not None,
            own_workers=settings.media_workers,
        )
        track_service_pb2_grpc.add_TrackServiceServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection(
            [SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
            server,
            Symbols(),  # type: ignore[arg-type]  # has what reflection looks up
        )
        await stack.enter_async_context(
            Supervisor(settings.media_workers, _worker_environment(settings), sessions.worker_came)
        )
        # Before the workers: a session must not look for another worker while ours go home.
        await stack.enter_async_context(sessions)
        sessions.restore()
        metrics_address = _serve_metrics(stack, settings, registry)
        await readiness.look()
        looking = asyncio.create_task(readiness.run(), name="readiness")
        stack.push_async_callback(_end, looking)
        await server.start()

        async def drain() -> None:
            draining.begin()
            await readiness.drain()
            await draining.end_probes()
            await server.stop(settings.drain_seconds)

        stack.push_async_callback(drain)
        yield Running(address, media_address, metrics_address)


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
            livekit=settings.livekit_url,
            auth_mode=settings.auth_mode,
        )
        await stop.wait()
        log.info("draining", seconds=settings.drain_seconds)
    # Everything is let go of: asked again now, the process must not seem to have been killed.
    for number in _ENDING:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _authenticator(settings: Settings) -> Authenticator:
    if settings.auth_mode == "off":
        return Unguarded()
    return TokenAuthenticator(settings.livekit_api_key, settings.livekit_api_secret.get_secret_value())


def _announce(rooms: Rooms, quality: Quality, before: Publication | None, after: Publication) -> None:
    if before is None or (before.state, before.muted) != (after.state, after.muted):
        rooms.announce(after.room, event_pb2.RoomEvent(publication_moved=after))
    if after.state == ENDED:
        quality.forget(after.publication_id)
    elif before is not None and before.muted != after.muted:
        quality.interrupt(after.publication_id)


def _bind(server: ChainedServer, settings: Settings, name: str) -> str:
    """Binds the server to the address of that setting; returns it with the port that was taken."""
    wanted = getattr(settings, name)
    host, _ = split_address(wanted)
    try:
        port = server.add_insecure_port(wanted)
    except RuntimeError as error:
        raise SettingsError([f"{environment_name(name)}: {wanted} cannot be bound; is it in use?"]) from error
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _serve_metrics(stack: contextlib.AsyncExitStack, settings: Settings, registry: CollectorRegistry) -> str:
    if not settings.metrics_listen:
        return ""
    host, port = split_address(settings.metrics_listen)
    try:
        http, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            [f"{environment_name('metrics_listen')}: {settings.metrics_listen} cannot be bound; is it in use?"]
        ) from error
    stack.callback(thread.join)
    stack.callback(http.server_close)
    stack.callback(http.shutdown)
    return f"{host}:{http.server_port}"


def _about(settings: Settings) -> server_info_pb2.GetServerInfoResponse:
    return server_info_pb2.GetServerInfoResponse(
        version=metadata.version("track-server"),
        auth_mode=AUTH_MODES[settings.auth_mode],
        livekit=server_info_pb2.LiveKitInfo(url=settings.livekit_url),
        limits=server_info_pb2.Limits(
            max_request_bytes=MAX_REQUEST_BYTES,
            max_events_per_room=settings.max_events_per_room,
            max_page_size=MAX_PAGE_SIZE,
            min_report_interval=duration_of(SHORTEST_S),
            default_wait=duration_of(DEFAULT_WAIT_S),
        ),
    )


def _worker_environment(settings: Settings) -> dict[str, str]:
    """The settings that a media worker reads, for its environment."""
    values = {
        "livekit_url": settings.livekit_ws_url,
        "livekit_api_key": settings.livekit_api_key,
        "livekit_api_secret": settings.livekit_api_secret.get_secret_value(),
        "media_dir": str(settings.media_dir or ""),
        "media_url_hosts": ",".join(sorted(settings.media_url_hosts)),
        "worker_max_sessions": str(settings.worker_max_sessions),
        "worker_sessions_per_child": str(settings.worker_sessions_per_child),
        "log_level": settings.log_level,
        "log_format": settings.log_format,
    }
    return {environment_name(name): value for name, value in values.items()}


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
