"""From UpdateSubscriptions with a quality to the layer in a page, against livekit-client's own call in that page."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from typing import Final

from bench.figures import Figure, at_most, told
from bench.rounds import interleaved, ratios, spread
from bench.stand import Stand
from tests.clients.browser.app import App, app
from tests.clients.browser.chromium import Chromium
from tests.clients.browser.test_receiving import hosted, width_is
from tests.clients.service import service
from tests.livekit_rooms import existing_room
from tests.subscriptions import update
from tests.track_process import Client
from track.v1 import server_info_pb2, subscription_pb2, track_pb2, tracks_pb2

_GOAL: Final = 1.3
_ROOM: Final = "bench-switches"
_SWITCHES: Final = 4
"""Down and up again, of each kind in a round."""
_PAUSE_S: Final = 1.5
"""Before each: LiveKit asks a publisher for one keyframe a second."""
_LAYERS: Final = ((track_pb2.VIDEO_QUALITY_LOW, 320), (track_pb2.VIDEO_QUALITY_HIGH, 1280))

Switch = Callable[["track_pb2.VideoQuality.ValueType"], Awaitable[object]]


async def measure(stand: Stand) -> list[Figure]:
    """A video of 1280x720 that the service hosts is switched from its highest layer to its lowest and back: by
    UpdateSubscriptions, with the companion in the page, and by setVideoQuality in the page; in turn. What is above 1 is
    a call, the store, and a command to the page; both wait for the publisher's next keyframe."""
    livekit = stand.livekit
    async with (
        stand.track_service({}) as track,
        existing_room(livekit, _ROOM),
        track.client("admin", room_admin=True, room=_ROOM) as admin,
        Chromium(stand.directory) as browser,
        service(livekit) as sender,
        app(browser, livekit, sender, _ROOM, "page") as page,
    ):
        sid = await hosted(admin, _ROOM, 1280, 720)
        about = await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())
        await page.attach(about.control_key.public_key)
        await page.until("videos", holds=bool)
        # As large as its highest layer, so that its size on the page limits nothing.
        await page.page.call("style", "width: 1280px; height: 720px")
        ours = partial(_switched, page, partial(_choose, admin, sid))
        theirs = partial(_switched, page, lambda quality: page.page.call("prefer", quality - 1))
        await _choose(admin, sid, track_pb2.VIDEO_QUALITY_HIGH)
        await page.until("videos", holds=width_is(1280))
        await interleaved(1, ours, theirs)
        calls, own = [], []
        for _ in range(stand.effort.rounds):
            first, second = await interleaved(_SWITCHES, ours, theirs)
            calls.append(median(first))
            own.append(median(second))
    ratio = ratios(calls, own)
    note = f"medians of {stand.effort.rounds} rounds of {_SWITCHES} down and up again of each in turn"
    return [
        at_most(
            "UpdateSubscriptions to layer / setVideoQuality to layer", ratio.median, "ratio", _GOAL, f"{note}: {ratio}"
        ),
        told("UpdateSubscriptions to layer", spread(calls).median, "ms", f"{note}: {spread(calls)}; own {spread(own)}"),
    ]


async def _choose(admin: Client, sid: str, quality: "track_pb2.VideoQuality.ValueType") -> None:
    settings = subscription_pb2.SubscriptionSettings(quality=quality)
    request = tracks_pb2.UpdateSubscriptionsRequest(room=_ROOM, updates=[update("page", sid, settings=settings)])
    (result,) = (await admin.UpdateSubscriptions(request, timeout=45)).results
    if result.HasField("problem"):
        raise RuntimeError(f"the choice was refused: {result.problem.message}")


async def _switched(page: App, switch: Switch) -> float:
    """Milliseconds from the call to the first picture of the layer, down and up again: the mean of both."""
    taken = 0.0
    for quality, width in _LAYERS:
        await asyncio.sleep(_PAUSE_S)
        shown = asyncio.create_task(page.page.call("shown", width))
        begun = time.perf_counter()
        call = asyncio.ensure_future(switch(quality))
        await shown
        taken += time.perf_counter() - begun
        await call
    return taken * 1000 / len(_LAYERS)
