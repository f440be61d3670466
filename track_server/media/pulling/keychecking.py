"""Whether the key of the end-to-end encryption is the right one: said within seconds, instead of silence."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from livekit import rtc

from track_server import errors

_FAILURES: Final = 10
"""Frames that cannot be decrypted until the SDK says so; a lone one may be torn."""
_LOOK_S: Final = 0.5
_UNREADABLE: Final = 3
"""So many messages of a data track that all bring no payload: of them the SDK tells nothing else."""
_DATA_CHANNEL: Final = "_data_track"
_WRONG: Final = frozenset(
    {
        rtc.EncryptionState.DECRYPTION_FAILED,
        rtc.EncryptionState.MISSING_KEY,
        rtc.EncryptionState.INTERNAL_ERROR,
    }
)


def room_options(key: bytes) -> rtc.RoomOptions:
    """To join with that key; empty: none."""
    # One peer connection, as by default: over two, sound arrives mixed down to one channel (rtc 1.2.1).
    options = rtc.RoomOptions(auto_subscribe=False)
    if key:
        # No ratchet: LiveKit's clients use none with a shared key, and to try 16 keys on each frame takes seconds.
        keys = rtc.KeyProviderOptions(shared_key=key, ratchet_window_size=0, failure_tolerance=_FAILURES)
        options.encryption = rtc.E2EEOptions(key_provider_options=keys)
    return options


class KeyCheck:
    """``data_missing``: whether payloads are waited for, and none has come. ``failed`` is told EncryptionKeyNeeded."""

    def __init__(
        self, room: rtc.Room, data_missing: Callable[[], bool], failed: Callable[[errors.TrackError], None]
    ) -> None:
        self._room = room
        self._data_missing = data_missing
        self._failed = failed

    def changed(self, state: int) -> None:
        """The SDK tells how decrypting goes."""
        if state in _WRONG:
            self._fail()

    @contextlib.asynccontextmanager
    async def watching(self, *, data: bool) -> AsyncIterator[None]:
        """Looks for the span of the block. ``data``: an encrypted data track is pulled."""
        looking = asyncio.create_task(self._look(), name="pull-key") if data else None
        try:
            yield
        finally:
            if looking is not None:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._data_missing() and await self._messages() >= _UNREADABLE:
                await asyncio.sleep(_LOOK_S)
                if self._data_missing():
                    self._fail()
                    return

    async def _messages(self) -> int:
        """Messages of data tracks that were received."""
        stats = await self._room.get_rtc_stats()
        # With one peer connection they are the publisher's, with two the subscriber's.
        both = (*stats.publisher_stats, *stats.subscriber_stats)
        channels = [found.data_channel.dc for found in both if found.HasField("data_channel")]
        return sum(channel.messages_received for channel in channels if channel.label == _DATA_CHANNEL)

    def _fail(self) -> None:
        self._failed(
            errors.EncryptionKeyNeeded(
                "the track is end-to-end encrypted with another key than the one given", field="encryption_key"
            )
        )
