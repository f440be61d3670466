"""ListTracks against the floor: a bare servicer that returns the same bytes."""

import base64
from typing import Any, Final

from bench.concerns import costs
from bench.figures import Figure, at_least, told
from bench.rounds import interleaved, ratios, spread
from bench.stand import TRACKS, Stand
from track.v1 import tracks_pb2

_PATH: Final = "/track.v1.TrackService/ListTracks"
_CONCURRENCY: Final = 32
_GOAL: Final = 0.8


async def measure(stand: Stand) -> list[Figure]:
    """ListTracks of a watched room with 10 tracks, and what each concern of its way costs."""
    async with (
        stand.populated() as (room, sids),
        stand.track_service({"TRACK_MEDIA_WORKERS": "0"}) as track,
        stand.client("bench.peers") as reader,
        stand.client("bench.load") as load,
        stand.server("bench.bare") as bare,
    ):
        token = stand.token("bench", room=room, room_join=True)
        await reader.ask("watch", address=track.address, token=token, room=room)
        request = base64.b64encode(tracks_pb2.ListTracksRequest(room=room).SerializeToString()).decode()

        async def calls(address: str, pid: int, seconds: float = stand.effort.seconds) -> Any:
            return await load.ask(
                "calls",
                address=address,
                path=_PATH,
                token=token,
                request=request,
                pid=pid,
                concurrency=_CONCURRENCY,
                seconds=seconds,
            )

        answer = (await calls(track.address, track.pid, 0.5))["answer"]
        _check(base64.b64decode(answer), sids)
        floor = await bare.ask("serve", unary={"ListTracks": answer}, streams={})
        await calls(floor, bare.pid, 0.5)
        ours, bares = await interleaved(
            stand.effort.rounds, lambda: calls(track.address, track.pid), lambda: calls(floor, bare.pid)
        )
        lines = sum(entry.get("event") == "call" for entry in track.log())

    def of(rounds: list[Any], name: str) -> list[float]:
        return [each[name] for each in rounds]

    ratio = ratios(of(ours, "rate"), of(bares, "rate"))
    cpu_ours, cpu_bare = spread(of(ours, "cpu_us")), spread(of(bares, "cpu_us"))
    note = (
        f"{TRACKS} tracks, {len(base64.b64decode(answer))} bytes, token mode, {lines} log lines written;"
        f" {_CONCURRENCY} calls at a time over 4 connections from a client process on the other core;"
        f" {stand.effort.rounds} interleaved rounds, ratio {ratio};"
        f" calls per second {spread(of(ours, 'rate'))} against {spread(of(bares, 'rate'))};"
        f" processor time a call {cpu_ours} us against {cpu_bare} us,"
        f" ratio {ratios(of(bares, 'cpu_us'), of(ours, 'cpu_us'))};"
        f" p99 {spread(of(ours, 'p99_ms'))} ms against {spread(of(bares, 'p99_ms'))} ms"
    )
    figures = [at_least("ListTracks against a bare servicer: throughput", ratio.median, "ratio", _GOAL, note)]
    for name, cost in await costs(stand, room):
        figures.append(told(f"ListTracks, cost of {name}", cost.median, "us a call", f"in process, warm: {cost}"))
    return figures


def _check(answer: bytes, sids: list[str]) -> None:
    listed = tracks_pb2.ListTracksResponse.FromString(answer)
    if {track.sid for track in listed.tracks} != set(sids):
        raise AssertionError(f"ListTracks lists {len(listed.tracks)} tracks, not those of the room")
