"""For how long media did not flow while one track took over from another: at the publisher, and at each subscriber."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Final, Self

from track.v1.publication_update_pb2 import MediaGap, SubscriberGap
from track_server.errors import LiveKitUnavailable
from track_server.flow import Flow, gap_ms
from track_server.lifetime import Closing, Tasks
from track_server.livekit.debug import DebugView, DownTrack
from track_server.pulse import Pulse

_PREPARE_S: Final = 0.5
"""Statistics come five times a second, and pictures more often."""
LOOK_S: Final = 0.02
"""How often the debug view is read meanwhile. It answers in 2 ms, and walks every room of the node."""


class SubscriberGaps:
    """What LiveKit sends each subscriber of the old track of it and of the new one. Pure: it is told what was seen.

    ``old_sid``, ``new_sid``: the tracks; the latter is set once it is known.
    """

    def __init__(self, old_sid: str) -> None:
        self.old_sid = old_sid
        self.new_sid = ""
        self._old: dict[str, Flow] = {}
        self._new: dict[str, Flow] = {}

    def look(self, down: Iterable[DownTrack], now_s: float) -> None:
        """Takes what the debug view shows at ``now_s``, seconds of any clock that never falls."""
        for copy in down:
            if copy.track_sid == self.old_sid and copy.bound and copy.packets and not copy.disabled:
                # What was sent before the first look is not news.
                flow = self._old.setdefault(copy.subscriber_identity, Flow(copy.packets))
                flow.look(copy.packets, now_s)
                self._new.setdefault(copy.subscriber_identity, Flow())
            elif self.new_sid and copy.track_sid == self.new_sid:
                self._new.setdefault(copy.subscriber_identity, Flow()).look(copy.packets, now_s)

    @property
    def receivers(self) -> frozenset[str]:
        """Who receives the old track, or did while it was looked at."""
        return frozenset(self._old)

    @property
    def flowing(self) -> frozenset[str]:
        """Who of them was seen being sent more of it: only then is it known when that ended."""
        return frozenset(identity for identity, flow in self._old.items() if flow.last_s is not None)

    @property
    def waiting(self) -> frozenset[str]:
        """Who of them was sent nothing of the new one yet."""
        return frozenset(identity for identity in self.receivers if self._new[identity].first_s is None)

    def message(self) -> list[SubscriberGap]:
        """As the contract has it, by identity."""
        return [
            SubscriberGap(
                participant_identity=identity,
                gap_ms=gap_ms(self._old[identity], self._new[identity]),
                resolution_ms=max(self._old[identity].longest_s, self._new[identity].longest_s) * 1e3,
            )
            for identity in sorted(self.receivers)
        ]


class GapWatch(Closing):
    """Reads the debug view over and over, from ``async with`` on. ``debug``: None where it is not turned on."""

    def __init__(self, debug: DebugView | None, room: str, old_sid: str, watcher_identity: str) -> None:
        self.gaps = SubscriberGaps(old_sid)
        self.down: Mapping[tuple[str, str], DownTrack] = {}
        """What was seen last, by SID of the track and identity of the subscriber."""
        self.at_first: Mapping[tuple[str, str], DownTrack] = {}
        """What was seen before anything was done."""
        self._debug = debug
        self._room = room
        self._watcher_identity = watcher_identity
        self._tasks = Tasks()
        self._looked = Pulse()

    @property
    def sees(self) -> bool:
        """Whether anything can be seen."""
        return self._debug is not None

    async def __aenter__(self) -> Self:
        if self._debug is not None:
            await self._look(self._debug)
            self.at_first = self.down
            self._tasks.spawn(self._run(self._debug), name=f"gaps {self._room}")
        return self

    async def aclose(self) -> None:
        """Looks no more. May be called twice."""
        await self._tasks.aclose()

    async def prepare(self) -> None:
        """Looks until all who receive the old track were seen being sent more of it, for a while at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PREPARE_S):
                while any(sid == self.gaps.old_sid and who not in self.gaps.flowing for sid, who in self.down):
                    await self._looked.wait()

    async def until_received(self, timeout_s: float) -> bool:
        """Waits until everybody that receives the old track was sent the new one; says whether that was seen."""
        return await self._looked.until(lambda: not self.gaps.waiting, timeout_s)

    def measured(self, publisher_ms: float | None) -> MediaGap | None:
        """What was found; None: nothing."""
        gap = MediaGap(publisher_ms=publisher_ms, subscribers=self.gaps.message())
        return gap if gap.ByteSize() else None

    async def _run(self, debug: DebugView) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look(debug)

    async def _look(self, debug: DebugView) -> None:
        try:
            down = await debug.down_tracks(self._room)
        except LiveKitUnavailable:
            return
        others = [copy for copy in down if copy.subscriber_identity != self._watcher_identity]
        self.gaps.look(others, time.monotonic())
        self.down = {(copy.track_sid, copy.subscriber_identity): copy for copy in others}
        self._looked.beat()
