"""StreamQualityReports to 200 readers against a bare stream of one prepared message."""

import base64
import time
from typing import Any, Final

from google.protobuf import duration_pb2

from bench.figures import Figure, at_least, told
from bench.rounds import interleaved, ratios, spread
from bench.stand import TRACKS, Stand
from track.v1 import quality_pb2

_PATH: Final = "/track.v1.TrackService/StreamQualityReports"
_STREAMS: Final = 200
_GOAL: Final = 0.7
_WARM_UP_S: Final = 1.0
_COMPLETE_S: Final = 20.0
# 200,000 messages a second are offered: more than a core can send, so that there is always a newer one to write.
_SECOND_S: Final = 0.001


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
            second_s=_SECOND_S,
        )
        token = stand.token("bench", room=room, room_join=True)
        wanted = quality_pb2.StreamQualityReportsRequest(room=room, interval=duration_pb2.Duration(seconds=1))
        request = base64.b64encode(wanted.SerializeToString()).decode()

        async def drain(address: str, pid: int, seconds: float = effort.seconds) -> Any:
            return await load.ask(
                "drain",
                address=address,
                path=_PATH,
                token=token,
                request=request,
                pid=pid,
                streams=_STREAMS,
                warm_up_s=_WARM_UP_S,
                seconds=seconds,
            )

        # LiveKit's scores come within 5 s; the message is to have its full size from the first round on.
        until = time.monotonic() + _COMPLETE_S
        while True:
            answer = (await drain(address, server.pid, 0.2))["answer"]
            message = quality_pb2.StreamQualityReportsResponse.FromString(base64.b64decode(answer))
            if {report.track_sid for report in message.reports} == set(sids) and all(
                report.samples for report in message.reports
            ):
                break
            if time.monotonic() > until:
                raise AssertionError(f"the reports are not complete: {message}")
        floor = await bare.ask("serve", unary={}, streams={"StreamQualityReports": answer})
        await drain(floor, bare.pid, 0.5)
        ours, bares = await interleaved(
            effort.rounds, lambda: drain(address, server.pid), lambda: drain(floor, bare.pid)
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
        f" second of it takes {_SECOND_S * 1e3:g} ms) to saturate the server; chain, servicer, broadcast and watched"
        f" room are the real ones; {effort.rounds} interleaved rounds, ratio {ratio}; messages per second {rate}"
        f" against {spread(of(bares, 'rate'))}; processor time a message {spread(of(ours, 'cpu_us'))} us against"
        f" {spread(of(bares, 'cpu_us'))} us, ratio {ratios(of(bares, 'cpu_us'), of(ours, 'cpu_us'))}; share of the core"
        f" {spread(of(ours, 'busy'))} and {spread(of(bares, 'busy'))}"
    )
    return [
        at_least(
            "StreamQualityReports, 200 streams, against a bare stream: messages", ratio.median, "ratio", _GOAL, note
        ),
        told(
            "StreamQualityReports, 200 streams: reports",
            rate.median * len(message.reports),
            "reports per second",
            f"{len(message.reports)} in a message; one core for the server",
        ),
    ]
