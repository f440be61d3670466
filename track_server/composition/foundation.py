"""What everything rests on: keys, store, connections to LiveKit, and the live rooms."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from track_server.config import Settings
from track_server.control.companion import Companion
from track_server.control.signing import ControlKey
from track_server.keys import KeyRing
from track_server.livekit.api import LiveKitApi
from track_server.livekit.debug import DebugView
from track_server.livekit.tokens import TokenMint
from track_server.rooms.cursor import Seal
from track_server.rooms.history import KIND as EVENTS
from track_server.rooms.history import History
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.rooms.subscriptions import Subscriptions
from track_server.store.journal import RoomRetention
from track_server.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Foundation:
    """The parts, open."""

    settings: Settings
    registry: CollectorRegistry
    keys: KeyRing
    tokens: TokenMint
    store: SqliteStore
    api: LiveKitApi
    companion: Companion
    """What speaks to participants' own clients."""
    debug: DebugView | None
    """LiveKit's debug view, where the operator turned it on."""
    rooms: Rooms
    subscriptions: Subscriptions
    """What asks LiveKit for subscriptions, and tells of them."""
    standing: Standing
    """Rooms that must be watched as long as they exist."""
    reader: Reader


@contextlib.asynccontextmanager
async def founded(settings: Settings) -> AsyncIterator[Foundation]:
    """The foundation for the span of the block. Raises SettingsError, StoreError."""
    async with contextlib.AsyncExitStack() as stack:
        keys = await stack.enter_async_context(KeyRing.of(settings))
        tokens = TokenMint(keys.acting.key, keys.acting.secret)
        keys.follow(lambda: tokens.sign_with(keys.acting.key, keys.acting.secret))
        store = await stack.enter_async_context(SqliteStore(settings.store))
        api = await stack.enter_async_context(LiveKitApi(settings.livekit_http_url, tokens))
        companion = Companion(api, await ControlKey.of(store))
        debug = DebugView(settings.livekit_debug_url) if settings.livekit_debug_url else None
        if debug is not None:
            await stack.enter_async_context(debug)
        room_bytes = settings.event_max_megabytes_per_room << 20
        store.journal.retain(
            EVENTS,
            age_s=settings.event_retention_hours * 3600,
            max_bytes=settings.event_max_megabytes << 20,
            of_room=RoomRetention(settings.max_events_per_room, room_bytes),
        )
        history = await stack.enter_async_context(History(store.journal, await Seal.of(store)))
        rooms = await stack.enter_async_context(
            Rooms(
                settings.livekit_ws_url,
                api,
                tokens,
                linger_s=settings.room_linger_seconds,
                max_events=settings.max_events_per_room,
                transport_timeout_s=settings.transport_timeout_seconds,
                max_event_bytes=room_bytes,
                history=history,
            )
        )
        subscriptions = await stack.enter_async_context(Subscriptions(rooms, api, debug))
        standing = await stack.enter_async_context(Standing(rooms, api))
        reader = Reader(rooms, api)
        yield Foundation(
            settings,
            CollectorRegistry(),
            keys,
            tokens,
            store,
            api,
            companion,
            debug,
            rooms,
            subscriptions,
            standing,
            reader,
        )
