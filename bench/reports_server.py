"""StreamQualityReports behind the real chain, in a process of its own, with a clock for the reports that runs fast.

The contract does not let reports come more often than once a second. So that they come as fast as they can be sent, the
seconds of this server's reports are short ones: everything but that clock is what `serve` runs. Alerts are left out.
"""

import contextlib
from pathlib import Path
from typing import Final

import uvloop
from grpc import aio
from prometheus_client import CollectorRegistry

from bench.processes import obey
from track.v1.track_service_pb2_grpc import add_TrackServiceServicer_to_server
from track_server.access.grants import GrantAccess
from track_server.access.tokens import TokenAuthenticator
from track_server.config.limits import LimitSettings
from track_server.interceptors.chain import Chain, ChainedServer
from track_server.interceptors.drain import DrainSwitch
from track_server.interceptors.streams import OpenStreams
from track_server.keys import ApiKey, KeyRing
from track_server.limits.connection import FIXED_OPTIONS
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.logs import EventWriter
from track_server.quality.clock import Moment, SystemClock
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.quality import Quality
from track_server.quality.streaming.followed import following
from track_server.quality.streaming.streams import Streams
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.servicer.quality import QualityReports
from track_server.store.sqlite import SqliteStore

_PATIENCE_S: Final = 3600.0


class FastClock:
    """A clock whose seconds are as long as it is told, at first as the machine's."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._since = self._system.now()
        self._begin = self._since
        self._second_s = 1.0

    def pace(self, second_s: float) -> None:
        """From now on a second takes ``second_s`` of the machine's."""
        self._begin, self._since = self.now(), self._system.now()
        self._second_s = second_s

    def now(self) -> Moment:
        """This moment."""
        passed = (self._system.now().monotonic_s - self._since.monotonic_s) / self._second_s
        return Moment(self._begin.time_s + passed, self._begin.monotonic_s + passed)

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds`` of this clock."""
        await self._system.sleep(seconds * self._second_s)


class Reports(QualityReports):
    """TrackService with this one capability."""

    def __init__(self, rooms: Rooms, quality: Quality, quality_streams: Streams) -> None:
        self.rooms = rooms
        self.quality = quality
        self.quality_streams = quality_streams


class Server:
    """Started by its first command."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._clock = FastClock()

    async def serve(self, url: str, http_url: str, key: str, secret: str, directory: str, streams: int) -> str:
        """Serves; returns the address. ``streams``: at most, at once."""
        enter = self._stack.enter_async_context
        tokens = TokenMint(key, secret)
        api = await enter(LiveKitApi(http_url, tokens))
        store = await enter(SqliteStore(Path(directory) / "reports.sqlite3"))
        rooms = await enter(Rooms(url, api, tokens, linger_s=30, max_events=1000, transport_timeout_s=10))
        log = self._stack.enter_context((Path(directory) / "reports.log").open("wb"))
        draining = DrainSwitch(OpenStreams(None))
        chain = await enter(
            Chain(
                authenticator=TokenAuthenticator(KeyRing(ApiKey(key, secret))),
                access=GrantAccess(Reader(rooms, api).participant),
                limits=LimitSettings(max_streams_per_principal=streams, max_streams_per_room=streams),
                store=store,
                registry=CollectorRegistry(),
                draining=draining,
                events=EventWriter("info", log),
            )
        )
        assessing = await enter(Assessing(rooms))
        rooms.listen(assessing.happened)
        quality_streams = await enter(
            # Nobody is cut off: a writer has to wait here.
            Streams(following(assessing, lambda _: ()), clock=self._clock, patience_s=_PATIENCE_S)
        )
        servicer = Reports(rooms, Quality(assessing), quality_streams)  # type: ignore[abstract]  # it serves the one RPC
        server = ChainedServer(aio.server(options=FIXED_OPTIONS), chain)
        add_TrackServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        self._stack.callback(draining.end_streams)
        return f"127.0.0.1:{port}"

    async def pace(self, second_s: float) -> None:
        """From now on a second of the reports takes so long."""
        self._clock.pace(second_s)

    async def aclose(self) -> None:
        """Ends it. May be called twice."""
        await self._stack.aclose()


async def _main() -> None:
    server = Server()
    try:
        await obey({"serve": server.serve, "pace": server.pace})
    finally:
        await server.aclose()


if __name__ == "__main__":
    uvloop.run(_main())
