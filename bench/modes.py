"""What the auth modes cost over `off`, with decisions that are known and with ones that must be made."""

import base64
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.figures import Figure, at_least, told
from bench.processes import pinned
from bench.rounds import Spread, ratios, spread
from bench.stand import Stand
from tests.permission_process import PermissionProcess
from tests.track_process import TrackProcess
from track.v1 import tracks_pb2

_PATH: Final = "/track.v1.TrackService/ListTracks"
_CONCURRENCY: Final = 32
_GOAL: Final = 0.9
# More than a server keeps: each is unknown again when its turn comes round.
_FRESH: Final = "fresh"
_TOKENS: Final = 6000
_KEPT: Final = '[[rule]]\nname = "all"\nwhen = "true"\nlifetime = "5m"\n'
_NOT_KEPT: Final = '[[rule]]\nname = "all"\nwhen = "true"\nlifetime = "0s"\n'


@dataclass(frozen=True, slots=True)
class _Side:
    """One way to be let in."""

    track: TrackProcess
    token: str


async def measure(stand: Stand) -> list[Figure]:
    """ListTracks of a watched room in every mode, in turn, against `off` in the same round."""
    async with (
        stand.populated() as (room, _),
        _sides(stand, room) as sides,
        stand.client("bench.load") as load,
        contextlib.AsyncExitStack() as stack,
    ):
        livekit = stand.livekit
        await load.ask(
            "make_tokens", name=_FRESH, count=_TOKENS, key=livekit.api_key, secret=livekit.api_secret, room=room
        )
        request = base64.b64encode(tracks_pb2.ListTracksRequest(room=room).SerializeToString()).decode()
        for side in sides.values():
            reader = await stack.enter_async_context(stand.client("bench.peers"))
            await reader.ask("watch", address=side.track.address, token=_own(stand, room), room=room)

        async def calls(side: _Side, seconds: float = stand.effort.seconds) -> Any:
            return await load.ask(
                "calls",
                address=side.track.address,
                path=_PATH,
                token=side.token,
                request=request,
                pid=side.track.pid,
                concurrency=_CONCURRENCY,
                seconds=seconds,
            )

        rounds: dict[str, list[Any]] = {name: [] for name in sides}
        for side in sides.values():
            await calls(side, 0.5)
        for number in range(stand.effort.rounds):
            # Who goes first changes from round to round.
            names = list(sides)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                rounds[name].append(await calls(sides[name]))
    return [_figure(name, of, rounds["off"]) for name, of in rounds.items() if name != "off"]


@contextlib.asynccontextmanager
async def _sides(stand: Stand, room: str) -> AsyncIterator[Mapping[str, _Side]]:
    async with contextlib.AsyncExitStack() as stack:
        own = _own(stand, room)

        async def track(settings: Mapping[str, str]) -> TrackProcess:
            return await stack.enter_async_context(stand.track_service({"TRACK_MEDIA_WORKERS": "0", **settings}))

        async def decided(name: str, rules: str) -> TrackProcess:
            with pinned(stand.client_cpus):
                service = await stack.enter_async_context(PermissionProcess(stand.directory / name, rules))
            return await track(service.track_settings)

        by_token = await track({})
        yield {
            "off": _Side(await track({"TRACK_AUTH_MODE": "off"}), own),
            "token, known": _Side(by_token, own),
            "token, a new one at each call": _Side(by_token, _FRESH),
            "service, known": _Side(await decided("kept", _KEPT), own),
            "service, nothing kept": _Side(await decided("not-kept", _NOT_KEPT), own),
        }


def _own(stand: Stand, room: str) -> str:
    return stand.token("bench", room=room, room_join=True)


def _figure(name: str, rounds: list[Any], off: list[Any]) -> Figure:
    ratio = ratios([each["rate"] for each in rounds], [each["rate"] for each in off])
    note = (
        f"ListTracks, {_CONCURRENCY} at a time from a client process on the other core; {len(rounds)} rounds, ratio"
        f" {ratio}; calls per second {_of(rounds, 'rate')} against {_of(off, 'rate')}; processor time a call"
        f" {_of(rounds, 'cpu_us')} us against {_of(off, 'cpu_us')} us; p99 {_of(rounds, 'p99_ms')} ms"
    )
    figure = f"Mode {name}: throughput against mode off"
    if name.endswith("known"):
        return at_least(figure, ratio.median, "ratio", _GOAL, note)
    if name.startswith("service"):
        note += "; calls at the same time are the same question here, which is then asked once for all of them"
    return told(figure, ratio.median, "ratio", note)


def _of(rounds: list[Any], name: str) -> Spread:
    return spread([each[name] for each in rounds])
