"""What the companion reports by itself: what the client decodes and receives, and what the app says of itself."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, TypeAlias

from livekit import rtc

from track_control.stats import messages
from track_control.tracks import Fields, Tracks, awaited

State: TypeAlias = Callable[[], Fields | Awaitable[Fields]]
"""Gives a SubscriberState, as far as the app knows."""

CODECS: Final = ["vp8", "h264", "vp9", "av1", "opus"]
TOPIC: Final = "track.state.v1"
_LOOK_S: Final = 0.5  # the SDK has no event for the size of pictures
_VIDEOS: Final = 50  # in one message, which may have 15 KiB
_BLANK: Final = 8  # the edge of what is decoded of a track that was unpublished
_STATS_PER_S: Final = 16_384  # bytes: half of what the service takes from one client

log = logging.getLogger("track_control")


class StateReports:
    """Reports of one room, to whom the service says. ``state``: what the app adds."""

    def __init__(self, room: rtc.Room, tracks: Tracks, state: State | None) -> None:
        self._room, self._tracks, self._state = room, tracks, state
        self._running: list[asyncio.Task[None]] = []
        self._decoded: dict[str, tuple[int, float]] = {}  # by track: pictures decoded at that time
        self._came: dict[str, rtc.Track] = {}  # by SID: the track of which something has come

    async def report_state(self, fields: Fields) -> Fields:
        """From now on, in the place of before; without a destination no more."""
        await self.aclose()
        if to := fields.get("destinationIdentity"):
            self._begin(self._run(to, _seconds(fields.get("interval", "5s"))))
            if every := fields.get("statsInterval"):
                self._begin(self._measure(to, _seconds(every)))
        return {}

    async def aclose(self) -> None:
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._running.append(asyncio.create_task(work, name="track report_state"))

    async def _run(self, to: str, interval_s: float) -> None:
        before, due = None, 0.0
        while True:
            try:
                state = {"receiveCodecs": CODECS, **(await awaited(self._state()) if self._state else {})}
                received = await self._received()
                now = time.monotonic()
                shown = state, [{**each, "framesPerSecond": 0} for each in received]
                if self._room.isconnected() and (shown != before or now >= due):
                    before, due = shown, now + interval_s
                    await self._send(to, _messages(state, received))
            except Exception:
                log.warning("the state could not be reported", exc_info=True)
                await asyncio.sleep(interval_s)
            await asyncio.sleep(_LOOK_S)

    async def _measure(self, to: str, every_s: float) -> None:
        while True:
            begun, size = time.monotonic(), 0
            try:
                if self._room.isconnected():
                    size = await self._send(to, messages((await self._tracks.get_stats({}))["stats"]))
            except Exception:
                log.warning("the statistics could not be reported", exc_info=True)
            # Of many tracks they come less often: the service takes no flood.
            await asyncio.sleep(max(0.0, begun + max(every_s, size / _STATS_PER_S) - time.monotonic()))

    async def _send(self, to: str, texts: Iterable[str]) -> int:
        """How many bytes they were."""
        size = 0
        for text in texts:
            me, size = self._room.local_participant, size + len(text)
            await me.publish_data(text, reliable=True, destination_identities=[to], topic=TOPIC)
        return size

    async def _received(self) -> list[dict[str, Any]]:
        """ReceivedVideo of every video of which it can be told whether it is subscribed.

        The SDK hears nothing where the server takes a subscription away: what came before has no statistics any more.
        """
        found: list[dict[str, Any]] = []
        decoded: dict[str, tuple[int, float]] = {}
        came: dict[str, rtc.Track] = {}
        for remote in self._room.remote_participants.values():
            for publication in remote.track_publications.values():
                if publication.kind != rtc.TrackKind.KIND_VIDEO:
                    continue
                track = publication.track
                entries = await track.get_stats() if track is not None else []
                rtp = next((entry.inbound_rtp.inbound for entry in entries if entry.HasField("inbound_rtp")), None)
                if track is not None and (rtp is not None or self._came.get(publication.sid) is track):
                    came[publication.sid] = track
                elif publication.subscribed:
                    continue  # nothing has come of it yet
                one: dict[str, Any] = {"trackSid": publication.sid, "subscribed": rtp is not None}
                found.append(one)
                if rtp is None or rtp.frame_width <= _BLANK:
                    continue
                one |= {"width": rtp.frame_width, "height": rtp.frame_height}
                count, at = decoded[publication.sid] = rtp.frames_decoded, time.monotonic()
                if (last := self._decoded.get(publication.sid)) is not None:
                    one["framesPerSecond"] = round(max(0, count - last[0]) / (at - last[1]), 1)
        self._decoded, self._came = decoded, came
        return found


def _seconds(interval: object) -> float:
    return min(60.0, max(1.0, float(str(interval).removesuffix("s"))))


def _messages(state: Fields, received: list[dict[str, Any]]) -> Iterator[str]:
    """The state as StateReports."""
    views = state.get("viewports", [])
    for at in range(0, max(len(views), len(received), 1), _VIDEOS):
        part = {**(state if at == 0 else {}), "viewports": views[at : at + _VIDEOS]}
        yield json.dumps({"state": part, "received": received[at : at + _VIDEOS]}, separators=(",", ":"))
