"""A signed command to the companion in Chromium, against a bare call of LiveKit's RPC to the same page."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from typing import Final

from bench.figures import Figure, at_most, told
from bench.rounds import interleaved, ratios, spread
from bench.stand import Stand
from tests.clients.browser.app import app
from tests.clients.browser.chromium import Chromium
from tests.clients.service import KEY, METHOD, service
from track.control.v1 import control_pb2 as control
from track_server.control.commands import command, payload, reply_of
from track_server.livekit.api import LiveKitApi
from track_server.livekit.rpc import perform_rpc
from track_server.livekit.tokens import TokenMint

_GOAL: Final = 1.2
_ROOM: Final = "bench-commands"
_CALLS: Final = 100
"""Of each kind in a round."""
_WARM_UP: Final = 20


async def measure(stand: Stand) -> list[Figure]:
    """Commands that ask for capabilities, signed, sent, checked and read as the service does it, and calls of a method
    that does nothing, whose payload and answer are as long as theirs; in turn. What is above 1 is JSON and a signature
    at the service, and at the page the check of it, for which WebCrypto wakes another thread."""
    livekit = stand.livekit
    async with (
        Chromium(stand.directory) as browser,
        service(livekit) as sender,
        app(browser, livekit, sender, _ROOM, "page") as page,
        LiveKitApi(livekit.http_url, TokenMint(livekit.api_key, livekit.api_secret)) as api,
    ):
        await page.attach()
        # The first one asks the browser for longer than a call may take; from the second on all is known.
        await page.done(control.GetCapabilities())
        text = payload(command(page.target, control.GetCapabilities(), time.time_ns()), KEY)
        length = len(text)
        await page.page.call("echo", len(await perform_rpc(api, _ROOM, "page", METHOD, text)))

        async def ours() -> None:
            text = payload(command(page.target, control.GetCapabilities(), time.time_ns()), KEY)
            answer = await perform_rpc(api, _ROOM, "page", METHOD, text)
            if reply_of(answer).status != control.COMMAND_STATUS_DONE:
                raise RuntimeError(f"the companion answers {answer}")

        async def theirs() -> None:
            await perform_rpc(api, _ROOM, "page", "echo", "x" * length)

        commands, calls = [], []
        await interleaved(_WARM_UP, partial(_timed, ours), partial(_timed, theirs))
        for _ in range(stand.effort.rounds):
            first, second = await interleaved(_CALLS, partial(_timed, ours), partial(_timed, theirs))
            commands.append(median(first))
            calls.append(median(second))
    ratio = ratios(commands, calls)
    note = f"medians of {stand.effort.rounds} rounds of {_CALLS} of each in turn, as long each way"
    return [
        at_most("command to Chromium / bare PerformRpc", ratio.median, "ratio", _GOAL, f"{note}: {ratio}"),
        told("command to Chromium", spread(commands).median, "ms", f"{note}: {spread(commands)}; bare {spread(calls)}"),
    ]


async def _timed(call: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await call()
    return (time.perf_counter() - begun) * 1000
