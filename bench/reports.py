"""StreamQualityReports to 1,000 readers against a bare stream of one prepared message; and to as many that stopped."""

import base64
import time
from typing import Any, Final

from google.protobuf import duration_pb2

from bench.figures import Figure, at_least, at_most, told
from bench.processes import Helper
from bench.rounds import interleaved, ratios, spread
from bench.stand import TRACKS, Stand
from track.v1 import quality_pb2

_PATH: Final = "/track.v1.TrackService/StreamQualityReports"
_STREAMS: Final = 1000
_GOAL: Final = 0.7
_WARM_UP_S: Final = 1.0
_COMPLETE_S: Final = 20.0
# 50,000 messages a second are offered: more than a core can send, so that there is always a newer one to write, and not
# many times more, since the reports are made for all of them.
_SECOND_S: Final = 0.02
# A message, and what a stream takes: gRPC's own 23 KiB, a task, and the call.
_STOPPED_GOAL_MB: Final = 150.0
# What a client of gRPC takes ahead of who reads, at least.
_STOPPED_TAKES: Final = 65_535


async def measure(stand: Stand) -> list[Figure]:
    """Messages that really arrive at a client process which reads all streams."""
    effort, livekit = stand.effort, stand.livekit
    async with (
        stand.populated() as (room, sids),
        stand.server("bench.reports_server") as server,
        stand.server("bench.bare") as bare,
        stand.client("bench.load") as load,
    ):
        address = await server.ask(
            "serve",
            url=livekit.url,
            http_url=livekit.http_url,
            key=livekit.api_key,
            secret=livekit.api_secret,
            directory=str(stand.directory),
            streams=_STREAMS,
        )
        token = stand.token("bench", room=room, room_join=True)
        wanted = quality_pb2.StreamQualityReportsRequest(room=room, interval=duration_pb2.Duration(seconds=1))
        request = base64.b64encode(wanted.SerializeToString()).decode()

        async def begin(server: Helper, address: str, fast_s: float, **how: int) -> None:
            """Streams that have all begun, and from now on come as fast as they can: a server that is busy with
            streams is slow to take further ones."""
            opened = {"address": address, "path": _PATH, "token": token, "request": request, "pid": server.pid}
            await load.ask("begin", **opened, **how)
            await server.ask("pace", second_s=fast_s)

        async def drain(
            server: Helper, address: str, fast_s: float, seconds: float = effort.seconds, streams: int = _STREAMS
        ) -> Any:
            await begin(server, address, fast_s, streams=streams)
            measured = await load.ask("drain", pid=server.pid, warm_up_s=_WARM_UP_S, seconds=seconds)
            await server.ask("pace", second_s=1.0)
            return measured

        # LiveKit's scores come within 5 s; the message is to have its full size from the first round on.
        until = time.monotonic() + _COMPLETE_S
        while True:
            answer = (await drain(server, address, _SECOND_S, 0.2, 4))["answer"]
            message = quality_pb2.StreamQualityReportsResponse.FromString(base64.b64decode(answer))
            if {report.track_sid for report in message.reports} == set(sids) and all(
                report.samples for report in message.reports
            ):
                break
            if time.monotonic() > until:
                raise AssertionError(f"the reports are not complete: {message}")
        # Before the server has used much memory, of which it gives little back.
        await begin(server, address, _SECOND_S, streams=_STREAMS, connections=_STREAMS // 10, taken=_STOPPED_TAKES)
        stopped = await load.ask("stop", pid=server.pid, seconds=_COMPLETE_S)
        await server.ask("pace", second_s=1.0)
        floor = await bare.ask("serve", unary={}, streams={"StreamQualityReports": answer})
        await drain(bare, floor, 0.0, 0.5)
        ours, bares = await interleaved(
            effort.rounds, lambda: drain(server, address, _SECOND_S), lambda: drain(bare, floor, 0.0)
        )

    def of(rounds: list[Any], name: str) -> list[float]:
        return [each[name] for each in rounds]

    ratio = ratios(of(ours, "rate"), of(bares, "rate"))
    rate = spread(of(ours, "rate"))
    size = spread(of(ours, "message_bytes")).median
    note = (
        f"{_STREAMS} streams over 4 connections, {TRACKS} reports a message, {size:.0f} bytes"
        f" ({spread(of(bares, 'message_bytes')).median:.0f} of the bare stream), counted where they arrive, in a client"
        " process on the other core. The contract's shortest interval is 1 s, so the clock of the reports runs fast (a"
        f" second of it takes {_SECOND_S * 1e3:g} ms) to saturate the server; chain, servicer, streams, assessment and"
        f" watched room are the real ones; {effort.rounds} interleaved rounds, ratio {ratio}; messages per second"
        f" {rate} against {spread(of(bares, 'rate'))}; processor time a message {spread(of(ours, 'cpu_us'))} us against"
        f" {spread(of(bares, 'cpu_us'))} us, ratio {ratios(of(bares, 'cpu_us'), of(ours, 'cpu_us'))}; share of the core"
        f" {spread(of(ours, 'busy'))} and {spread(of(bares, 'busy'))}"
    )
    return [
        at_least(
            "stream fan-out to 1,000 subscribers, against a bare stream: messages", ratio.median, "ratio", _GOAL, note
        ),
        told(
            "stream fan-out to 1,000 subscribers: reports",
            rate.median * len(message.reports),
            "reports per second",
            f"{len(message.reports)} in a message; one core for the server",
        ),
        at_most(
            "1,000 subscribers that stopped: memory of the server",
            stopped["held_bytes"] / 1e6,
            "MB",
            _STOPPED_GOAL_MB,
            f"growth of its resident memory {_COMPLETE_S:g} s after they stopped, over {_STREAMS // 10} connections;"
            f" each had taken {stopped['taken_bytes'] / _STREAMS / 1e3:.0f} kB, with far more to come;"
            f" {stopped['left_bytes'] / 1e6:.0f} MB of it a second after they were gone",
        ),
    ]
