"""The watcher: sits in one room as a hidden participant and keeps a LiveRoom up to date, for as long as it runs."""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Iterable
from typing import Final

import structlog
from livekit.protocol import models, rtc

from track_server.errors import LiveKitCredentials, LiveKitUnavailable, RoomNotFound, TrackError
from track_server.livekit.api import LiveKitApi
from track_server.livekit.signal import (
    SignalClosed,
    SignalConnection,
    SignalRefused,
    SignalUnreachable,
    TransportFailed,
)
from track_server.livekit.tokens import TokenMint
from track_server.rooms.keyframes import Keyframes
from track_server.rooms.room import POLLED, WATCHED, LiveRoom
from track_server.rooms.scoring import choose

log = structlog.get_logger(__name__)

# Back-off between tries to connect: doubled from the first to the last, each time with half of it at random.
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_LAST_S: Final = 5.0
# A connection that lasted so long was no failure to connect.
_SOUND_S: Final = 5.0
_POLL_INTERVAL_S: Final = 1.0
# A room whose transport failed is polled so long before the transport is tried again.
_POLL_SPELL_S: Final = 300.0
# A room that LiveKit does not know after a restart comes back when a participant does: they try for about so long.
_RETURN_GRACE_S: Final = 60.0

_ENDED: Final = {models.DisconnectReason.ROOM_CLOSED, models.DisconnectReason.ROOM_DELETED}


class Watcher:
    """Feeds ``room``. ``run()`` returns when LiveKit closed the room, and never raises anything but CancelledError."""

    def __init__(
        self, room: LiveRoom, url: str, api: LiveKitApi, tokens: TokenMint, *, transport_timeout_s: float
    ) -> None:
        self._room = room
        self._url = url
        self._api = api
        self._tokens = tokens
        self._transport_timeout_s = transport_timeout_s
        self._identity = room.watcher_identity = f"track-watcher-{secrets.token_hex(6)}"

    async def run(self) -> None:
        """Connects, and connects again with back-off, until the room is closed."""
        failures = 0
        absent_since: float | None = None
        loop = asyncio.get_running_loop()
        while not self._room.closed:
            begun = loop.time()
            try:
                if not await self._exists():
                    absent_since = absent_since or loop.time()
                    self._absent(loop.time() - absent_since)
                else:
                    absent_since = None
                    await self._watch()
            except TrackError as error:
                self._room.fail(error)
                log.warning("room_watch_failed", room=self._room.name, reason=error.message)
            except Exception:
                log.exception("room_watch_broke", room=self._room.name)
                self._room.fail(LiveKitUnavailable("the room cannot be watched"))
            if self._room.closed:
                return
            self._room.lost()
            if loop.time() - begun > _SOUND_S:
                failures = 0
            delay = min(_BACKOFF_FIRST_S * 2**failures, _BACKOFF_LAST_S)
            failures += 1
            await self._room.glance.within(delay * random.uniform(0.5, 1.0))

    async def _exists(self) -> bool:
        # Joining would create the room.
        return self._room.name in await self._api.find_rooms([self._room.name])

    def _absent(self, for_s: float) -> None:
        missing = RoomNotFound(f"room {self._room.name!r} does not exist", field="room")
        self._room.fail(missing)
        if for_s > _RETURN_GRACE_S:
            self._room.close("ROOM_CLOSED")

    async def _watch(self) -> None:
        """One connection, from join to its end. Raises TrackError where it could not be made."""
        token = self._tokens.watcher(self._room.name, self._identity)
        try:
            async with SignalConnection(self._url, token, transport_timeout_s=self._transport_timeout_s) as connection:
                await self._follow(connection)
        except SignalClosed as end:
            log.info("room_watch_ended", room=self._room.name, reason=models.DisconnectReason.Name(end.reason))
            if end.reason in _ENDED:
                self._room.close(models.DisconnectReason.Name(end.reason))
        except SignalRefused as error:
            if error.status in (401, 403):
                raise LiveKitCredentials("LiveKit refuses this service's API key") from error
            raise LiveKitUnavailable("LiveKit refused the watcher") from error
        except SignalUnreachable as error:
            raise LiveKitUnavailable("LiveKit cannot be reached") from error
        except TransportFailed:
            log.warning("room_watch_polling", room=self._room.name)
            await self._poll()

    async def _follow(self, connection: SignalConnection) -> None:
        join = connection.join
        self._room.publishable = frozenset(codec.mime.lower() for codec in join.enabled_publish_codecs) or None
        self._room.seen(join.room.sid, join.other_participants, WATCHED, join.room)
        reading = asyncio.create_task(self._read(connection), name="watcher-read")
        transport = asyncio.create_task(connection.wait_transport(), name="watcher-transport")
        doubt = asyncio.create_task(self._room.glance.anew(), name="watcher-doubt")
        try:
            # Signalling works before the transport is up, and LiveKit ends it if the transport breaks later.
            await asyncio.wait({reading, transport, doubt}, return_when=asyncio.FIRST_COMPLETED)
            if not (reading.done() or doubt.done()):
                await transport
                await asyncio.wait({reading, doubt}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
        except SignalClosed as end:
            if end.reason not in _ENDED:
                # Said before the rest of the connection is taken down, which takes a while.
                self._room.lost()
            raise
        finally:
            for task in (reading, transport, doubt):
                task.cancel()
            await asyncio.gather(reading, transport, doubt, return_exceptions=True)

    async def _read(self, connection: SignalConnection) -> None:
        scored: dict[str, str] = {}
        self._room.keyframes = Keyframes(connection.send, scored)
        try:
            await self._score(connection, self._room.model.participants, scored)
            async for response in connection.updates():
                match response.WhichOneof("message"):
                    case "update":
                        self._room.update(response.update.participants)
                        changed = {info.identity for info in response.update.participants}
                        await self._score(connection, changed, scored)
                    case "room_update":
                        self._room.settle(response.room_update.room)
                    case "connection_quality":
                        self._room.rate(response.connection_quality.updates)
                    case "speakers_changed":
                        self._room.hear(response.speakers_changed.speakers)
                    case _:
                        pass
        finally:
            self._room.keyframes = None

    async def _score(self, connection: SignalConnection, identities: Iterable[str], scored: dict[str, str]) -> None:
        """Keeps one disabled subscription a publisher, for which LiveKit sends its quality, and whether it speaks."""
        sids = choose(self._room.model, identities, scored)
        if not sids:
            return
        disable = rtc.SignalRequest(track_setting=rtc.UpdateTrackSettings(track_sids=sids, disabled=True))
        subscribe = rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=sids, subscribe=True))
        # Disabled before and after: LiveKit keeps settings of a subscription to come, older servers do not.
        for request in (disable, subscribe, disable):
            await connection.send(request)

    async def _poll(self) -> None:
        """Looks at the room now and then, for a spell."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SPELL_S):
                while not self._room.closed:
                    infos = await self._api.list_participants(self._room.name)
                    room = (await self._api.find_rooms([self._room.name])).get(self._room.name)
                    if not infos and room is None:
                        self._room.close("ROOM_CLOSED")
                        return
                    self._room.seen("", infos, POLLED, room)
                    await self._room.glance.within(_POLL_INTERVAL_S)
