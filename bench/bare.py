"""The floor: a bare grpc.aio server that answers with prepared bytes, on the loop and with the options of our own."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from grpc import aio

from bench.processes import obey
from track_server.limits.connection import FIXED_OPTIONS

SERVICE = "track.v1.TrackService"


class Bare:
    """One server, started by its first command."""

    def __init__(self) -> None:
        self._server: aio.Server | None = None
        self._second_s = 1.0

    async def serve(self, unary: dict[str, str], streams: dict[str, str]) -> str:
        """Serves methods of TrackService by name, each with its answer in base64; returns the address.

        Of ``streams`` each sends its answer once a second, or again and again: see `pace`.
        """
        server = aio.server(options=FIXED_OPTIONS)
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for name, answer in unary.items():
            handlers[name] = grpc.unary_unary_rpc_method_handler(_once(base64.b64decode(answer)))
        for name, answer in streams.items():
            handlers[name] = grpc.unary_stream_rpc_method_handler(self._for_ever(base64.b64decode(answer)))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._server = server
        return f"127.0.0.1:{port}"

    async def pace(self, second_s: float) -> None:
        """From now on a second of the streams takes so long; 0: they send as fast as they can."""
        self._second_s = second_s

    def _for_ever(self, answer: bytes) -> Any:
        async def reply(request: bytes, context: Any) -> AsyncIterator[bytes]:
            while True:
                yield answer
                if self._second_s:
                    await asyncio.sleep(self._second_s)

        return reply

    async def aclose(self) -> None:
        """Ends the server. May be called twice."""
        if self._server is not None:
            await self._server.stop(None)


def _once(answer: bytes) -> Any:
    async def reply(request: bytes, context: Any) -> bytes:
        return answer

    return reply


async def _main() -> None:
    bare = Bare()
    try:
        await obey({"serve": bare.serve, "pace": bare.pace})
    finally:
        await bare.aclose()


if __name__ == "__main__":
    uvloop.run(_main())
