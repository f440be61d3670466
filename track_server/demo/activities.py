"""What the demo does with TrackService while it shows it: publish, subscribe the viewer, watch, and take reports."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import grpc

from track_server.demo.board import Board
from track_server.demo.client import Client, reason_of
from track_server.demo.programme import Item, programme
from track_server.demo.viewing import VIEWER
from track_server.demo.wording import subscription_word

_LOOK_S: Final = 0.1
_AGAIN_S: Final = 1.0


class Activities:
    """Tells the board what comes of it. ``publish_s``: how long PublishTrack waits for a track to be live."""

    def __init__(self, board: Board, calls: Client, publish_s: float) -> None:
        self._board = board
        self._calls = calls
        self._publish_s = publish_s
        self._watching = asyncio.Event()

    def all(self) -> list[Coroutine[Any, Any, None]]:
        """Each of them, to be run beside the others. They raise grpc.aio.AioRpcError where TrackService is gone."""
        return [self._watch(), self._follow_reports(), self._publish(), self._subscribe()]

    async def _watch(self) -> None:
        async for message in self._calls.watch():
            self._board.hear_event(message)
            self._watching.set()

    async def _follow_reports(self) -> None:
        async for message in self._calls.reports():
            self._board.hear_reports(message)

    async def _publish(self) -> None:
        # Watched first, so that the events of the beginning are shown too.
        await self._watching.wait()
        await asyncio.gather(*(self._publish_one(item) for item in programme()))

    async def _publish_one(self, item: Item) -> None:
        try:
            self._board.hear_publication(await self._calls.publish(item, self._publish_s))
        except grpc.aio.AioRpcError as error:
            self._problem(f"{item.spec.name} could not be published: {reason_of(error)}")

    async def _subscribe(self) -> None:
        """Have TrackService subscribe the viewer to every media track that appears."""
        while True:
            sids = self._board.to_subscribe()
            if sids:
                self._board.subscribed.update(dict.fromkeys(sids, "asked"))
                try:
                    for result in await self._calls.subscribe(VIEWER, sids):
                        outcome = subscription_word(result)
                        sid = result.subscription.track_sid
                        self._board.subscribed[sid] = outcome
                        self._board.note("subscribed", f"{VIEWER} to {self._board.name_of(sid)}: {outcome}")
                except grpc.aio.AioRpcError as error:
                    # A track may be gone by then; one that is there is asked for again.
                    self._board.note("problem", f"UpdateSubscriptions: {reason_of(error)}")
                    for sid in sids:
                        self._board.subscribed.pop(sid, None)
                    await asyncio.sleep(_AGAIN_S)
            await asyncio.sleep(_LOOK_S)

    def _problem(self, sentence: str) -> None:
        self._board.problems.append(sentence)
        self._board.note("problem", sentence)
