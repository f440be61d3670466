"""A hidden participant that takes data messages: beside the watcher, since LiveKit sends whoever takes any all that are
sent to everybody, and only where somebody waits for them."""

import asyncio
import random
import secrets
from typing import Final

import structlog

from track_server.lifetime import Closing, Tasks
from track_server.livekit.datachannel import OnMessage
from track_server.livekit.signal import SignalConnection, SignalError, TransportFailed
from track_server.livekit.tokens import TokenMint

log = structlog.get_logger(__name__)

# Back-off between tries to connect, as of the watcher.
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_LAST_S: Final = 15.0
# A connection that lasted so long was no failure to connect.
_SOUND_S: Final = 5.0
# One whose messages are so late is made anew: LiveKit keeps megabytes for it, and they are old.
_BEHIND_S: Final = 3.0
_LOOK_S: Final = 1.0


class Inbox(Closing):
    """Sits in one room until it is closed, `async with`, and tells ``on_message`` of what it is sent.

    It connects once somebody waits for that, and again with back-off, under the same ``identity``; messages of
    meanwhile are lost.
    """

    def __init__(
        self, room: str, url: str, tokens: TokenMint, on_message: OnMessage, *, transport_timeout_s: float
    ) -> None:
        self.identity: Final = f"track-inbox-{secrets.token_hex(6)}"
        self.connections = 0
        """How often it has connected: what was sent before may be lost."""
        self._room = room
        self._url = url
        self._tokens = tokens
        self._on_message = on_message
        self._transport_timeout_s = transport_timeout_s
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._running = Tasks()

    async def __aenter__(self) -> "Inbox":
        self._running.spawn(self._run(), name=f"inbox of {self._room}")
        return self

    async def aclose(self) -> None:
        """Leaves the room. May be called twice."""
        await self._running.aclose()

    async def connected(self, after: int) -> int:
        """Returns how often it has connected, once that is more than ``after``. The first call has it connect."""
        self._wanted.set()
        while self.connections <= after:
            self._changed.clear()
            await self._changed.wait()
        return self.connections

    async def _run(self) -> None:
        await self._wanted.wait()
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await self._sit()
            except (SignalError, TransportFailed) as error:
                log.info("inbox_ended", room=self._room, reason=str(error))
            except Exception:
                log.exception("inbox_broke", room=self._room)
            failures = 0 if loop.time() - begun > _SOUND_S else failures + 1
            delay = min(_BACKOFF_FIRST_S * 2**failures, _BACKOFF_LAST_S)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def _sit(self) -> None:
        """One connection, to its end. Raises SignalError, TransportFailed."""
        async with SignalConnection(
            self._url,
            self._tokens.watcher(self._room, self.identity),
            transport_timeout_s=self._transport_timeout_s,
            on_data=self._on_message,
        ) as connection:
            await connection.wait_transport()
            self.connections += 1
            self._changed.set()
            reading = asyncio.create_task(_drain(connection), name="inbox-read")
            try:
                while not reading.done() and connection.data_behind_s < _BEHIND_S:
                    await asyncio.wait({reading}, timeout=_LOOK_S)
                if reading.done():
                    await reading
                log.warning("inbox_behind", room=self._room)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


async def _drain(connection: SignalConnection) -> None:
    """What happens in the room is the watcher's."""
    async for _ in connection.updates():
        pass
