"""The client process of the floors: `http2` connections, and the server's processor time over the same span."""

import asyncio
import base64
import time
from typing import Any, Final

import uvloop

from bench.http2 import Connection
from bench.processes import cpu_s, obey
from bench.rounds import percentile

_CONNECTIONS: Final = 4


async def calls(
    address: str, path: str, token: str, request: str, pid: int, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Unary calls, closed loop: ``concurrency`` at a time over four connections. ``pid``: the server's process."""
    metadata = [("authorization", f"Bearer {token}")]
    made = [await Connection.connect(address, path, metadata, base64.b64decode(request)) for _ in range(_CONNECTIONS)]
    try:
        before, used = time.perf_counter(), cpu_s(pid)
        await asyncio.gather(*(each.calls(concurrency // _CONNECTIONS, seconds) for each in made))
        took, used = time.perf_counter() - before, cpu_s(pid) - used
    finally:
        for each in made:
            each.close()
    latencies = [latency for each in made for latency in each.latencies_s]
    return {
        "rate": len(latencies) / took,
        "cpu_us": used / len(latencies) * 1e6,
        "busy": used / took,
        "p50_ms": percentile(latencies, 0.5) * 1e3,
        "p99_ms": percentile(latencies, 0.99) * 1e3,
        "answer": base64.b64encode(made[0].first).decode(),
    }


async def drain(
    address: str, path: str, token: str, request: str, pid: int, streams: int, warm_up_s: float, seconds: float
) -> dict[str, Any]:
    """Reads ``streams`` streams as fast as they come, over four connections, for ``seconds`` after the warm-up."""
    metadata = [("authorization", f"Bearer {token}")]
    made = [await Connection.connect(address, path, metadata, base64.b64decode(request)) for _ in range(_CONNECTIONS)]
    try:
        for each in made:
            await each.streams(streams // _CONNECTIONS)
        await asyncio.sleep(warm_up_s)
        before, used = time.perf_counter(), cpu_s(pid)
        messages, size = sum(each.messages for each in made), sum(each.bytes for each in made)
        await asyncio.sleep(seconds)
        messages, size = sum(each.messages for each in made) - messages, sum(each.bytes for each in made) - size
        took, used = time.perf_counter() - before, cpu_s(pid) - used
        for each in made:
            each.check()
    finally:
        for each in made:
            each.close()
    return {
        "rate": messages / took,
        "cpu_us": used / messages * 1e6,
        "busy": used / took,
        "message_bytes": size / messages,
        "answer": base64.b64encode(made[0].first).decode(),
    }


if __name__ == "__main__":
    uvloop.run(obey({"calls": calls, "drain": drain}))
