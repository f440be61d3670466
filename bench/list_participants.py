"""ListTracks against the peer: livekit-api's `list_participants` of the same room."""

from typing import Any, Final

from bench.figures import Figure, at_least, at_most
from bench.rounds import interleaved, ratios, spread
from bench.stand import Stand

_CONCURRENCY: Final = 16
_THROUGHPUT_GOAL: Final = 3.0
_P99_GOAL: Final = 1 / 3


async def measure(stand: Stand) -> list[Figure]:
    """Both from one Python client process, one after the other, with as many calls at a time."""
    effort, livekit = stand.effort, stand.livekit
    async with (
        stand.populated() as (room, _),
        stand.track_service({"TRACK_MEDIA_WORKERS": "0"}) as track,
        stand.client("bench.peers") as reader,
        stand.client("bench.peers") as client,
    ):
        token = stand.token("bench", room=room, room_join=True)
        await reader.ask("watch", address=track.address, token=token, room=room)

        async def ours(seconds: float = effort.seconds) -> Any:
            return await client.ask(
                "list_tracks",
                address=track.address,
                token=token,
                room=room,
                concurrency=_CONCURRENCY,
                seconds=seconds,
            )

        async def theirs(seconds: float = effort.seconds) -> Any:
            return await client.ask(
                "list_participants",
                url=livekit.http_url,
                key=livekit.api_key,
                secret=livekit.api_secret,
                room=room,
                concurrency=_CONCURRENCY,
                seconds=seconds,
            )

        if (await ours(0.3))["tracks"] != (await theirs(0.3))["tracks"]:
            raise AssertionError("both do not list the same tracks")
        mine, peers = await interleaved(effort.rounds, ours, theirs)

    def of(rounds: list[Any], name: str) -> list[float]:
        return [each[name] for each in rounds]

    throughput = ratios(of(mine, "rate"), of(peers, "rate"))
    p99 = ratios(of(mine, "p99_ms"), of(peers, "p99_ms"))
    how = (
        f"generated stub against livekit-api, both Python on uvloop in one client process, {_CONCURRENCY} calls at a"
        f" time, servers on the other core; {effort.rounds} interleaved rounds"
    )
    return [
        at_least(
            "ListTracks against livekit-api list_participants: throughput",
            throughput.median,
            "ratio",
            _THROUGHPUT_GOAL,
            f"{how}, ratio {throughput}; calls per second {spread(of(mine, 'rate'))} against"
            f" {spread(of(peers, 'rate'))}; the client's own processor time a call {spread(of(mine, 'client_us'))} us"
            f" against {spread(of(peers, 'client_us'))} us",
        ),
        at_most(
            "ListTracks against livekit-api list_participants: p99",
            p99.median,
            "ratio",
            _P99_GOAL,
            f"{how}, ratio {p99}; p99 {spread(of(mine, 'p99_ms'))} ms against {spread(of(peers, 'p99_ms'))} ms",
        ),
    ]
