"""Keyframes of any video, asked for by LiveKit on behalf of this service's own subscription.

LiveKit's SDK encodes a keyframe when LiveKit asks for one, and LiveKit asks while a subscriber has none to begin with.
The watcher's subscription has its media turned off; turned on for a moment it is such a subscriber (livekit-server
1.13.5: 50 to 140 ms to the keyframe).
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from livekit.protocol import models, rtc

from track.v1.track_pb2 import Track
from track_server.errors import LiveKitUnavailable
from track_server.livekit.signal import SignalClosed

Send = Callable[[rtc.SignalRequest], Awaitable[None]]

LAYERS: Final = (models.VideoQuality.HIGH, models.VideoQuality.MEDIUM, models.VideoQuality.LOW)
"""LiveKit asks for a keyframe of one layer at a time."""


class Keyframes:
    """Asks over one signalling connection. ``scored``: publisher identity to the SID that is subscribed to for good."""

    def __init__(self, send: Send, scored: Mapping[str, str]) -> None:
        self._send = send
        self._scored = scored

    @contextlib.asynccontextmanager
    async def asking(self, track: Track, layer: models.VideoQuality) -> AsyncIterator[None]:
        """LiveKit asks for a keyframe of that layer for the span of the block, until one comes.

        Raises LiveKitUnavailable.
        """
        sids = [track.sid]
        passing = self._scored.get(track.participant_identity) != track.sid
        try:
            await self._set(sids, disabled=False, quality=layer)
            if passing:
                await self._subscribe(sids, subscribe=True)
                await self._set(sids, disabled=False, quality=layer)
            yield
        finally:
            await self._set(sids, disabled=True)
            if passing:
                await self._subscribe(sids, subscribe=False)

    async def _set(
        self, sids: list[str], *, disabled: bool, quality: models.VideoQuality = models.VideoQuality.LOW
    ) -> None:
        settings = rtc.UpdateTrackSettings(track_sids=sids, disabled=disabled, quality=quality)
        await self._ask(rtc.SignalRequest(track_setting=settings))

    async def _subscribe(self, sids: list[str], *, subscribe: bool) -> None:
        await self._ask(rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=sids, subscribe=subscribe)))

    async def _ask(self, request: rtc.SignalRequest) -> None:
        try:
            await self._send(request)
        except SignalClosed as error:
            raise LiveKitUnavailable("the connection to the room is lost") from error
