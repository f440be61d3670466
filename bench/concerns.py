"""What each concern of the chain costs a ListTracks: the chain is peeled, concern by concern, and each peel timed."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Any, Final

from prometheus_client import CollectorRegistry

from bench.rounds import Spread, spread
from bench.stand import UNLIMITED, Stand
from track.v1 import track_service_pb2, tracks_pb2
from track_server.access.grants import GrantAccess
from track_server.access.tokens import TokenAuthenticator
from track_server.config.limits import LimitSettings
from track_server.interceptors.chain import Chain
from track_server.interceptors.context import Call, CallIds, entry
from track_server.interceptors.drain import DrainSwitch
from track_server.interceptors.handlers import adapted
from track_server.interceptors.method import Method, declared
from track_server.interceptors.streams import OpenStreams
from track_server.keys import ApiKey, KeyRing
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.logs import EventWriter
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.servicer.tracks import Tracks
from track_server.store.sqlite import SqliteStore

_CALLS: Final = 2_000
_ROUNDS: Final = 9

Step = tuple[str, Callable[[], Awaitable[Any]]]


async def costs(stand: Stand, room: str) -> list[tuple[str, Spread]]:
    """Microseconds of processor time that each concern adds to a call, outermost first, then the answer itself.

    In process, without gRPC, warm: the concerns' own work, and not what they cost each other in the caches.
    """
    async with _steps(stand, room) as steps:
        taken: dict[str, list[float]] = {name: [] for name, _ in steps}
        for _ in range(_ROUNDS):
            for name, step in steps:
                taken[name].append(await _time(step))
    names = [name for name, _ in steps]
    result = []
    for index, name in enumerate(names):
        inner = taken[names[index + 1]] if index + 1 < len(names) else [0.0] * _ROUNDS
        result.append((name, spread([a - b for a, b in zip(taken[name], inner, strict=True)])))
    return result


async def _time(step: Callable[[], Awaitable[Any]]) -> float:
    begun = time.process_time()
    for _ in range(_CALLS):
        await step()
    return (time.process_time() - begun) / _CALLS * 1e6


@contextlib.asynccontextmanager
async def _steps(stand: Stand, room: str) -> AsyncIterator[list[Step]]:
    """The way of a call from each concern inwards, the whole chain first and the servicer last."""
    livekit = stand.livekit
    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(LiveKitApi(livekit.http_url, tokens))
        rooms = await stack.enter_async_context(
            Rooms(livekit.url, api, tokens, linger_s=0, max_events=1000, transport_timeout_s=10)
        )
        store = await stack.enter_async_context(SqliteStore(stand.directory / "concerns.sqlite3"))
        log: IO[bytes] = stack.enter_context((stand.directory / "concerns.log").open("wb"))
        chain = await stack.enter_async_context(
            Chain(
                authenticator=TokenAuthenticator(KeyRing(ApiKey(livekit.api_key, livekit.api_secret))),
                access=GrantAccess(Reader(rooms, api).participant),
                limits=LimitSettings(**UNLIMITED),
                store=store,
                registry=CollectorRegistry(),
                draining=DrainSwitch(OpenStreams(None)),
                events=EventWriter("info", log),
            )
        )
        await stack.enter_async_context(rooms.watch(room))
        context = _Context(stand.token("bench", room=room, room_join=True))
        request = tracks_pb2.ListTracksRequest(room=room)
        servicer = _Tracks(Reader(rooms, api))  # type: ignore[abstract]  # it serves the one RPC
        yield _peeled(chain, _method(), servicer, request, context)


def _peeled(
    chain: Chain, method: Method, servicer: Tracks, request: tracks_pb2.ListTracksRequest, context: Any
) -> list[Step]:
    raw = request.SerializeToString()
    call = Call(method, context)
    handler = adapted(method, servicer.ListTracks)

    def renewed() -> Call:
        # A call that began long ago would find no token in buckets from which later ones took.
        call.started = time.monotonic()
        return call

    steps: list[Step] = [("the answer", lambda: servicer.ListTracks(request, context))]
    decoded = False
    for name, concern in reversed(chain.concerns):
        handler = concern.wrap(method, handler)
        decoded = decoded or name == "messages"
        given = raw if decoded else request
        steps.append((name, lambda handler=handler, given=given: handler(given, renewed())))  # type: ignore[misc]
        if name == "authorisation":
            call.room = request.room
    whole = entry(method, handler, CallIds())
    steps.append(("the call's context", lambda: whole(raw, context)))
    steps.reverse()
    return steps


def _method() -> Method:
    descriptor = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods_by_name["ListTracks"]
    return declared(
        descriptor, tracks_pb2.ListTracksRequest.FromString, tracks_pb2.ListTracksResponse.SerializeToString
    )


class _Tracks(Tracks):
    """The servicer with nothing else in it."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader


class _Context:
    """What gRPC's context tells the chain."""

    def __init__(self, token: str) -> None:
        self._metadata = (("user-agent", "bench"), ("authorization", f"Bearer {token}"))

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def time_remaining(self) -> None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:40000"

    def code(self) -> int:
        return 0

    async def write(self, message: Any) -> None:
        raise AssertionError("a unary call writes nothing")
