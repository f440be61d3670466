"""UpdateSubscriptions with settings, to a page in Chromium with its companion: what is chosen is what is received."""

import asyncio
from collections.abc import Callable

from tests.clients.apps import public_key
from tests.clients.browser.app import DEADLINE_S, App
from tests.clients.browser.test_receiving import hosted, rate_since, width_is
from tests.publications import OBSERVED
from tests.subscriptions import apply, release, subscription, update
from tests.track_process import Client
from track.v1 import subscription_pb2 as sub
from track.v1 import track_pb2

LOW, HIGH = track_pb2.VIDEO_QUALITY_LOW, track_pb2.VIDEO_QUALITY_HIGH
ENFORCED = sub.LAYER_ENFORCEMENT_ENFORCED


async def test_the_layer_chosen_is_the_layer_received_by_quality_and_by_size_and_no_faster(
    admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    await alice.attach(await public_key(admin))
    await alice.until("videos", holds=bool)
    # How it is shown is a term of its own.
    await alice.page.call("style", "width: 1280px; height: 720px")
    for settings, width, layer in (
        (sub.SubscriptionSettings(quality=LOW), 320, 0),
        (sub.SubscriptionSettings(quality=HIGH), 1280, 2),
        (sub.SubscriptionSettings(width=640, height=360), 640, 1),
        (sub.SubscriptionSettings(width=300, height=100, frames_per_second=8), 320, 0),
    ):
        (result,) = await apply(admin, room, update("alice", sid, settings=settings))
        assert (result.stage, result.enforcement) == (OBSERVED, ENFORCED), result
        assert result.layer.limiting_term in (sub.LAYER_TERM_KIND_MANUAL, sub.LAYER_TERM_KIND_PUBLISHER)
        assert not result.unsupported_settings
        await alice.until("videos", holds=width_is(width))
        found = await subscription(admin, room, "alice", sid, _shows(width, layer))
        assert found.enforcement == ENFORCED
    (before,) = await alice.until("videos", holds=bool)
    rate = 100.0
    async with asyncio.timeout(DEADLINE_S):
        while rate > 12:  # 15 are sent
            before, rate = await rate_since(alice, before)


async def test_what_is_switched_off_stays_subscribed_without_media_until_it_is_released(
    admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 640, 360)
    await alice.attach(await public_key(admin))
    await alice.until("videos", holds=width_is(640))
    settings = sub.SubscriptionSettings(enabled=False)
    (result,) = await apply(admin, room, update("alice", sid, settings=settings))
    assert (result.stage, result.observed, result.enforcement) == (OBSERVED, True, ENFORCED), result
    assert result.layer.quality == track_pb2.VIDEO_QUALITY_OFF
    (still,) = await alice.until("videos", holds=bool)
    _, rate = await rate_since(alice, still)
    assert rate == 0
    (result,) = await apply(admin, room, release("alice", sid))
    await alice.until("videos", holds=lambda videos: videos and videos[0]["frames"] > still["frames"] + 10)


def _shows(width: int, layer: int) -> Callable[[sub.Subscription], bool]:
    """Whether so wide pictures are decoded, and that layer is sent."""
    return lambda found: (found.observed.width, found.observed.spatial_layer) == (width, layer)
