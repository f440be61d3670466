"""The tracks of one publication: the one that is wanted, and for a while beside it the one that it takes over from."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Final

import structlog

from track.media.v1.media_service_pb2 import (
    HOSTED_TRACK_STATE_FAILED,
    HOSTED_TRACK_STATE_PUBLISHED,
    DesiredTrack,
    HostedTrackReport,
    HostedTrackStats,
)
from track.v1.track_pb2 import TrackType
from track_server.flow import Flow, gap_ms
from track_server.media.carriers import Carrier
from track_server.media.hosted import HostedTrack
from track_server.media.options import track_type

log = structlog.get_logger(__name__)

_LOOK_S: Final = 0.02
"""How often the SDK's statistics are read while one track takes over. WebRTC itself keeps them for up to 50 ms."""
_LOOK_AT_MOST_S: Final = 10.0

Begin = Callable[
    [DesiredTrack, HostedTrack | None, HostedTrack | None, Callable[[HostedTrack], None]],
    HostedTrack,
]
"""Begins a track: what is desired, what must be taken away first, whose input it may share, and whom it tells."""


class Succession:
    """Follows what is desired of one publication. `changed` is called when there is something new to report.

    ``closing`` runs what takes a track away.
    """

    def __init__(
        self,
        desired: DesiredTrack,
        begin: Begin,
        closing: Callable[[Coroutine[None, None, None]], None],
        changed: Callable[["Succession"], None],
    ) -> None:
        self._begin = begin
        self._closing = closing
        self._changed = changed
        self._keep = desired.keep_previous
        self._previous: HostedTrack | None = None
        self._gap_ms: float | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._current = begin(desired, None, None, self.track_changed)

    @property
    def desired(self) -> DesiredTrack:
        """What is desired now."""
        return self._current.desired

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""
        return self._current.over and self._previous is None

    def tracks(self) -> list[HostedTrack]:
        """Those that are there, the one that is wanted last."""
        return [self._current] if self._previous is None else [self._previous, self._current]

    def carriers(self) -> list[Carrier]:
        """What carries those that are published, the one that is wanted last."""
        return [carrier for track in self.tracks() if (carrier := track.carrier) is not None]

    def report(self) -> HostedTrackReport:
        """What there is to say about it."""
        previous = self._previous.carrier if self._previous is not None else None
        waiting = self._current.state not in (HOSTED_TRACK_STATE_FAILED, HOSTED_TRACK_STATE_PUBLISHED)
        if self._previous is not None and previous is not None and waiting:
            return self._previous.report()
        report = self._current.report()
        if previous is not None:
            report.previous_track_sid = previous.sid
        if self._gap_ms is not None and self._current.state == HOSTED_TRACK_STATE_PUBLISHED:
            report.gap_ms = self._gap_ms
        return report

    def want(self, desired: DesiredTrack) -> None:
        """Takes over what is desired."""
        self._keep = desired.keep_previous
        desired.attempt = max(desired.attempt, self.tracks()[0].desired.attempt)
        if self._previous is not None and desired.attempt == self._previous.desired.attempt:
            # It is not to be replaced after all.
            self._close(self._current)
            self._current, self._previous = self._previous, None
        known = self._current.desired
        if desired.attempt > known.attempt:
            self._replace(desired, keep=desired.keep_previous)
        else:
            self._take_over(desired)
        self._release()

    def again(self) -> None:
        """Publishes what is wanted once more; what is there goes first."""
        self._replace(self._current.desired, keep=False)

    async def aclose(self) -> None:
        """Takes everything away. May be called twice."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait([self._measuring])
        await asyncio.gather(*(track.aclose() for track in self.tracks()))

    def track_changed(self, track: HostedTrack) -> None:
        """One of its tracks has another state."""
        if track is self._previous and track.over:
            # By itself: its input has ended, or LiveKit took it away.
            self._previous = None
        elif track is not self._current:
            return
        self._release()
        self._changed(self)

    def _take_over(self, desired: DesiredTrack) -> None:
        known = self._current.desired
        told = desired.change > known.change
        desired.change = max(desired.change, known.change)
        if self._previous is not None or self._current.carrier is None:
            # Else it is muted by LiveKit's API, as anybody's.
            for track in self.tracks():
                track.mute(desired.muted)
        elif desired.unmute_time_us > known.unmute_time_us:
            self._current.carrier.mute(False)
        if not told:
            self._current.desired = desired
            return
        self._current.change(desired)
        if self._current.state == HOSTED_TRACK_STATE_PUBLISHED:
            self._changed(self)

    def _replace(self, desired: DesiredTrack, *, keep: bool) -> None:
        live = next((track for track in self.tracks() if track.carrier is not None), None)
        self._gap_ms = None
        for track in self.tracks():
            if track is not live and track is not self._current:
                self._close(track)
        if keep and live is not None and _distinct(live, desired):
            if live is not self._current:
                self._close(self._current)
            self._previous = live
            self._current = self._begin(desired, None, live, self.track_changed)
        else:
            if live is not None and live is not self._current:
                self._close(live)
            self._previous = None
            self._current = self._begin(desired, self._current, None, self.track_changed)
        if live is not None and live.carrier is not None:
            if self._measuring is not None:
                self._measuring.cancel()
            self._measuring = asyncio.create_task(self._measure(live.carrier, self._current), name="gap")

    def _release(self) -> None:
        """Takes the earlier one away, once the other one is there and nobody wants to keep both."""
        if self._previous is None or self._keep or self._current.state != HOSTED_TRACK_STATE_PUBLISHED:
            return
        self._close(self._previous)
        self._previous = None

    def _close(self, track: HostedTrack) -> None:
        async def close() -> None:
            await track.aclose()
            self._changed(self)

        self._closing(close())

    async def _measure(self, old: Carrier, current: HostedTrack) -> None:
        """Finds out for how long nothing was sent."""
        try:
            async with asyncio.timeout(_LOOK_AT_MOST_S):
                found = await _gap_ms(old, current)
        except Exception as error:  # noqa: BLE001 - the SDK's own: a track that has just gone may have no statistics
            log.info("gap_not_measured", publication_id=current.desired.publication_id, cause=repr(error))
            return
        if current is self._current and found is not None:
            self._gap_ms = found
            self._changed(self)


async def _gap_ms(old: Carrier, current: HostedTrack) -> float | None:
    before, after = Flow(), Flow()
    # Where the old one goes at once, that it was there until now is all that is ever seen of it.
    before.look(_sent(await old.stats()), time.monotonic())
    while not current.over:
        carrier = current.carrier
        if after.first_s is None and carrier is not None:
            after.look(_sent(await carrier.stats()), time.monotonic())
        if old.sid:
            before.look(_sent(await old.stats()), time.monotonic())
        elif after.first_s is not None:
            return gap_ms(before, after)
        await asyncio.sleep(_LOOK_S)
    return None


def _distinct(old: HostedTrack, new: DesiredTrack) -> bool:
    """Whether both can be in the room at once: LiveKit has one data track of a name."""
    return track_type(new.spec) != TrackType.TRACK_TYPE_DATA or old.name != new.spec.name


def _sent(stats: HostedTrackStats) -> int:
    """Frames, of sound packets, that went out."""
    if stats.HasField("data"):
        return stats.data.frames_pushed
    if any(stream.HasField("frames_sent") for stream in stats.streams):
        return sum(stream.frames_sent for stream in stats.streams)
    return sum(stream.packets_sent for stream in stats.streams)
