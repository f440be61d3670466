"""Focus decides layers: what is pinned is received large, what is not small, down to the pictures decoded."""

from tests.clients.apps import public_key
from tests.clients.test_subscription_layers import watcher
from tests.focuses import clear_focus, set_focus, single, whole
from tests.livekit_process import LiveKitProcess
from tests.publications import pattern, publish
from tests.subscriptions import subscription
from tests.track_process import Client
from track.v1 import subscription_pb2 as pb
from track.v1.track_pb2 import VIDEO_QUALITY_LOW as LOW

FOCUS = pb.LAYER_TERM_KIND_FOCUS
ENFORCED = pb.LAYER_ENFORCEMENT_ENFORCED
VIDEO = pattern(960, 540, 10)
LARGE, SMALL = (960, 540), (320, 180)


def by_focus(found: pb.Subscription) -> str:
    """What the focus says of it; empty where it says nothing."""
    return next((term.detail for term in found.layer.terms if term.kind == FOCUS), "")


async def test_what_is_pinned_is_received_large_and_what_is_not_small(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    left = (await publish(admin, room, VIDEO, "left")).track_sid
    right = (await publish(admin, room, VIDEO, "right")).track_sid
    async with watcher(livekit, room, key) as (_, screen):
        for sid in (left, right):
            await screen.shows(sid, LARGE)
        await set_focus(admin, room, "viewer", pinned=[whole("left")])
        found = await subscription(admin, room, "viewer", right, lambda now: now.layer.limiting_term == FOCUS)
        assert (found.layer.quality, by_focus(found), found.layer.priority) == (LOW, "OTHERS", 50)
        assert not found.HasField("desired")
        found = await subscription(admin, room, "viewer", left, lambda now: by_focus(now) == "PINNED")
        assert (found.layer.limiting_term, found.layer.priority) == (pb.LAYER_TERM_KIND_PUBLISHER, 95)
        await screen.shows(right, SMALL)
        await screen.shows(left, LARGE)
        # The other one is: both are in focus for 2 s, then the first one goes down.
        await set_focus(admin, room, "viewer", pinned=[single(right)])
        await screen.shows(right, LARGE)
        await screen.shows(left, SMALL)
        found = await subscription(admin, room, "viewer", left, lambda now: now.enforcement == ENFORCED)
        assert (found.layer.limiting_term, found.layer.quality, by_focus(found)) == (FOCUS, LOW, "OTHERS")
        # What is not in focus is not received at all.
        await set_focus(admin, room, "viewer", pinned=[single(right)], others={"enabled": False})
        found = await subscription(admin, room, "viewer", left, lambda now: not now.layer.HasField("width"))
        assert found.layer.limiting_term == FOCUS
        await clear_focus(admin, room, "viewer")
        await screen.shows(left, LARGE)
        found = await subscription(admin, room, "viewer", left, lambda now: not by_focus(now))
        assert found.layer.priority == 50 or not found.HasField("layer")
