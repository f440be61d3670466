"""The client process of the floors: `http2` connections, and the server's processor time over the same span."""

import asyncio
import base64
import time
from typing import Any, Final

import jwt
import uvloop

from bench.http2 import Connection
from bench.processes import cpu_s, obey
from bench.rounds import percentile

_CONNECTIONS: Final = 4


_fresh: dict[str, list[str]] = {}


async def make_tokens(name: str, count: int, key: str, secret: str, room: str) -> None:
    """Makes ``count`` tokens of participants of the room, to be used under that name."""
    claims = {"iss": key, "exp": int(time.time()) + 3600, "video": {"roomJoin": True, "room": room}}
    _fresh[name] = [jwt.encode(claims | {"sub": f"caller-{n}"}, secret, algorithm="HS256") for n in range(count)]


async def calls(
    address: str, path: str, token: str, request: str, pid: int, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Unary calls, closed loop: ``concurrency`` at a time over four connections. ``pid``: the server's process.

    ``token``: one, or the name of those that `make_tokens` made, which are then sent in turn.
    """
    tokens = _fresh.get(token, [token])
    body = base64.b64decode(request)
    # Each connection has tokens of its own, so that none is sent by two of them one after the other.
    made = [
        await Connection.connect(address, path, tokens[n::_CONNECTIONS] or tokens, body) for n in range(_CONNECTIONS)
    ]
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
    made = [await Connection.connect(address, path, [token], base64.b64decode(request)) for _ in range(_CONNECTIONS)]
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
    uvloop.run(obey({"calls": calls, "drain": drain, "make_tokens": make_tokens}))
