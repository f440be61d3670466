"""The client process of the floors: `http2` connections, and the server's processor time over the same span."""

import asyncio
import base64
import time
from typing import Any, Final

import jwt
import psutil
import uvloop

from bench.http2 import MAX_WINDOW, Connection
from bench.processes import cpu_s, obey
from bench.rounds import percentile

_CONNECTIONS: Final = 4
_BEGIN_S: Final = 90.0


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


class Streams:
    """Streams of one server: begun, and then either read as fast as they come or left unread."""

    def __init__(self) -> None:
        self._made: list[Connection] = []
        self._resident = 0

    async def begin(
        self,
        address: str,
        path: str,
        token: str,
        request: str,
        pid: int,
        streams: int,
        connections: int = _CONNECTIONS,
        taken: int = MAX_WINDOW,
    ) -> None:
        """Begins them. All have their first message then. ``taken``: bytes that each takes, and then no more, as a
        client whose caller has stopped reading."""
        self._resident = psutil.Process(pid).memory_info().rss
        body = base64.b64decode(request)
        self._made = [await Connection.connect(address, path, [token], body, taken) for _ in range(connections)]
        each = streams // connections
        for connection in self._made:
            await connection.streams(each)
        async with asyncio.timeout(_BEGIN_S):
            while any(len(connection.reached) < each for connection in self._made):
                self._check()
                await asyncio.sleep(0.01)

    async def drain(self, pid: int, warm_up_s: float, seconds: float) -> dict[str, Any]:
        """Reads them as fast as they come, for ``seconds`` after the warm-up, and ends them."""
        await asyncio.sleep(warm_up_s)
        before, used = time.perf_counter(), cpu_s(pid)
        messages, size = self._read()
        await asyncio.sleep(seconds)
        messages, size = (now - then for now, then in zip(self._read(), (messages, size), strict=True))
        took, used = time.perf_counter() - before, cpu_s(pid) - used
        self._check()
        answer = self._made[0].first
        self.end()
        return {
            "rate": messages / took,
            "cpu_us": used / messages * 1e6,
            "busy": used / took,
            "message_bytes": size / messages,
            "answer": base64.b64encode(answer).decode(),
        }

    async def stop(self, pid: int, seconds: float) -> dict[str, Any]:
        """How much the server's memory has grown ``seconds`` later, and after they are gone."""
        await asyncio.sleep(seconds)
        held = psutil.Process(pid).memory_info().rss
        self._check()
        _, size = self._read()
        self.end()
        await asyncio.sleep(1)
        left = psutil.Process(pid).memory_info().rss
        return {"held_bytes": held - self._resident, "left_bytes": left - self._resident, "taken_bytes": size}

    def end(self) -> None:
        """Ends them. May be called twice."""
        for connection in self._made:
            connection.close()
        self._made = []

    def _read(self) -> tuple[int, int]:
        """Messages, and bytes of them."""
        return sum(each.messages for each in self._made), sum(each.bytes for each in self._made)

    def _check(self) -> None:
        for connection in self._made:
            connection.check()


async def _main() -> None:
    streams = Streams()
    try:
        await obey(
            {
                "calls": calls,
                "begin": streams.begin,
                "drain": streams.drain,
                "stop": streams.stop,
                "make_tokens": make_tokens,
            }
        )
    finally:
        streams.end()


if __name__ == "__main__":
    uvloop.run(_main())
