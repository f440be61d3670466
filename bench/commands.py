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
from tests.clients.service import KEY, service
from track.control.v1 import control_pb2 as control
from track_server.control.commands import command, payload
from track_server.control.companion import METHOD, Companion
from track_server.deadline import Deadline
from track_server.livekit.api import LiveKitApi
from track_server.livekit.rpc import perform_rpc
from track_server.livekit.tokens import TokenMint

_GOAL: Final = 1.2
_ROOM: Final = "bench-commands"
_CALLS: Final = 200
"""Of each kind in a round."""
_WARM_UP: Final = 20
_DEADLINE_S: Final = 5.0


async def measure(stand: Stand) -> list[Figure]:
    """Commands that ask for capabilities, as the service makes them, in turn with calls of a method of the same page
    that answers at once, through the same client of LiveKit's API.

    The bare call of the goal carries as many bytes as the command each way, that of the other ratio none. What is above
    1 is JSON and a signature at the service, and at the page the check of it.
    """
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
        await page.page.call("echo", "alike", len(await perform_rpc(api, _ROOM, "page", METHOD, text)))
        await page.page.call("echo", "empty", 0)

        companion = Companion(api, KEY)

        async def ours() -> None:
            reply = await companion.do(page.target, control.GetCapabilities(), Deadline.after(_DEADLINE_S))
            if reply.status != control.COMMAND_STATUS_DONE:
                raise RuntimeError(f"the companion answers {reply}")

        async def alike() -> None:
            await perform_rpc(api, _ROOM, "page", "alike", "x" * length)

        async def empty() -> None:
            await perform_rpc(api, _ROOM, "page", "empty", "")

        command_ms, alike_ms = await _medians(ours, alike, stand.effort.rounds)
        beside_ms, empty_ms = await _medians(ours, empty, stand.effort.rounds)
    ratio, of_empty = ratios(command_ms, alike_ms), ratios(beside_ms, empty_ms)
    note = f"medians of {stand.effort.rounds} rounds of {_CALLS} of each in turn"
    return [
        at_most(
            "command to Chromium / bare PerformRpc", ratio.median, "ratio", _GOAL, f"{note}, as long each way: {ratio}"
        ),
        told("command to Chromium / empty PerformRpc", of_empty.median, "ratio", f"{note}: {of_empty}"),
        told(
            "command to Chromium",
            spread(command_ms).median,
            "ms",
            f"{note}: {spread(command_ms)}; bare {spread(alike_ms)}, empty {spread(empty_ms)}",
        ),
    ]


async def _medians(
    first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]], rounds: int
) -> tuple[list[float], list[float]]:
    """Of both the median of each round, in milliseconds."""
    await interleaved(_WARM_UP, partial(_timed, first), partial(_timed, second))
    taken = [await interleaved(_CALLS, partial(_timed, first), partial(_timed, second)) for _ in range(rounds)]
    return [median(one) for one, _ in taken], [median(other) for _, other in taken]


async def _timed(call: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await call()
    return (time.perf_counter() - begun) * 1000
