"""What a page in Chromium receives, and how the companion changes that."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.clients.browser.app import DEADLINE_S, App
from tests.track_process import Client
from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2 as pb
from track.v1 import publication_update_pb2, track_pb2

LOW, HIGH = track_pb2.VIDEO_QUALITY_LOW, track_pb2.VIDEO_QUALITY_HIGH


async def hosted(admin: Client, room: str, width: int, height: int) -> str:
    """SID of a test pattern that the service publishes."""
    video = pb.VideoOptions(width=width, height=height, frames_per_second=15)
    spec = pb.PublicationSpec(test_pattern=pb.TestPatternInput(), video=video)
    answer = await admin.PublishTrack(pb.PublishTrackRequest(room=room, spec=spec), timeout=45)
    sid: str = answer.publication.track_sid
    return sid


def width_is(width: int) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether one video is shown, so wide."""
    return lambda videos: [video["width"] for video in videos] == [width]


async def rate_since(alice: App, before: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The video two seconds later, and how many frames a second were decoded since."""
    (now,) = await alice.until(
        "videos", holds=lambda videos: videos and videos[0]["clock"] and videos[0]["at"] - before["at"] > 2_000
    )
    return now, (now["frames"] - before["frames"]) / (now["at"] - before["at"]) * 1000


async def test_a_hosted_video_is_decoded_in_its_size_and_rate_with_the_clock_of_now(
    admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 640, 360)
    # The sender begins smaller where the machine is busy.
    (first,) = await alice.until(
        "videos", holds=lambda videos: videos and videos[0]["clock"] and videos[0]["width"] == 640
    )
    assert first["height"] == 360
    assert abs(first["now"] - first["clock"]) < 10_000  # of now, on one machine: a busy one may be late
    before, rate = first, 0.0
    async with asyncio.timeout(DEADLINE_S):
        while not 10 < rate < 22:  # 15 were asked for; a busy machine sends fewer at times, and makes up for them
            before, rate = await rate_since(alice, before)
    assert before["clock"] > first["clock"]
    await alice.attach()
    (one,) = (await alice.done(control.GetStats())).stats
    (stream,) = one.streams
    assert (one.track_sid, one.sent) == (sid, False)
    assert min(stream.frames, stream.frame_width, stream.frame_height) > 0
    assert stream.HasField("last_packet_time")
    # What only sound has.
    assert not stream.HasField("concealed_samples")
    assert (await alice.page.screenshot()).startswith(b"\x89PNG")


async def test_received_settings_switch_between_the_layers_of_a_hosted_video(
    admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    await alice.attach()

    async def receive(**settings: Any) -> list[str]:
        given = control.ReceivedSettings(track_sid=sid, **settings)
        return list((await alice.done(control.SetReceived(tracks=[given]))).unsupported)

    await alice.until("others")
    await alice.until("videos", holds=bool)
    for settings, width in (
        ({"quality": LOW}, 320),
        ({"quality": HIGH}, 1280),
        ({"width": 640, "height": 360}, 640),
        ({"width": 320, "height": 180, "frames_per_second": 8.0}, 320),
    ):
        assert await receive(**settings) == []
        await alice.until("videos", holds=width_is(width))
    # A track that is not enabled stays subscribed, without media.
    assert await receive(enabled=False) == []
    await alice.until("still", holds=bool)
    assert await receive(enabled=True) == []
    await alice.until("still", holds=lambda still: not still)
    left_out = await receive(priority=1, quality=LOW, width=640, height=360)
    assert sorted(left_out) == [f"{sid}.priority", f"{sid}.quality"]
    # Subscribed anew, and not any more; settings of what is not received are none.
    again = control.Restart(track_sid=sid, level=publication_update_pb2.RESTART_LEVEL_RESUBSCRIBE)
    await alice.done(again)
    await alice.until("videos", holds=bool)
    again.level = publication_update_pb2.RESTART_LEVEL_KEYFRAME
    assert (await alice.do(again)).status == control.COMMAND_STATUS_UNSUPPORTED
    assert await receive(subscribed=False) == []
    await alice.until("videos", holds=lambda videos: videos == [])
    assert await receive(subscribed=False, quality=LOW) == [f"{sid}.quality"]


async def test_settings_reach_a_track_to_which_only_the_server_has_subscribed_the_page(
    admin: Client, alice: App, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    await alice.page.call("leave")
    await alice.join(connect={"autoSubscribe": False})
    await alice.attach()
    await alice.subscribed_by_server(sid)
    await alice.until("videos", holds=bool)
    given = control.ReceivedSettings(track_sid=sid, quality=LOW)
    assert not (await alice.done(control.SetReceived(tracks=[given]))).unsupported
    await alice.until("videos", holds=width_is(320))
