"""What the companion in Chromium publishes, from fake devices, and what a subscriber with the official SDK decodes."""

import asyncio

import pytest

from tests.clients.browser.app import App
from tests.clients.browser.plans import CAMERA, app_video, camera, device
from tests.livekit_process import LiveKitProcess
from tests.media.viewer import Viewer, viewer
from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2 as pb
from track.v1 import publication_update_pb2, track_pb2

KEYFRAME = publication_update_pb2.RESTART_LEVEL_KEYFRAME
REPUBLISH = publication_update_pb2.RESTART_LEVEL_REPUBLISH
RESUBSCRIBE = publication_update_pb2.RESTART_LEVEL_RESUBSCRIBE
DEADLINE_S = 45.0


async def size_and_rate(seen: Viewer, sid: str, width: int, frames_wanted: int = 30) -> tuple[int, int, float]:
    """Of the frames that a subscriber decodes, from the first one that is so wide."""
    async with asyncio.timeout(DEADLINE_S), seen.frames(sid) as frames:
        while True:
            begun, frame = await frames.get()
            if frame.width == width:
                break
        ended = begun
        for _ in range(frames_wanted):
            ended, frame = await frames.get()
        return frame.width, frame.height, frames_wanted / (ended - begun)


async def test_a_subscriber_decodes_the_camera_in_the_size_and_rate_asked_for(
    alice: App, livekit: LiveKitProcess, room: str
) -> None:
    await alice.attach()
    plan = camera(width=640, height=360, frames_per_second=15, max_bitrate_bps=400_000)
    plan.spec.video.degradation_preference = pb.DEGRADATION_PREFERENCE_MAINTAIN_RESOLUTION
    reply = await alice.do(plan)
    assert (reply.status, reply.consent) == (control.COMMAND_STATUS_DONE, pb.CONSENT_GRANTED)
    async with viewer(livekit, room) as seen:
        sid = reply.result.track_sid
        published = await seen.publication_of(sid)
        assert published.name == "front"
        rate = 0.0
        async with asyncio.timeout(DEADLINE_S):
            while not 10 < rate < 22:  # not the 30 of the camera; a busy machine sends fewer at times
                width, height, rate = await size_and_rate(seen, sid, 640)
                assert (width, height) == (640, 360)
        (own,) = await alice.page.call("publications")
        assert own["preference"] == "maintain-resolution"
        assert [(one["maxBitrate"], one["maxFramerate"]) for one in own["encodings"]] == [(400_000, 15)]
        # What was published is so no more, and can be published again.
        await alice.done(control.Unpublish(track_sid=sid))
        await seen.gone(sid)
        assert (await alice.done(plan)).track_sid != sid


async def test_a_publication_is_published_once(alice: App) -> None:
    await alice.attach()
    first, second = await asyncio.gather(alice.done(CAMERA), alice.done(CAMERA))
    assert first.track_sid == second.track_sid == (await alice.done(CAMERA)).track_sid
    assert len(await alice.page.call("publications")) == 1


async def test_layers_are_sent_as_they_were_asked_for_one_by_one(alice: App) -> None:
    await alice.attach(app={"canvas": [960, 540]})
    plan = app_video(width=960, height=540, frames_per_second=20)
    for width, height, bitrate, rate in ((160, 90, 60_000, 5), (480, 270, 200_000, 10), (960, 540, 700_000, 20)):
        plan.spec.video.layers.add(
            width=width, height=height, max_bitrate_bps=bitrate, frames_per_second=rate
        )  # fmt: skip
    await alice.done(plan)
    (own,) = await alice.page.call("publications")
    told = [(one["scaleResolutionDownBy"], one["maxBitrate"], one["maxFramerate"]) for one in own["encodings"]]
    assert told == [(6, 60_000, 5), (2, 200_000, 10), (1, 700_000, 20)]
    # The SDK would leave layers out of a small picture: that is said, and nothing is published.
    small = app_video(width=320, height=180)
    small.publication_id = "PUB_small"
    for width, height in ((160, 90), (320, 180)):
        small.spec.video.layers.add(width=width, height=height)
    assert (await alice.do(small)).status == control.COMMAND_STATUS_UNSUPPORTED
    assert len(await alice.page.call("publications")) == 1


async def test_codec_and_scalability_mode_are_those_asked_for(alice: App, livekit: LiveKitProcess, room: str) -> None:
    await alice.attach(app={"canvas": [320, 180]})
    plan = app_video(width=320, height=180, codec=pb.VIDEO_CODEC_VP9, scalability_mode="L1T2")
    sid = (await alice.done(plan)).track_sid
    async with viewer(livekit, room) as seen:
        assert (await seen.publication_of(sid)).mime_type.lower() == "video/vp9"
        assert (await size_and_rate(seen, sid, 320, 5))[:2] == (320, 180)
    (own,) = await alice.page.call("publications")
    assert [one["scalabilityMode"] for one in own["encodings"]] == ["L1T2"]


async def test_a_microphone_has_the_processing_asked_for_and_is_heard(
    alice: App, livekit: LiveKitProcess, room: str
) -> None:
    await alice.attach()
    plan = device(pb.DEVICE_KIND_MICROPHONE, track_pb2.TRACK_SOURCE_MICROPHONE)
    audio = plan.spec.audio
    audio.max_bitrate_bps, audio.dtx, audio.red = 32_000, False, False
    audio.noise_suppression, audio.echo_cancellation, audio.auto_gain_control = False, False, False
    sid = (await alice.done(plan)).track_sid
    async with viewer(livekit, room) as seen:
        assert (await seen.publication_of(sid)).mime_type.lower() == "audio/opus"  # without RED
        assert abs(await seen.sound(sid, 1.0)).max() > 0.01  # the fake device beeps
        (own,) = await alice.page.call("publications")
        processing = ("noiseSuppression", "echoCancellation", "autoGainControl")
        assert [own["settings"][name] for name in processing] == [False, False, False]
        assert own["encodings"][0]["maxBitrate"] == 32_000
        # Processing and bitrate change while it is live.
        audio.noise_suppression, audio.max_bitrate_bps = True, 24_000
        assert (await alice.done(control.Update(track_sid=sid, publish=plan))).track_sid == sid
        (own,) = await alice.page.call("publications")
        assert (own["settings"]["noiseSuppression"], own["encodings"][0]["maxBitrate"]) == (True, 24_000)


@pytest.mark.parametrize("kind", [pb.DEVICE_KIND_SCREEN, pb.DEVICE_KIND_SCREEN_AUDIO, pb.DEVICE_KIND_APP_AUDIO])
async def test_screen_its_sound_and_the_apps_own_sound_are_published(
    alice: App, kind: "pb.DeviceKind.ValueType"
) -> None:
    await alice.attach(app={"canvas": [320, 180]})
    plan = device(kind, name="canvas" if kind == pb.DEVICE_KIND_APP_AUDIO else "")
    if kind == pb.DEVICE_KIND_SCREEN:
        plan.spec.source = track_pb2.TRACK_SOURCE_SCREEN_SHARE
        plan.spec.video.width, plan.spec.video.height, plan.spec.video.frames_per_second = 320, 180, 5
    else:
        plan.spec.audio.max_bitrate_bps = 24_000
    sid = (await alice.done(plan)).track_sid
    (own,) = await alice.page.call("publications")
    assert (own["sid"], own["live"]) == (sid, "live")
    if kind == pb.DEVICE_KIND_SCREEN:
        assert own["source"] == "screen_share"


async def test_what_the_app_does_not_offer_is_unsupported(alice: App) -> None:
    await alice.attach()
    for name in ("canvas", "toString"):
        plan = app_video(width=320, height=180)
        plan.spec.device.device = name
        assert (await alice.do(plan)).status == control.COMMAND_STATUS_UNSUPPORTED
    camera_of_nobody = camera(width=320, height=180)
    camera_of_nobody.spec.device.device = "no-such-device"
    assert (await alice.do(camera_of_nobody)).status == control.COMMAND_STATUS_FAILED
    assert (await alice.do(control.Unpublish(track_sid="TR_none"))).status == control.COMMAND_STATUS_NOT_FOUND


async def test_a_source_of_the_app_that_gives_no_live_picture_fails(alice: App) -> None:
    await alice.attach(app={"dead-canvas": [320, 180]})
    plan = app_video(width=320, height=180)
    plan.spec.device.device = "dead-canvas"
    reply = await alice.do(plan)
    assert (reply.status, reply.detail) == (
        control.COMMAND_STATUS_FAILED,
        "what the app gives as dead-canvas is no live video",
    )
    assert await alice.page.call("publications") == []


@pytest.mark.parametrize(
    "action", [control.Update(publish=camera(width=640, height=360)), control.Restart(level=REPUBLISH)]
)
async def test_what_is_unpublished_while_it_is_made_anew_stays_away(
    alice: App, action: control.Update | control.Restart
) -> None:
    await alice.attach()
    action.track_sid = (await alice.done(CAMERA)).track_sid
    await alice.page.call("camera", 1_000)
    reply = await alice.ask(action)
    await alice.until("opened")
    await alice.done(control.Unpublish(publication_id="PUB_1"))
    assert (await alice.result(reply)).status == control.COMMAND_STATUS_FAILED
    assert await alice.page.call("publications") == []
    assert not await alice.page.call("filming")


async def test_rates_change_in_place_and_sizes_by_a_new_track_that_comes_first(
    alice: App, livekit: LiveKitProcess, room: str
) -> None:
    await alice.attach()
    sid = (await alice.done(camera(width=320, height=180, frames_per_second=20))).track_sid
    async with viewer(livekit, room) as seen:
        await size_and_rate(seen, sid, 320, 5)
        plan = camera(width=320, height=180, frames_per_second=10, max_bitrate_bps=90_000)
        result = await alice.done(control.Update(track_sid=sid, publish=plan))
        assert (result.track_sid, result.HasField("gap_ms")) == (sid, False)
        (own,) = await alice.page.call("publications")
        assert own["settings"]["frameRate"] == 10
        assert [(one["maxBitrate"], one["maxFramerate"]) for one in own["encodings"]] == [(90_000, 10)]
        plan = camera(width=640, height=360, frames_per_second=10)
        for participant in (viewer_room := seen.room).remote_participants.values():
            assert participant.identity == "alice"
        viewer_room.on("track_published", lambda publication, _: publication.set_subscribed(True))
        changed = await alice.done(control.Update(track_sid=sid, publish=plan))
        assert changed.track_sid != sid
        assert changed.gap_ms > 0  # the camera had to be opened again
        await seen.gone(sid)
        assert (await size_and_rate(seen, changed.track_sid, 640, 5))[:2] == (640, 360)


async def test_restarts_tell_the_new_sid_and_the_gap_and_carry_the_mute(
    alice: App, livekit: LiveKitProcess, room: str
) -> None:
    await alice.attach()
    sid = (await alice.done(CAMERA)).track_sid
    async with viewer(livekit, room) as seen:
        seen.room.on("track_published", lambda publication, _: publication.set_subscribed(True))
        await size_and_rate(seen, sid, 320, 5)
        before = await keyframes(alice)
        assert (await alice.done(control.Restart(track_sid=sid, level=KEYFRAME))).track_sid == sid
        assert await keyframes(alice) > before
        graceful = await alice.done(control.Restart(track_sid=sid, level=REPUBLISH, graceful=True))
        assert graceful.track_sid != sid
        assert graceful.gap_ms == 0
        abrupt = await alice.done(control.Restart(track_sid=graceful.track_sid, level=REPUBLISH))
        assert abrupt.track_sid not in (sid, graceful.track_sid)
        assert abrupt.gap_ms > 0
        assert (await size_and_rate(seen, abrupt.track_sid, 320, 5))[:2] == (320, 180)
        await alice.done(control.SetMuted(track_sid=abrupt.track_sid, muted=True))
        muted = await alice.done(control.Restart(track_sid=abrupt.track_sid, level=REPUBLISH, graceful=True))
        assert not muted.HasField("gap_ms")
        (own,) = await alice.page.call("publications")
        assert (own["sid"], own["muted"]) == (muted.track_sid, True)
        # The camera was let go, and is opened again.
        await alice.done(control.SetMuted(track_sid=muted.track_sid, muted=False))
        assert (await size_and_rate(seen, muted.track_sid, 320, 5))[:2] == (320, 180)
    for wrong in (RESUBSCRIBE, publication_update_pb2.RESTART_LEVEL_REJOIN):
        reply = await alice.do(control.Restart(track_sid=muted.track_sid, level=wrong))
        assert reply.status == control.COMMAND_STATUS_UNSUPPORTED


async def test_what_is_published_muted_opens_the_camera_only_when_it_is_unmuted(alice: App) -> None:
    await alice.attach()
    plan = camera(width=320, height=180)
    plan.muted = True
    sid = (await alice.done(plan)).track_sid
    (own,) = await alice.page.call("publications")
    assert (own["muted"], own["live"]) == (True, "ended")
    await alice.done(control.SetMuted(track_sid=sid, muted=False))
    (own,) = await alice.page.call("publications")
    assert (own["muted"], own["live"], own["settings"]["width"]) == (False, "live", 320)


async def test_after_a_full_reconnect_it_obeys_the_new_connection_alone_and_publishes_nothing_twice(alice: App) -> None:
    await alice.attach()
    sid, old = (await alice.done(CAMERA)).track_sid, alice.target
    await alice.page.call("scenario", "full-reconnect")
    await alice.until("sid", holds=lambda now: now and now != old.sid)
    assert (await alice.answering()).status == control.COMMAND_STATUS_NOT_FOR_US
    await alice.renew()
    again = await alice.done(CAMERA)
    assert again.track_sid != sid
    (own,) = await alice.until("publications", holds=lambda found: len(found) == 1)
    assert own["sid"] == again.track_sid


async def test_a_camera_that_the_sdk_still_opens_after_a_reconnect_is_not_opened_beside_it(alice: App) -> None:
    await alice.attach()
    await alice.done(CAMERA)
    await alice.page.call("camera", 6_000)
    old = alice.target
    await alice.page.call("scenario", "full-reconnect")
    await alice.until("sid", holds=lambda now: now and now != old.sid)
    await alice.renew()
    await alice.until("opened")
    await alice.answering()
    again = await alice.done(CAMERA)
    (own,) = await alice.until("publications", holds=lambda found: len(found) == 1)
    assert own["sid"] == again.track_sid
    assert await alice.page.call("opened") == 1


async def test_statistics_are_those_of_webrtc(alice: App, livekit: LiveKitProcess, room: str) -> None:
    await alice.attach()
    sid = (await alice.done(CAMERA)).track_sid
    async with viewer(livekit, room) as seen:
        await size_and_rate(seen, sid, 320, 15)
        (one,) = (await alice.done(control.GetStats(track_sids=[sid]))).stats
    (stream,) = one.streams
    assert (one.track_sid, one.sent) == (sid, True)
    assert (stream.frame_width, stream.frame_height) == (320, 180)
    assert min(stream.ssrc, stream.packets, stream.bytes, stream.frames, stream.frames_per_second) > 0
    assert not (await alice.done(control.GetStats(track_sids=["TR_none"]))).stats


async def keyframes(app: App) -> int:
    """How many the first track has sent."""
    found = await app.page.call("keyframes")
    return int(found)
