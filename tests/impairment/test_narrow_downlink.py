"""A subscriber whose downlink carries 500 kbit/s, in Chromium, against LiveKit's debug view and what is decoded."""

import asyncio
import base64
from typing import Any, Final

import pytest
from livekit import api

from tests.clients.apps import public_key
from tests.clients.browser.chromium import Chromium, Page
from tests.conftest import StartLiveKit, StartTrack
from tests.impairment.line import Bounds
from tests.impairment.relay import Relay, behind
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.subscriptions import subscription
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import subscription_pb2 as sub
from track.v1 import track_pb2

DOWNLINK_BPS: Final = 500_000
BUDGET_BPS: Final = 300_000
"""Enough for the lowest layer of one video, and not of two."""
LOW, OFF = track_pb2.VIDEO_QUALITY_LOW, track_pb2.VIDEO_QUALITY_OFF
BUDGET: Final = sub.LAYER_TERM_KIND_BUDGET
IN_VIEW: Final = "video { width: 380px; height: 214px }"
"""All of them: no video is dropped for being out of sight."""
FRAMES: Final = 50
WAIT_S: Final = 60.0


async def pattern(admin: Client, room: str) -> str:
    """SID of a test pattern in three layers, of 320x180, 640x360 and 960x540."""
    video = pb.VideoOptions(width=960, height=540, frames_per_second=10)
    request = pb.PublishTrackRequest(
        room=room, spec=pb.PublicationSpec(test_pattern=pb.TestPatternInput(), video=video)
    )
    return (await admin.PublishTrack(request, timeout=WAIT_S)).publication.track_sid


async def join(page: Page, livekit: LiveKitProcess, track: TrackProcess, room: str) -> None:
    """Alice joins in that page, with the companion."""
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity("alice")
    await page.call("join", livekit.url, token.with_grants(api.VideoGrants(room_join=True, room=room)).to_jwt())
    async with track.client("alice", room_join=True, room=room) as client:
        key = await public_key(client)
    await page.call("attach", {"publicKey": base64.b64encode(key).decode()})


async def copies(livekit: LiveKitProcess, room: str) -> dict[str, dict[str, Any]]:
    """What LiveKit's own view shows of the videos that alice is sent, by track SID."""
    (found,) = [each for each in await livekit.debug_rooms() if each["Name"] == room]
    alice = found["Participants"]["alice"]["ID"]
    return {
        sid: copy
        for participant in found["Participants"].values()
        for sid, published in participant["UpTrackManager"]["PublishedTracks"].items()
        for copy in published.get("DownTracks") or ()
        if copy["SubscriberID"] == alice
    }


async def enforced(admin: Client, room: str, sid: str) -> sub.LayerDecision:
    """The layer of it that alice should receive, once she does."""
    found = await subscription(
        admin, room, "alice", sid, lambda found: found.enforcement == sub.LAYER_ENFORCEMENT_ENFORCED
    )
    return found.layer


async def decoded(page: Page) -> list[int]:
    """How many frames of each video were decoded, in the order in which they came."""
    return [video["frames"] for video in await page.call("videos")]


async def stretch(page: Page) -> list[int]:
    """How many frames more are decoded of each video until they are so many of one."""
    before = await decoded(page)
    while True:
        await asyncio.sleep(0.2)
        more = [after - then for after, then in zip(await decoded(page), before, strict=True)]
        if max(more) >= FRAMES:
            return more


@pytest.mark.deadline(240)
async def test_the_focus_moves_on_and_others_are_dropped_as_declared(
    chromium: Chromium, start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    async with Relay() as relay:
        livekit = await start_livekit(behind(relay))
        track = await start_track(livekit)
        async with (
            existing_room(livekit, room_name),
            track.client("admin", room_admin=True, room=room_name) as admin,
            chromium.page() as page,
        ):
            focus, *others = [await pattern(admin, room_name) for _ in range(3)]
            subscribed = sub.SubscriptionDefaults(action=sub.SUBSCRIPTION_ACTION_SUBSCRIBE)
            policy = sub.SubscriptionPolicy(defaults=subscribed, bandwidth_bps=BUDGET_BPS)
            await admin.SetSubscriptionPolicy(sub.SetSubscriptionPolicyRequest(room=room_name, policy=policy))
            pinned = sub.Focus(pinned=[sub.FocusTarget(track_sid=focus)])
            await admin.SetFocus(sub.SetFocusRequest(room=room_name, focus=pinned))
            await page.evaluate(f"document.head.insertAdjacentHTML('beforeend', '<style>{IN_VIEW}</style>')")
            with relay.joining(down=Bounds(DOWNLINK_BPS)) as flows:
                await join(page, livekit, track, room_name)
                assert (await enforced(admin, room_name, focus)).quality == LOW
            for sid in others:
                dropped = await enforced(admin, room_name, sid)
                assert (dropped.quality, dropped.limiting_term) == (OFF, BUDGET)
            async with asyncio.timeout(WAIT_S):
                while (await stretch(page)).count(0) < len(others):
                    pass
            seen = await copies(livekit, room_name)
            assert {sid for sid, copy in seen.items() if not copy["Muted"]} == {focus}
            # All of it came over the narrow line.
            passed = [flow.down.counts.passed_by_ssrc for flow in flows]
            assert sum(counts[seen[focus]["SSRC"]].packets for counts in passed) >= FRAMES
