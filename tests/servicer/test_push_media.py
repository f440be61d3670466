"""PushMedia: frames of callers, seen and heard by LiveKit's own SDK."""

import asyncio
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.media.encoded import FPS, HEIGHT, WIDTH, encoded, number_in, picture
from tests.media.viewer import Viewer, luma, viewer
from tests.participants import participant
from tests.publications import LIVE, publication, until
from tests.servicer import pushing as push
from tests.track_process import Client, TrackProcess
from track.v1 import media_frame_pb2
from track.v1 import publication_pb2 as pb

SOURCE_ENDED = pb.PUBLICATION_END_CAUSE_SOURCE_ENDED
ROUND = 30
"""Pictures that are shown again and again."""
ROOT = Path(__file__).resolve().parents[2]
CODECS = {"vp8": pb.VIDEO_CODEC_VP8, "h264": pb.VIDEO_CODEC_H264}


async def test_publishing_waits_for_a_session_and_not_for_frames(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("raw_video"))
    assert known.state == pb.PUBLICATION_STATE_STARTING
    assert not known.track_sid
    async with push.pushing(admin, known) as pusher:
        ready = await pusher.ready()
        assert ready.publication.publication_id == known.publication_id
        assert not ready.resumed
        assert not ready.HasField("last_timestamp_us")
        assert ready.credit.bytes >= WIDTH * HEIGHT * 3 // 2


@pytest.mark.parametrize("kind", ["I420", "NV12"])
async def test_raw_pictures_are_seen(admin: Client, room: str, livekit: LiveKitProcess, kind: str) -> None:
    spec = push.push_spec("raw_video")
    # Or WebRTC makes the pictures smaller where the machine is busy.
    spec.video.degradation_preference = pb.DEGRADATION_PREFERENCE_MAINTAIN_RESOLUTION
    spec.push.raw_video.pixel_format = media_frame_pb2.PixelFormat.Value(f"PIXEL_FORMAT_{kind}")
    known = await push.publish_push(admin, room, spec)
    pictures = [picture(number) for number in range(ROUND)]
    if kind == "NV12":
        pictures = [nv12(data) for data in pictures]
    numbers = itertools.count()
    async with viewer(livekit, room) as watching, push.pushing(admin, known) as pusher:
        await pusher.ready()
        playing = asyncio.create_task(pusher.play(push.raw(number, pictures[number % ROUND]) for number in numbers))
        await see(admin, known, watching)
        await stopped(playing)
        stats = await pusher.finish()
    made = next(numbers)
    # The last one may have been made and not sent.
    assert stats.frames_taken + stats.frames_dropped in (made, made - 1)
    assert stats.bytes_taken == stats.frames_taken * len(pictures[0])
    assert (await publication(admin, room, known.publication_id)).end_cause == SOURCE_ENDED


async def see(admin: Client, known: pb.Publication, watching: Viewer) -> None:
    """Waits until half of the pictures of a round and more were seen, of the right size and in order."""
    live = await until(admin, known, lambda found: found.state == LIVE)
    seen: list[int] = []
    async with watching.frames(live.track_sid) as frames, asyncio.timeout(45):
        while len(set(seen)) <= ROUND / 2:
            _, frame = await frames.get()
            assert (frame.width, frame.height) == (WIDTH, HEIGHT)
            if (number := number_in(luma(frame))) is not None:
                seen.append(number)
    steps = [(after - before) % ROUND for before, after in itertools.pairwise(seen)]
    assert all(step < ROUND / 2 for step in steps), f"in order: {seen}"


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancels it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def nv12(i420: bytes) -> bytes:
    """The same picture, U and V interleaved."""
    luma_bytes, chroma_bytes = WIDTH * HEIGHT, WIDTH * HEIGHT // 4
    both = np.empty(2 * chroma_bytes, dtype=np.uint8)
    both[0::2] = np.frombuffer(i420, np.uint8, chroma_bytes, luma_bytes)
    both[1::2] = np.frombuffer(i420, np.uint8, chroma_bytes, luma_bytes + chroma_bytes)
    return i420[:luma_bytes] + both.tobytes()


@pytest.mark.parametrize("codec", CODECS)
async def test_access_units_are_passed_through(admin: Client, room: str, livekit: LiveKitProcess, codec: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("encoded_video", video=push.video_of(CODECS[codec])))
    access_units = encoded(codec, ROUND)
    sent: list[push.Request] = []

    def endless() -> Iterator[push.Request]:
        for number in itertools.count():
            place = number % ROUND
            sent.append(push.unit(number, access_units[place], keyframe=place % FPS == 0))
            yield sent[-1]

    async with viewer(livekit, room) as watching, push.pushing(admin, known) as pusher:
        await pusher.ready()
        playing = asyncio.create_task(pusher.play(endless()))
        await see(admin, known, watching)
        await stopped(playing)
        stats = await pusher.finish()
    # The last one may have been made and not sent.
    sizes = [len(request.encoded_video.data) for request in sent]
    assert stats.frames_taken in (len(sizes), len(sizes) - 1)
    assert stats.bytes_taken == sum(sizes[: stats.frames_taken])
    assert not stats.frames_dropped
    told = pusher.told("bitrate_request")
    assert told, "what the connection carries is told"
    assert told[0].bitrate_request.target_bitrate_bps > 0


async def test_a_new_subscriber_has_the_caller_asked_for_a_keyframe(
    admin: Client, room: str, livekit: LiveKitProcess
) -> None:
    known = await push.publish_push(admin, room, push.push_spec("encoded_video"))
    access_units = encoded("vp8", 40, keyframe_every=1000)
    keyframe = access_units[0]
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        number = 0

        async def feed() -> None:
            """A keyframe first, and then only where one is asked for."""
            nonlocal number
            answered = 0
            while True:
                asked = len(pusher.told("keyframe_request"))
                key = number == 0 or asked > answered
                answered = asked
                data = keyframe if key else access_units[1 + number % (len(access_units) - 1)]
                await pusher.send(push.unit(number, data, keyframe=key))
                number += 1
                await asyncio.sleep(1 / FPS)

        feeding = asyncio.create_task(feed())
        try:
            live = await until(admin, known, lambda found: found.state == LIVE)
            await pusher.until(lambda: number > FPS)
            before = len(pusher.told("keyframe_request"))
            async with viewer(livekit, room) as watching, watching.frames(live.track_sid) as frames:
                async with asyncio.timeout(45):
                    await frames.get()
            assert len(pusher.told("keyframe_request")) > before
        finally:
            await stopped(feeding)


@pytest.mark.parametrize("stereo", [True, False])
async def test_sound_is_heard(admin: Client, room: str, livekit: LiveKitProcess, stereo: bool) -> None:
    spec = push.push_spec("pcm")
    spec.push.pcm.sample_rate_hz, spec.push.pcm.channels = 44_100, 2
    spec.audio.stereo = stereo
    known = await push.publish_push(admin, room, spec)
    async with viewer(livekit, room) as watching, push.pushing(admin, known) as pusher:
        await pusher.ready()
        pieces = (push.sound(0.02 * number, 0.02, 44_100, 500, 1500) for number in itertools.count())
        playing = asyncio.create_task(pusher.play(pieces))
        try:
            live = await until(admin, known, lambda found: found.state == LIVE)
            left, right = await watching.channels(live.track_sid, 1.0)
        finally:
            await stopped(playing)
    if stereo:
        assert (tones(left), tones(right)) == ({500}, {1500})
    else:
        assert tones(left) == {500, 1500}


def tones(wave: "np.typing.NDArray[np.float64]") -> set[int]:
    """The frequencies that are heard, in hertz, to the nearest 20."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    hertz = np.fft.rfftfreq(len(wave), 1 / 48_000)
    loudest = spectrum.max()
    return {round(float(hertz[index]) / 20) * 20 for index in np.flatnonzero(spectrum > loudest / 5)}


async def test_payloads_arrive_in_order(admin: Client, room: str, livekit: LiveKitProcess) -> None:
    known = await push.publish_push(admin, room, push.push_spec("data"))
    assert known.state == LIVE, "a data track needs no frame to be published"
    received: list[bytes] = []

    async with participant(livekit, room, "reader") as reader:
        track: asyncio.Future[rtc.RemoteDataTrack] = asyncio.get_running_loop().create_future()

        def published(found: rtc.RemoteDataTrack) -> None:
            if not track.done():
                track.set_result(found)

        reader.on("data_track_published", published)

        async def read() -> None:
            async for frame in (await track).subscribe():
                received.append(bytes(frame.payload))  # noqa: PERF401  it is looked at meanwhile

        reading = asyncio.create_task(read())
        async with push.pushing(admin, known) as pusher:
            await pusher.ready()
            number = 0
            async with asyncio.timeout(45):
                while len(received) < 20:
                    await pusher.send(push.payload(b"%d" % number))
                    number += 1
                    await asyncio.sleep(0.02)
            stats = await pusher.finish()
            assert stats.frames_taken == number
            assert not stats.HasField("buffered")
        await stopped(reading)
    numbers = [int(data) for data in received]
    assert numbers == sorted(set(numbers))


async def test_messages_arrive_in_order_and_all_of_them_before_their_sender_leaves(
    admin: Client, room: str, livekit: LiveKitProcess
) -> None:
    spec = push.push_spec("data")
    spec.data_options.delivery = pb.DATA_DELIVERY_RELIABLE_MESSAGES
    spec.data_options.topic = "cursor"
    known = await push.publish_push(admin, room, spec)
    # More than what passes by itself while the participant, which has nothing else to publish, leaves.
    messages = [b"%04d" % number * 3000 for number in range(400)]
    received: list[bytes] = []
    async with participant(livekit, room, "reader") as reader:
        reader.on("data_received", lambda packet: received.append(packet.data) if packet.topic == "cursor" else None)
        async with push.pushing(admin, known) as pusher:
            await pusher.ready()
            await pusher.send(*map(push.payload, messages))
            await pusher.finish()
        async with asyncio.timeout(45):
            while len(received) < len(messages):
                await asyncio.sleep(0.02)
    assert received == messages


async def test_a_stream_that_broke_is_taken_up_again(admin: Client, room: str, livekit: LiveKitProcess) -> None:
    known = await push.publish_push(admin, room, push.push_spec("encoded_video", resume_grace=30))
    requests = push.units(encoded("vp8", 45))
    async with viewer(livekit, room) as watching:
        async with push.pushing(admin, known) as pusher:
            await pusher.ready()
            await pusher.play(requests[:15])
            live = await until(admin, known, lambda found: found.state == LIVE)
            await pusher.until(lambda: pusher.stats().frames_taken == 15)
        async with watching.frames(live.track_sid) as frames, push.taken_up(admin, known) as pusher:
            ready = await pusher.ready()
            assert ready.resumed
            assert ready.last_timestamp_us == 14 * push.STEP_US
            assert ready.publication.track_sid == live.track_sid
            await pusher.play(requests[15:])
            stats = await pusher.finish()
            assert stats.frames_taken == 45
            assert not frames.empty()
    assert [entry.track_sid for entry in (await publication(admin, room, known.publication_id)).lineage] == [
        live.track_sid
    ]


async def test_the_example_works(track: TrackProcess, livekit: LiveKitProcess, room: str) -> None:
    environment = {
        **os.environ,
        "TOKEN": track.token("camera", room_admin=True, room=room),
        "PYTHONPATH": str(ROOT / "generated"),
    }
    command = [sys.executable, str(ROOT / "examples" / "push_camera.py"), track.address, room, "--seconds", "60"]
    async with track.client("admin", room_admin=True, room=room) as admin, viewer(livekit, room) as watching:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(45):
                publication_id = (await process.stdout.readline()).decode().strip()
                live = await until(
                    admin, await publication(admin, room, publication_id), lambda found: found.state == LIVE
                )
                async with watching.frames(live.track_sid) as frames:
                    for _ in range(5):
                        _, frame = await frames.get()
                        # A busy machine makes WebRTC send less of it.
                        assert frame.width * 9 == frame.height * 16
                        assert luma(frame).max() > 180 > 80 > luma(frame).min()
                while b"taken" not in await process.stdout.readline():
                    pass
        finally:
            process.kill()
            await process.wait()
