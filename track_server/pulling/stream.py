"""One caller's stream: what a session brings, as long as the track is there and may be had."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import structlog

from track.media.v1.media_service_pb2 import PullDesired
from track.v1 import error_pb2
from track.v1.pull_pb2 import PullEnded, PullEndReason, PullMediaResponse, PullStats
from track_server.errors import (
    EncryptionKeyNeeded,
    LimitExceeded,
    PermissionDenied,
    TrackError,
    Unavailable,
    WorkerUnavailable,
    error_in,
)
from track_server.pulling import wanted
from track_server.pulling.carrier import Carrier, Message
from track_server.pulling.sight import Prospect, Sight
from track_server.pullwire import Kind

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
"""How often it is looked at where nothing tells of a change."""
_LAST_WORD_S: Final = 5.0
"""How long a session may take to send what is left."""
_SILENT_S: Final = 20.0
"""A session says every 2 s how it goes; one that says nothing for so long hangs, and counts as lost."""
_ROOM_CLOSED_S: Final = 2.0
"""How long the room may take to say that it was closed, once a session was told so."""
_TRIES: Final = 5
"""Sessions in a row that bring nothing until it is given up; only frames are taken up again at all."""
_PAUSE_S: Final = 0.5
_RETRY_S: Final = 1.0


class PullStream:
    """What ``prospect`` is about. ``carry`` makes a session, whose participant has the same identity each time."""

    def __init__(self, prospect: Prospect, carry: Callable[[], Carrier]) -> None:
        self.lost = False
        """A session was lost: its participant may still be in the room."""
        self._prospect = prospect
        self._carry = carry
        self._request = prospect.request
        self._first: PullDesired | None = None
        self._stats = PullStats()
        self._position_us = 0
        self._brought_s = 0.0
        """Where the stream was, and when: the last frame's."""
        self._ended: PullEndReason.ValueType | None = None
        self._refusal: TrackError | None = None
        self._carrier: Carrier | None = None
        self._told_started = False
        self._stats_interval_s: float | None = None
        self._patience: asyncio.Timeout | None = None
        """Of waiting for what the session says next."""

    def refuse(self, error: TrackError) -> None:
        """It must not go on, whatever the caller reads: its participant leaves at once."""
        if self._refusal is None:
            self._refusal = error
            if self._carrier is not None:
                self._carrier.break_off()

    def measure(self, interval_s: float | None) -> None:
        """Statistics of what is received are wanted at that interval in seconds, or none."""
        if interval_s != self._stats_interval_s:
            self._stats_interval_s = interval_s
            if self._carrier is not None:
                self._carrier.measure(interval_s)

    async def responses(self) -> AsyncGenerator[bytes]:
        """Serialised PullMediaResponses, until the track has ended.

        Raises PermissionDenied, EncryptionKeyNeeded, TargetPermission, WorkerUnavailable, LimitExceeded.
        """
        guard = asyncio.create_task(self._guard(), name=f"pull {self._prospect.live.name}")
        try:
            tries = 0
            while True:
                await self._until_there()
                if self._ended is not None:
                    yield self._last_word()
                    return
                brought = False
                async with self._carry() as carrier, aclosing(self._carried(carrier)) as payloads:
                    async for kind, payload in payloads:
                        brought = brought or kind == Kind.FRAME
                        yield payload
                        carrier.taken(len(payload))
                        if kind == Kind.ENDED:
                            return
                self.lost = self._refusal is None
                self._refuse()
                if self._ended is not None:
                    yield self._last_word()
                    return
                tries = 1 if brought else tries + 1
                self._give_up(tries)
                await asyncio.sleep(_PAUSE_S * tries)
        finally:
            self._carrier = None
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    async def _carried(self, carrier: Carrier) -> AsyncGenerator[tuple[int, bytes]]:
        """What a session brings for the caller, until it has ended or is lost. Raises what it fails of."""
        self._carrier = carrier
        try:
            await carrier.begin(self._desired())
            carrier.measure(self._stats_interval_s)
        except LimitExceeded:
            raise
        except Unavailable:
            self._refuse()
            if self._first is None or self._request.container:
                raise
            return
        finally:
            self._refuse()
        self._first = self._first or self._desired()
        # What changed while it began.
        self._tell(self._prospect.look())
        while True:
            message = await self._next(carrier)
            if message is None:
                return
            kind, number, payload = message
            match kind:
                case Kind.STARTED if not self._told_started:
                    self._told_started = True
                    yield kind, payload
                case Kind.FRAME:
                    self._position_us, self._brought_s = number, asyncio.get_running_loop().time()
                    self._stats.frames_delivered += 1
                    self._stats.bytes_delivered += len(payload)
                    yield kind, payload
                case Kind.NOTE:
                    self._stats = PullMediaResponse.FromString(payload).stats
                    if self._told_started:
                        yield kind, payload
                case Kind.ENDED:
                    yield kind, payload
                    return
                case Kind.FAILED:
                    raise error_in(error_pb2.Problem.FromString(payload))
                case Kind.LEFT:
                    self._stats = PullStats.FromString(payload)
                    if await self._prospect.live.until(self._is_over, _ROOM_CLOSED_S):
                        self._tell(self._prospect.look())
                    return
                case _:
                    pass

    async def _next(self, carrier: Carrier) -> Message | None:
        """The next one; None where there is none any more, or it does not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S if self._ended is not None else _SILENT_S) as patience:
                self._patience = patience
                try:
                    return await carrier.next()
                finally:
                    self._patience = None
        return None

    # What goes on in the room.

    async def _guard(self) -> None:
        """Looks after each change, until it is over."""
        sight = self._prospect.look()
        while True:
            self._tell(sight)
            if self._ended is not None or self._refusal is not None:
                return
            seen = sight
            await self._prospect.live.until(lambda seen=seen: self._prospect.look() != seen, _LOOK_S)  # type: ignore[misc]
            sight = self._prospect.look()

    def _tell(self, sight: Sight) -> None:
        if sight.refused:
            self.refuse(PermissionDenied(sight.refused, field="participant_identity"))
        elif sight.key_needed:
            self.refuse(
                EncryptionKeyNeeded(
                    "the track is end-to-end encrypted now: pulling it needs its key", field="encryption_key"
                )
            )
        elif sight.ended is not None:
            self._ended = self._ended or sight.ended
            if self._patience is not None:
                self._patience.reschedule(asyncio.get_running_loop().time() + _LAST_WORD_S)
            if self._carrier is not None:
                self._carrier.finish(PullEnded(reason=self._ended))
        elif self._carrier is not None and self._first is not None:
            self._carrier.want(self._desired())

    async def _until_there(self) -> None:
        """Returns once there is a track to pull, or it is over: a publication may be about to be published."""
        while not self._prospect.look().sids[0]:
            self._refuse()
            if self._ended is not None:
                return
            await self._prospect.live.until(
                lambda: bool(self._prospect.look().sids[0]) or self._ended is not None or self._refusal is not None,
                _LOOK_S,
            )
        self._refuse()

    def _is_over(self) -> bool:
        return self._prospect.look().ended is not None

    def _desired(self) -> PullDesired:
        prospect = self._prospect
        track = prospect.track
        if track is None:
            assert self._first is not None
            away = PullDesired()
            away.CopyFrom(self._first)
            away.track_sid = ""
            return away
        result = wanted.desired(self._request, track, prospect.sound, self._first)
        if self._brought_s:
            away_s = asyncio.get_running_loop().time() - self._brought_s
            result.position_us = self._position_us + 1 + round(away_s * 1e6)
        result.stats.CopyFrom(self._stats)
        return result

    def _refuse(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _give_up(self, tries: int) -> None:
        """Raises WorkerUnavailable where a session that was lost is not followed by another."""
        if self._request.container:
            raise WorkerUnavailable(
                "the session that pulled the track was lost: what was sent of the container ends here",
                retry_delay_s=_RETRY_S,
            )
        if tries > _TRIES:
            raise WorkerUnavailable("the sessions that pull the track are lost again and again", retry_delay_s=_RETRY_S)
        log.warning("pull_taken_up_again", room=self._prospect.live.name, tries=tries)

    def _last_word(self) -> bytes:
        assert self._ended is not None
        ended = PullEnded(reason=self._ended, stats=self._stats)
        return PullMediaResponse(ended=ended).SerializeToString()
