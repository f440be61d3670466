"""A process that keeps rooms watched, as TrackService does, and does nothing else."""

import contextlib

import uvloop

from bench.processes import obey
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.rooms.rooms import Rooms


class Holding:
    """The rooms that this process watches."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()

    async def hold(self, url: str, http_url: str, key: str, secret: str, rooms: list[str]) -> list[int]:
        """Watches the rooms until it is told to leave; the sources of their freshness."""
        tokens = TokenMint(key, secret)
        api = await self._stack.enter_async_context(LiveKitApi(http_url, tokens))
        watched = await self._stack.enter_async_context(
            Rooms(url, api, tokens, linger_s=30, max_events=1000, transport_timeout_s=10)
        )
        return [(await self._stack.enter_async_context(watched.watch(room))).freshness().source for room in rooms]

    async def leave(self) -> None:
        """Lets go of all rooms."""
        await self._stack.aclose()


async def _main() -> None:
    holding = Holding()
    try:
        await obey({"hold": holding.hold, "leave": holding.leave})
    finally:
        await holding.leave()


if __name__ == "__main__":
    uvloop.run(_main())
