"""How a session enters its room: what must be known before, and cannot change while it is in."""

import asyncio
import contextlib

from livekit import rtc

from track.media.v1.media_service_pb2 import SessionDesired, SessionTicket
from track.v1.track_pb2 import TrackType
from track_server.media.joins import Joins
from track_server.media.options import track_type


class Entry:
    """``told`` takes what is desired, ``connect`` enters when it knows enough; ``aclose`` after the room was left."""

    def __init__(self, ticket: SessionTicket) -> None:
        self._ticket = ticket
        self._key: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not ticket.encrypted:
            self._key.set_result(b"")
        self._stereo: frozenset[str] = frozenset()
        self._stack = contextlib.AsyncExitStack()

    def told(self, desired: SessionDesired) -> bool:
        """Takes over the key and the names of stereo tracks. Says whether what is desired goes with this entry.

        Another key needs another one, and so does the first stereo track.
        """
        if not desired.tracks:
            return True
        if not self._key.done():
            self._key.set_result(desired.encryption_key)
        self._stereo = frozenset(
            track.spec.name
            for track in desired.tracks
            if track_type(track.spec) == TrackType.TRACK_TYPE_AUDIO and track.spec.audio.stereo
        )
        return desired.encryption_key == self._key.result() and (self._ticket.stereo or not self._stereo)

    async def connect(self, joins: Joins, room: rtc.Room, url: str, token: str) -> None:
        """Enter. Raises ConnectError. Cancelled: see Joins."""
        key = await asyncio.shield(self._key)
        if self._ticket.stereo:
            # Where it is needed alone: it would take a tenth of a child's start.
            from track_server.media.signalling import SignalRelay

            relay = await self._stack.enter_async_context(SignalRelay(url, self._has_two_channels))
            url = relay.url
        await joins.join(room, url, token, _options(key))

    def _has_two_channels(self, name: str) -> bool:
        return name in self._stereo

    def give_up(self) -> None:
        """Nobody waits for the key any more: ``connect`` is cancelled where it does."""
        self._key.cancel()

    async def aclose(self) -> None:
        """Give back what it holds. May be called twice."""
        self.give_up()
        await self._stack.aclose()


def _options(key: bytes) -> rtc.RoomOptions:
    options = rtc.RoomOptions(
        auto_subscribe=False,
        # Two peer connections: the SDK then joins in 40 ms instead of 65, as it need not negotiate to receive first.
        single_peer_connection=False,
    )
    if key:
        # `encryption`, not the older `e2ee`, which leaves data messages in the clear.
        options.encryption = rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=key))
    return options
