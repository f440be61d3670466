"""Three times the calls that the server is told to take: how soon the rest is refused, and what is served meanwhile.

ListTracks of a watched room, which is about the cheapest call there is and so the hardest case: a refusal passes the
same gRPC and costs nearly as much. Where 3 L calls come, a core that needs s for a served call and r for a refused one
keeps up with a limit L of at most 1 / (s + 2 r). Both are measured first; L is set to four fifths of that, and told.
The peak is what is served of calls just within L.
"""

import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from bench.figures import Figure, at_least, at_most, told
from bench.rounds import interleaved, ratios, spread
from bench.stand import Stand
from tests.track_process import TrackProcess
from track.v1 import tracks_pb2

_PATH: Final = "/track.v1.TrackService/ListTracks"
_OVERLOAD: Final = 3
_WITHIN: Final = 0.95
_SHARE: Final = 0.8
_PROBE_RATE: Final = 1500.0
# By then the bucket, full after the pause before, is empty: it holds a second's worth and is drained at twice its rate.
_WARM_UP_S: Final = 1.0
_GOAL: Final = 0.9
_GOAL_MS: Final = 50.0


async def measure(stand: Stand) -> list[Figure]:
    """Open loop: the calls come at their rate whether the server keeps up or not."""
    seconds = stand.effort.seconds
    async with stand.client("bench.offered") as load:
        room = await stand.room()
        token = stand.token("bench", room=room, room_join=True)
        request = base64.b64encode(tracks_pb2.ListTracksRequest(room=room).SerializeToString()).decode()

        async def offer(track: Any, rate: float) -> Any:
            return await load.ask(
                "offer",
                address=track.address,
                path=_PATH,
                token=token,
                request=request,
                pid=track.pid,
                rate=rate,
                warm_up_s=_WARM_UP_S,
                seconds=seconds,
            )

        async with _service(stand, room, token, {}) as track:
            serving = await offer(track, _PROBE_RATE)
        async with _service(stand, room, token, {"TRACK_MAX_REQUESTS_PER_SECOND": "1"}) as track:
            refusing = await offer(track, _PROBE_RATE)
        serve_s, refuse_s = serving["busy"] / serving["goodput"], refusing["busy"] / refusing["refusals"]
        limit = int(_SHARE / (serve_s + (_OVERLOAD - 1) * refuse_s))
        async with _service(stand, room, token, {"TRACK_MAX_REQUESTS_PER_SECOND": str(limit)}) as track:
            within, beyond = await interleaved(
                stand.effort.rounds,
                lambda: offer(track, limit * _WITHIN),
                lambda: offer(track, limit * _OVERLOAD),
            )

    def of(rounds: list[Any], name: str) -> list[float]:
        return [each[name] for each in rounds]

    ratio = ratios(of(beyond, "goodput"), of(within, "goodput"))
    refused = spread(of(beyond, "refused_p95_ms"))
    note = (
        "open loop over 8 connections from a client process on the other core,"
        f" {stand.effort.rounds} interleaved rounds of {seconds:g} s; the limit is {limit} calls a second,"
        f" {limit * serve_s:.2f} of what the core serves at most; offered {spread(of(within, 'offered'))} and"
        f" {spread(of(beyond, 'offered'))}, served {spread(of(within, 'goodput'))} and {spread(of(beyond, 'goodput'))}"
        f" a second, ratio {ratio}; p95 of refusals {refused} ms, of served calls {spread(of(beyond, 'served_p95_ms'))}"
        f" ms, and {spread(of(within, 'served_p95_ms'))} ms without overload; share of the core"
        f" {spread(of(beyond, 'busy'))}"
    )
    costs = f"processor time at {_PROBE_RATE:g} calls a second, gRPC included; served: {serve_s * 1e6:.0f} us"
    return [
        at_most("Overload of 3 times the limit: p95 of refusals", refused.median, "ms", _GOAL_MS, note),
        at_least("Overload of 3 times the limit: goodput against the peak", ratio.median, "ratio", _GOAL, note),
        told("A refused ListTracks", refuse_s * 1e6, "us", costs),
    ]


@contextlib.asynccontextmanager
async def _service(stand: Stand, room: str, token: str, settings: dict[str, str]) -> AsyncIterator[TrackProcess]:
    """TrackService with that room watched."""
    async with (
        stand.track_service({"TRACK_MEDIA_WORKERS": "0", **settings}) as track,
        stand.client("bench.peers") as reader,
    ):
        await reader.ask("watch", address=track.address, token=token, room=room)
        yield track
