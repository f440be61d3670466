"""StreamQualityReports to 200 readers against a bare stream of one prepared message."""

import base64
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
# 80,000 messages a second are offered, as many as a bare stream can carry on one core.
_SECOND_S: Final = 0.0025


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

        answer = (await drain(address, server.pid, 0.5))["answer"]
        message = quality_pb2.StreamQualityReportsResponse.FromString(base64.b64decode(answer))
        if {report.track_sid for report in message.reports} != set(sids):
            raise AssertionError("the reports are not those of the room's tracks")
        floor = await bare.ask("serve", unary={}, streams={"StreamQualityReports": answer})
        await drain(floor, bare.pid, 0.5)
        ours, bares = await interleaved(
            effort.rounds, lambda: drain(address, server.pid), lambda: drain(floor, bare.pid)
        )

    def of(rounds: list[Any], name: str) -> list[float]:
        return [each[name] for each in rounds]

    ratio = ratios(of(ours, "rate"), of(bares, "rate"))
    rate = spread(of(ours, "rate"))
    note = (
        f"{_STREAMS} streams over 4 connections, {TRACKS} reports a message, {spread(of(ours, 'message_bytes')).median:.0f}"
        " bytes, counted where they arrive, in a client process on the other core. The contract's shortest interval is"
        f" 1 s, so the clock of the reports runs fast (a second of it takes {_SECOND_S * 1e3:g} ms) to saturate the"
        " server; chain, servicer, broadcast and watched room are the real ones;"
        f" {effort.rounds} interleaved rounds, ratio {ratio}; messages per second {rate} against"
        f" {spread(of(bares, 'rate'))}; processor time a message {spread(of(ours, 'cpu_us'))} us against"
        f" {spread(of(bares, 'cpu_us'))} us; share of the core {spread(of(ours, 'busy'))} and"
        f" {spread(of(bares, 'busy'))}"
    )
    return [
        at_least("StreamQualityReports, 200 streams, against a bare stream: messages", ratio.median, "ratio", _GOAL, note),
        told(
            "StreamQualityReports, 200 streams: reports",
            rate.median * len(message.reports),
            "reports per second",
            f"{len(message.reports)} in a message; one core for the server",
        ),
    ]
