"""The ear of a session: a hidden participant of its own, that receives what the room's loudspeakers play."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Final

import structlog
from livekit import rtc
from livekit.rtc.room import ConnectError

from track.media.v1.media_service_pb2 import SessionDesired, SessionHearing
from track_server.lifetime import Tasks
from track_server.media.far_end import FarEnd
from track_server.media.joins import Joins
from track_server.pulse import Pulse

log = structlog.get_logger(__name__)

_STEP_MS: Final = 10
_UNREAD: Final = 25
"""Steps that the SDK keeps while the event loop is held up; then it drops the oldest."""
_CLOSE_S: Final = 1.0
_RETRY_FIRST_S: Final = 0.5
_RETRY_LAST_S: Final = 30.0

_LOOK_S: Final = 1.0
"""How often it looks by itself: LiveKit may take a subscription away, or let one in, that was asked for long ago."""

_EVENTS: Final = (
    "track_published",
    "track_unpublished",
    "track_subscribed",
    "track_unsubscribed",
    "track_muted",
    "track_unmuted",
    "participant_disconnected",
    "reconnected",
    "connection_state_changed",
)
"""After each it may be another track that is heard."""


class Ear:
    """Brings what it hears to ``far_end``. `run` does it for as long as the session lasts."""

    def __init__(self, joins: Joins, url: str, far_end: FarEnd) -> None:
        self._joins = joins
        self._url = url
        self._far_end = far_end
        self._wanted: SessionHearing | None = None
        self._key = b""
        self._changed = Pulse()

    def want(self, desired: SessionDesired) -> None:
        """Takes over what is to be heard."""
        self._wanted = desired.hearing if desired.HasField("hearing") else None
        self._key = desired.encryption_key
        self._changed.beat()

    async def run(self) -> None:
        """In the room while something is to be heard; what cannot be joined is tried again. Ends by being cancelled."""
        failures = 0
        while True:
            while self._wanted is None:
                await self._changed.wait()
            try:
                heard_out = await self._hear(self._wanted.token)
            except ConnectError as error:
                heard_out = False
                log.warning("ear_not_joined", cause=str(error))
            except Exception:
                # Without it the session publishes on, with the echo.
                heard_out = False
                log.exception("ear_broke")
            failures = 0 if heard_out else failures + 1
            if failures:
                await asyncio.sleep(min(_RETRY_FIRST_S * 2**failures, _RETRY_LAST_S) * random.uniform(0.5, 1.0))

    async def _hear(self, token: str) -> bool:
        """Hears until nothing is to be heard, which it says, or the connection has ended. Raises ConnectError."""
        room = rtc.Room()
        await self._joins.join(room, self._url, token, _options(self._key))
        for event in _EVENTS:
            room.on(event, lambda *_: self._changed.beat())
        readers: dict[str, asyncio.Task[None]] = {}
        try:
            async with Tasks() as tasks:
                while self._wanted is not None and room.isconnected():
                    self._follow(room, frozenset(self._wanted.track_sids), readers, tasks)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await self._changed.wait()
                return self._wanted is None
        finally:
            await self._joins.leave(room)

    def _follow(
        self, room: rtc.Room, wanted: frozenset[str], readers: dict[str, asyncio.Task[None]], tasks: Tasks
    ) -> None:
        """Subscribes to what is wanted and there, and reads it while it is not muted. ``readers``: by SID."""
        sounding: dict[str, rtc.Track] = {}
        for publication in _publications(room):
            if publication.subscribed is not (publication.sid in wanted):
                publication.set_subscribed(publication.sid in wanted)
            elif publication.track is not None and not publication.muted:
                sounding[publication.sid] = publication.track
        # A reader has ended where its track was taken away and given back in the meantime.
        for sid in [sid for sid, reader in readers.items() if reader.done() or sid not in sounding]:
            readers.pop(sid).cancel()
        for sid in sounding.keys() - readers.keys():
            readers[sid] = tasks.begin(self._read(sounding[sid]), name=f"ear-{sid}")

    async def _read(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, capacity=_UNREAD, num_channels=1, frame_size_ms=_STEP_MS)
        try:
            async for event in stream:
                self._far_end.heard(track.sid, event.frame.data)
        finally:
            self._far_end.gone(track.sid)
            # Frees what the SDK holds; its task need not end by itself.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stream.aclose(), _CLOSE_S)


def _publications(room: rtc.Room) -> Iterator[rtc.RemoteTrackPublication]:
    for participant in room.remote_participants.values():
        yield from participant.track_publications.values()


def _options(key: bytes) -> rtc.RoomOptions:
    options = rtc.RoomOptions(auto_subscribe=False)
    if key:
        # No ratchet: LiveKit's clients use none with a shared key.
        keys = rtc.KeyProviderOptions(shared_key=key, ratchet_window_size=0)
        options.encryption = rtc.E2EEOptions(key_provider_options=keys)
    return options
