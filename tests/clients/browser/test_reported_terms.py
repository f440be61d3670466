"""What a page reports becomes terms of the layer that it receives, and is named where it limits it."""

from collections.abc import Callable

from tests.clients.apps import public_key
from tests.clients.browser.app import App, app
from tests.clients.browser.chromium import Chromium
from tests.clients.browser.test_receiving import hosted, width_is
from tests.clients.service import Service
from tests.livekit_process import LiveKitProcess
from tests.subscriptions import apply, subscription, update
from tests.track_process import Client
from track.v1 import subscription_pb2 as sub
from track.v1 import track_pb2

VIEWPORT = sub.LAYER_TERM_KIND_VIEWPORT
ADAPTIVE = sub.LAYER_TERM_KIND_ADAPTIVE_STREAM
HIGH = sub.SubscriptionSettings(quality=track_pb2.VIDEO_QUALITY_HIGH)
OFF = track_pb2.VIDEO_QUALITY_OFF


def limited(by: "sub.LayerTermKind.ValueType", width: int, height: int) -> Callable[[sub.Subscription], bool]:
    """Whether that term limits the layer, by that size."""
    return lambda found: (
        found.layer.limiting_term == by
        and any((term.kind, term.width, term.height) == (by, width, height) for term in found.layer.terms)
    )


async def test_the_size_on_the_page_limits_the_layer_and_what_cannot_be_seen_is_not_sent(
    admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    await alice.attach(await public_key(admin))
    await alice.until("videos", holds=bool)
    ratio = await alice.page.call("ratio")
    await alice.page.call("style", "width: 300px; height: 160px")
    await apply(admin, room, update("alice", sid, settings=HIGH))
    await subscription(admin, room, "alice", sid, limited(VIEWPORT, round(300 * ratio), round(160 * ratio)))
    await alice.until("videos", holds=width_is(320))
    await alice.page.call("hide", True)
    await subscription(admin, room, "alice", sid, lambda found: found.layer.quality == OFF)
    await alice.until("still", holds=bool)
    await alice.page.call("hide", False)
    await alice.page.call("style", "width: 1280px; height: 720px")
    await alice.until("videos", holds=width_is(1280))
    await subscription(admin, room, "alice", sid, lambda found: found.layer.limiting_term != VIEWPORT)


async def test_adaptive_stream_is_named_where_it_asks_for_less(
    admin: Client, chromium: Chromium, livekit: LiveKitProcess, sender: Service, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    adaptive = {"pixelDensity": 0.25}
    async with app(chromium, livekit, sender, room, "alice", adaptiveStream=adaptive) as alice:
        await alice.attach(await public_key(admin))
        await alice.until("videos", holds=bool)
        await alice.page.call("style", "width: 1280px; height: 720px")
        await apply(admin, room, update("alice", sid, settings=HIGH))
        await subscription(admin, room, "alice", sid, limited(ADAPTIVE, 320, 180))
        await alice.until("videos", holds=width_is(320))
