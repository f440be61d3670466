"""One caller's stream of frames: read as fast as the track takes them, and answered."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from track.v1 import publication_pb2, push_pb2
from track_server.errors import PermissionDenied, PublicationEnded, PushInProgress
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.push.feed import Feed, Taker
from track_server.publishing.push.window import Credit

_STATS_S: Final = 1.0
_LEAST_CREDIT: Final = 8
"""Credit is told by the eighth of the whole, not frame by frame."""
_LAST_WORD_S: Final = 60.0
"""What is on its way at the end of the media is at most 2 s long, but reliable messages take what the network takes:
1 MiB here and 2 MiB in the SDK. After so long it ends all the same."""


class PushStream:
    """Pushes the frames of ``requests``, whose first message was read already, into ``feed``."""

    def __init__(self, feed: Feed, requests: AsyncIterator[push_pb2.PushMediaRequest]) -> None:
        self._loop = asyncio.get_running_loop()
        self._feed = feed
        self._requests = requests
        self._woken = asyncio.Event()
        self._credit = Credit(feed.window_bytes)
        self._least = feed.window_bytes // _LEAST_CREDIT
        self._taker = Taker(self._woken.set, self._freed, self._loop.time())
        self._media_ended = False

    async def answers(self) -> AsyncGenerator[push_pb2.PushMediaResponse]:
        """What the caller is told. Ends when the caller ends the stream, or the media.

        Raises PushInProgress, PublicationEnded, PermissionDenied where the permission to publish it was taken away, and
        what is wrong with a frame.
        """
        feed, taker = self._feed, self._taker
        last_timestamp_us = feed.sequence.last_timestamp_us
        resumed = feed.begin(taker)
        try:
            while not feed.ready:
                self._refuse_over()
                await self._wait(None)
            ready = push_pb2.PushReady(publication=feed.publication, resumed=resumed, credit=self._more(1))
            if last_timestamp_us is not None:
                ready.last_timestamp_us = last_timestamp_us
            yield push_pb2.PushMediaResponse(ready=ready)
            async with aclosing(self._push()) as answers:
                async for answer in answers:
                    yield answer
        finally:
            feed.leave(taker)

    async def _push(self) -> AsyncGenerator[push_pb2.PushMediaResponse]:
        feed, taker = self._feed, self._taker
        reader = asyncio.create_task(self._read(), name=f"push {feed.publication.publication_id}")
        reader.add_done_callback(lambda _: self._woken.set())
        stats_at = self._loop.time() + _STATS_S
        try:
            while not reader.done():
                self._refuse_over()
                if credit := self._more(self._least):
                    yield push_pb2.PushMediaResponse(credit=credit)
                if taker.keyframe_wanted:
                    taker.keyframe_wanted = False
                    yield push_pb2.PushMediaResponse(keyframe_request=push_pb2.KeyframeRequest())
                if (bitrate := taker.bitrate) is not None:
                    taker.bitrate = None
                    request = push_pb2.BitrateRequest(target_bitrate_bps=bitrate.bits_per_second)
                    if bitrate.frames_per_second:
                        request.frames_per_second = bitrate.frames_per_second
                    yield push_pb2.PushMediaResponse(bitrate_request=request)
                if self._loop.time() >= stats_at:
                    stats_at = self._loop.time() + _STATS_S
                    yield push_pb2.PushMediaResponse(stats=feed.stats())
                await self._wait(stats_at)
            reader.result()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if self._media_ended:
            await self._play_out()
        yield push_pb2.PushMediaResponse(stats=feed.stats())

    async def _read(self) -> None:
        feed, taker = self._feed, self._taker
        await feed.open()
        async for request in self._requests:
            taker.heard = self._loop.time()
            if request.HasField("end"):
                self._media_ended = True
                await feed.finish()
                return
            frame = feed.sequence.check(request)
            self._credit.used(len(frame.data))
            feed.send(frame)
            await feed.open()
            taker.heard = self._loop.time()

    async def _play_out(self) -> None:
        deadline = self._loop.time() + _LAST_WORD_S
        while self._feed.publication.state != ENDED and self._loop.time() < deadline:
            await self._wait(deadline)
        await self._feed.end("the media ended")

    def _more(self, least: int) -> push_pb2.PushCredit | None:
        more = self._credit.more(self._feed.on_the_way, least=least)
        return push_pb2.PushCredit(bytes=more) if more else None

    def _freed(self) -> None:
        if self._credit.due(self._feed.on_the_way) >= self._least:
            self._woken.set()

    def _refuse_over(self) -> None:
        publication = self._feed.publication
        if self._taker.displaced:
            raise PushInProgress("another stream has taken the place of this one, which was silent")
        if publication.state == ENDED and not self._media_ended:
            if publication.end_cause == publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED:
                raise PermissionDenied("the permission to publish was taken away")
            cause = publication_pb2.PublicationEndCause.Name(publication.end_cause)
            raise PublicationEnded(
                f"the publication has ended: {cause.removeprefix('PUBLICATION_END_CAUSE_')}", field="publication_id"
            )

    async def _wait(self, deadline: float | None) -> None:
        """Until there is something to look at, or ``deadline``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._woken.wait()
        self._woken.clear()
