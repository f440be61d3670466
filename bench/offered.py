"""The client process of the overload: calls at a given rate, whether the server keeps up or not."""

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from bench.http2 import CallFailedError, Connection
from bench.processes import cpu_s, obey
from bench.rounds import percentile

_CONNECTIONS: Final = 8
_TICK_S: Final = 0.002
_SETTLE_S: Final = 2.0
_SERVED, _REFUSED = b"grpc-status\x010", b"grpc-status\x018"


class Offering(Connection):
    """One connection whose calls begin when they are due. Latencies count from then on."""

    def __init__(self, path: str, tokens: Sequence[str], request: bytes, window: int) -> None:
        super().__init__(path, tokens, request, window)
        self.served_s: list[float] = []
        self.refused_s: list[float] = []

    def offer(self, due: list[float]) -> None:
        """Begins a call for each of those times of `time.perf_counter`."""
        frames = [self._call() for _ in due]
        # The numbers of HTTP/2 streams are odd.
        self._begun.update(zip(range(self._next_stream - 2 * len(due), self._next_stream, 2), due, strict=True))
        self._write(b"".join(frames))

    @property
    def unanswered(self) -> int:
        """Calls that have not ended."""
        return len(self._begun)

    def _ended(self, stream: int, trailers: bytes) -> bytes:
        took_s = time.perf_counter() - self._begun.pop(stream)
        self._parts.pop(stream, None)
        if _SERVED in trailers:
            self.served_s.append(took_s)
        elif _REFUSED in trailers:
            self.refused_s.append(took_s)
        else:
            self._fail(f"a call ended with {trailers!r}")
        return b""


async def offer(
    address: str, path: str, token: str, request: str, pid: int, rate: float, warm_up_s: float, seconds: float
) -> dict[str, Any]:
    """``rate`` calls a second, evenly over eight connections: for ``warm_up_s`` unmeasured, then for ``seconds``.

    Waits for what is unanswered in the end; a call that neither was served nor refused by a limit is an error.
    """
    made = [await Offering.connect(address, path, [token], base64.b64decode(request)) for _ in range(_CONNECTIONS)]
    try:
        await _keep_offering(made, rate, warm_up_s)
        for each in made:
            each.served_s, each.refused_s = [], []
        begun, used = time.perf_counter(), cpu_s(pid)
        offered = await _keep_offering(made, rate, seconds)
        took, used = time.perf_counter() - begun, cpu_s(pid) - used
        served, refused = (sum(len(getattr(each, name)) for each in made) for name in ("served_s", "refused_s"))
        async with asyncio.timeout(_SETTLE_S + seconds):
            while any(each.unanswered for each in made):
                await asyncio.sleep(_TICK_S)
        for each in made:
            each.check()
    except CallFailedError as error:
        raise AssertionError(f"{rate:g} calls a second: {error}") from error
    finally:
        for each in made:
            each.close()
    served_s = [latency for each in made for latency in each.served_s]
    refused_s = [latency for each in made for latency in each.refused_s]
    return {
        "offered": offered / took,
        "goodput": served / took,
        "refusals": refused / took,
        "busy": used / took,
        "served_p95_ms": percentile(served_s, 0.95) * 1e3 if served_s else None,
        "refused_p95_ms": percentile(refused_s, 0.95) * 1e3 if refused_s else None,
    }


async def _keep_offering(connections: Sequence[Offering], rate: float, seconds: float) -> int:
    """Returns how many calls that were."""
    begun = time.perf_counter()
    offered = 0
    while (now := time.perf_counter()) - begun < seconds:
        due = [begun + number / rate for number in range(offered, int((now - begun) * rate))]
        offered += len(due)
        for number, each in enumerate(connections):
            if share := due[number :: len(connections)]:
                each.offer(share)
        await asyncio.sleep(_TICK_S)
    return offered


if __name__ == "__main__":
    uvloop.run(obey({"offer": offer}))
