"""A subscriber whose downlink loses packets, with the companion for Python: what adaptation makes of it, seen in
LiveKit's debug view, and what it says of itself."""

import asyncio
import contextlib

import pytest

from tests.clients.apps import attached, public_key
from tests.conftest import StartLiveKit, StartTrack
from tests.impairment.line import Bounds
from tests.impairment.relay import Relay, behind
from tests.livekit_rooms import existing_room
from tests.participants import participant
from tests.publications import TONE, pattern, publish
from tests.quality_policies import NETWORK, actions, quick, set_policy
from tests.streams import events
from tests.subscriptions import subscription
from track.v1 import quality_policy_pb2 as pb
from track.v1 import subscription_pb2 as sub
from track.v1.track_pb2 import VIDEO_QUALITY_HIGH as HIGH
from track.v1.track_pb2 import VIDEO_QUALITY_MEDIUM as MEDIUM

LOSS = 0.25


def limited(found: sub.Subscription) -> bool:
    """Whether its network limits it, and LiveKit sends a lower layer."""
    kinds = {term.kind for term in found.layer.terms}
    return sub.LAYER_TERM_KIND_NETWORK in kinds and found.layer.quality < HIGH and found.observed.spatial_layer < 2


def whole(found: sub.Subscription) -> bool:
    """Whether nothing of adaptation limits it, and LiveKit sends the highest layer."""
    kinds = {term.kind for term in found.layer.terms}
    return sub.LAYER_TERM_KIND_NETWORK not in kinds and found.observed.spatial_layer == 2


@pytest.mark.deadline(300)
async def test_a_lossy_downlink_is_relieved_and_given_back_when_it_has_healed(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    room = room_name
    wanted = quick(NETWORK, floor=MEDIUM)
    # What is lost here is not lost for want of bits: an action without effect would be taken back.
    wanted.timing.settle_time.FromSeconds(15)
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(seed=1))
        livekit = await start_livekit(behind(relay))
        track = await start_track(livekit)
        await stack.enter_async_context(existing_room(livekit, room))
        admin = await stack.enter_async_context(track.client("admin", room_admin=True, room=room))
        sid = (await publish(admin, room, pattern(960, 540, 10), "host")).track_sid
        await publish(admin, room, TONE, "host")
        await set_policy(admin, room, wanted)
        with relay.joining() as flows:
            viewer = await stack.enter_async_context(participant(livekit, room, "viewer"))

        def lose(share: float) -> None:
            for flow in flows:
                flow.down.change(Bounds(loss=share), asyncio.get_running_loop().time())

        await stack.enter_async_context(attached(viewer, await public_key(admin)))
        stream = await stack.enter_async_context(events(admin, room))
        await subscription(admin, room, "viewer", sid, whole)
        lose(LOSS)
        taken = await stream.until("quality_action_taken")
        assert (taken.kind, taken.participant_identity) == (NETWORK, "viewer")
        assert (taken.move, taken.quality) == (pb.QUALITY_MOVE_DOWN, MEDIUM)
        assert 0.05 < taken.before.lost_packets / taken.before.packets < 2 * LOSS
        await subscription(admin, room, "viewer", sid, limited)
        lose(0)
        judged = await stream.until("quality_action_judged", lambda found: found.action_id == taken.action_id)
        assert judged.verdict == pb.QUALITY_VERDICT_IMPROVED
        await subscription(admin, room, "viewer", sid, whole)
        done = await actions(admin, room, lambda found: found[0].quality == HIGH)
        assert {action.participant_identity for action in done} == {"viewer"}
