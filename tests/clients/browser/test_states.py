"""What a page in Chromium reports by itself: how it shows videos, what it decodes, and what livekit-client asks for."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.clients.browser.app import App, app
from tests.clients.browser.chromium import Chromium
from tests.clients.browser.test_receiving import hosted, width_is
from tests.clients.service import Service
from tests.livekit_process import LiveKitProcess
from tests.states import OWNER, Hearing, hearing
from tests.track_process import Client
from track.control.v1 import control_pb2 as control
from track.v1 import track_pb2
from track_server.deadline import Deadline
from track_server.subscription.controller.client_layers import ABSENT

FORGOTTEN_S = 7.0
"""LiveKit keeps the settings of a track that was given up until its reconciler looks, every 3 s."""


def shows(heard: Hearing, sid: str, width: int, height: int) -> Callable[[], bool]:
    """Whether it is known to be shown in that size."""
    return lambda: (found := heard.viewport("alice", sid)).visible and (found.width, found.height) == (width, height)


async def test_a_page_reports_how_it_shows_a_video_whenever_that_changes(
    livekit: LiveKitProcess, admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    await alice.attach()
    await alice.until("videos", holds=bool)
    async with hearing(livekit, room) as heard:
        await alice.page.call("style", "width: 400px; height: 225px")
        ratio = await alice.page.call("ratio")
        await heard.until(shows(heard, sid, round(400 * ratio), round(225 * ratio)))
        state = heard.of("alice")
        assert {"vp8", "h264", "opus"} <= set(state.receive_codecs)
        assert not heard.viewport("alice", sid).HasField("adaptive_width")
        # What the browser cannot tell is not told.
        assert not state.HasField("cpu_load")
        assert not state.HasField("downlink_bps")
        await alice.page.call("tell", {"downlinkBps": 700_000, "cpuLoad": 0.5})
        await heard.until(lambda: heard.size("alice", sid) == (1280, 720))
        await alice.page.call("style", "width: 200px; height: 100px")
        await heard.until(shows(heard, sid, round(200 * ratio), round(100 * ratio)))
        assert (heard.of("alice").downlink_bps, heard.of("alice").cpu_load) == (700_000, 0.5)
        await alice.page.call("hide", True)
        await heard.until(lambda: not heard.viewport("alice", sid).visible)
        assert not heard.viewport("alice", sid).HasField("width")
        await alice.page.call("hide", False)
        await heard.until(shows(heard, sid, round(200 * ratio), round(100 * ratio)))
        await alice.page.call("style", "display: none")
        await heard.until(lambda: not heard.viewport("alice", sid).visible)
        await alice.page.call("style", "")
        await heard.until(lambda: heard.viewport("alice", sid).visible)
        await alice.page.call("style")  # is removed
        await heard.until(lambda: not heard.viewport("alice", sid).visible)
        # Who is attended no more is told to be silent, and nothing is known of it.
        heard.attendance.unfollow(OWNER, room)
        assert heard.states.of(room, "alice") is None


async def test_what_the_page_sees_is_reported_though_what_the_app_adds_breaks(
    livekit: LiveKitProcess, admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    await alice.attach(broken=["state"])
    await alice.until("videos", holds=bool)
    async with hearing(livekit, room) as heard:
        await alice.page.call("style", "width: 400px; height: 225px")
        ratio = await alice.page.call("ratio")
        await heard.until(shows(heard, sid, round(400 * ratio), round(225 * ratio)))


async def test_reports_leave_a_connection_that_is_being_made_anew_alone(alice: App) -> None:
    await alice.attach()
    await alice.done(control.ReportState(destination_identity="nobody"))
    await alice.page.evaluate(
        "void setInterval(() => (harness.tell({ cpuLoad: Math.random() }), dispatchEvent(new Event('resize'))), 5)"
    )
    old = alice.target
    await alice.page.call("scenario", "resume-reconnect")  # which fails, and ends as a full one
    await alice.until("sid", holds=lambda now: now and now != old.sid)
    await alice.renew()
    await alice.answering()


async def test_adaptive_stream_is_a_term_of_its_own_and_settings_do_not_fight_it(
    livekit: LiveKitProcess, admin: Client, chromium: Chromium, sender: Service, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    async with (
        app(chromium, livekit, sender, room, "alice", adaptiveStream=True) as alice,
        hearing(livekit, room) as heard,
    ):
        await alice.attach()
        await alice.until("videos", holds=bool)

        async def receive(**settings: Any) -> None:
            given = control.ReceivedSettings(track_sid=sid, **settings)
            assert (await alice.done(control.SetReceived(tracks=[given]))).unsupported == []

        await alice.page.call("style", "width: 320px; height: 180px")
        await heard.until(shows_adaptive(heard, sid, 320, 180))
        await alice.until("videos", holds=width_is(320))
        await alice.page.call("style", "width: 1280px; height: 720px")
        await heard.until(shows_adaptive(heard, sid, 1280, 720))
        await heard.until(lambda: heard.size("alice", sid) == (1280, 720))
        # The smaller of both is received.
        await receive(quality=track_pb2.VIDEO_QUALITY_LOW)
        await heard.until(lambda: heard.size("alice", sid) == (320, 180))
        await receive(reset=True)
        await heard.until(lambda: heard.size("alice", sid) == (1280, 720))
        # What cannot be seen is paused, also where the service has paused it and let it go again.
        await receive(enabled=False)
        await alice.until("still", holds=bool)
        await alice.page.call("style", "display: none")
        await heard.until(lambda: heard.viewport("alice", sid).adaptive_width == 0)
        await receive(enabled=True)
        await alice.until("still", holds=bool)
        await alice.page.call("style", "width: 320px; height: 180px")
        await heard.until(shows_adaptive(heard, sid, 320, 180))
        await alice.until("still", holds=lambda still: not still)


def shows_adaptive(heard: Hearing, sid: str, width: int, height: int) -> Callable[[], bool]:
    """Whether adaptiveStream is known to ask for that size: it counts pixels of the page (up to a ratio of 2)."""
    return lambda: (
        (found := heard.viewport("alice", sid)).visible
        and (found.adaptive_width, found.adaptive_height) == (width, height)
    )


async def test_settings_come_back_after_a_track_was_given_up_and_unknown_tracks_hinder_no_others(
    livekit: LiveKitProcess, admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    await alice.attach()
    await alice.until("videos", holds=bool)
    async with hearing(livekit, room) as heard:
        low = control.ReceivedSettings(track_sid=sid, quality=track_pb2.VIDEO_QUALITY_LOW)
        several = [
            control.ReceivedSettings(track_sid="TR_none", enabled=False),
            control.ReceivedSettings(track_sid=sid, quality=track_pb2.VIDEO_QUALITY_LOW, priority=9),
        ]
        deadline = Deadline.after(45)
        assert await heard.layers.apply(alice.target, several, deadline) == {("TR_none", ABSENT), (sid, "priority")}
        await heard.until(lambda: heard.size("alice", sid) == (320, 180))
        for subscribed in (False, True):
            change = control.ReceivedSettings(track_sid=sid, subscribed=subscribed)
            assert not await heard.layers.apply(alice.target, [change], deadline)
            await alice.until("videos", holds=lambda videos, wanted=subscribed: bool(videos) is wanted)
            if not subscribed:
                await asyncio.sleep(FORGOTTEN_S)
        await alice.until("videos", holds=width_is(320))
        # As livekit-client takes it for what it has already.
        assert not await heard.layers.apply(alice.target, [low], Deadline.after(45))
        await alice.until("videos", holds=width_is(320))
        # What is given up while nothing is received does not come back.
        for subscribed in (False, True):
            change = control.ReceivedSettings(track_sid=sid, subscribed=subscribed)
            assert not await heard.layers.apply(alice.target, [change], Deadline.after(45))
            await alice.until("videos", holds=lambda videos, wanted=subscribed: bool(videos) is wanted)
            if not subscribed:
                reset = control.ReceivedSettings(track_sid=sid, reset=True)
                assert not await heard.layers.apply(alice.target, [reset], Deadline.after(45))
        await alice.until("videos", holds=width_is(1280))
        # More than fits into one command.
        many = [control.ReceivedSettings(track_sid=f"TR_{number}", width=640, height=360) for number in range(200)]
        assert await heard.layers.apply(alice.target, many, Deadline.after(45)) == {
            (each.track_sid, ABSENT) for each in many
        }
