"""PullMedia: what is pulled from hosted and other publishers, as files that LibAV reads, and as frames."""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from tests.encrypted import KEY, encrypted
from tests.livekit_process import LiveKitProcess
from tests.media.clips import write_sound
from tests.media.sounds import Wave, heard_of, pitch_hz, sine, strength_db
from tests.participants import participant
from tests.publications import DATA, TONE, pattern, publish, unpublish, until_listed
from tests.servicer.pulls import pulling as pull
from tests.servicer.pulls.pulling import MATROSKA, OGG, WAV
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import pull_pb2, tracks_pb2
from track_server.media.inputs.clock import read_clock

WIDTH, HEIGHT = 320, 180
ROOT = Path(__file__).resolve().parents[3]
GUESSED = b"a-key-that-must-not-be-found-anywhere-either"


@pytest.fixture
def sound(track: TrackProcess, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Writes channels of sound into the media folder; gives the URI."""

    def write(*channels: Wave) -> str:
        name = f"{request.node.name[:40]}-{len(channels)}.wav".replace("/", "-")
        return write_sound(Path(track.directory) / "media" / name, *channels).name

    return write


@pytest.mark.parametrize(("container", "mime_type", "codec"), [
    (WAV, "audio/wav", "pcm_s16le"), (OGG, "audio/ogg", "opus"), (MATROSKA, "audio/x-matroska", "opus"),
])  # fmt: skip
async def test_a_tone_is_read_from_each_container_with_its_length_and_pitch(
    admin: Client, room: str, container: pull_pb2.PullContainer, mime_type: str, codec: str
) -> None:
    tone = await publish(admin, room, TONE)
    got = await pull.pulled(admin, room, 2, track_sid=tone.track_sid, container=container)
    (started,) = got.started
    assert (started.track_sid, started.mime_type) == (tone.track_sid, mime_type)
    assert (started.sample_rate_hz, started.channels) == (48_000, 1)
    found = pull.contents(got.data)
    assert found.codecs == {"audio": codec}
    assert found.seconds["audio"] == pytest.approx(2, abs=0.05)
    assert found.declared_s == pytest.approx(2, abs=0.05)
    assert pitch_hz(found.sound[0][24_000:72_000]) == pytest.approx(440, abs=3)
    assert got.ended is not None
    assert got.ended.stats.frames_delivered + got.ended.stats.frames_dropped == 20
    assert got.ended.stats.bytes_delivered == len(got.data)


async def test_two_channels_are_pulled_apart(admin: Client, room: str, sound: Callable[..., str]) -> None:
    stereo = await publish(admin, room, heard_of(sound(sine(600, 2), sine(1500, 2)), stereo=True))
    for container in (WAV, OGG):
        got = await pull.pulled(admin, room, 2, publication_id=stereo.publication_id, container=container)
        assert got.started[0].channels == 2
        left, right = (channel[48_000:90_000] for channel in pull.contents(got.data).sound)
        assert strength_db(left, 600) - strength_db(left, 1500) > 20
        assert strength_db(right, 1500) - strength_db(right, 600) > 20


async def test_picture_and_sound_go_into_one_file_and_it_may_be_cut_anywhere(admin: Client, room: str) -> None:
    camera, tone = await asyncio.gather(
        publish(admin, room, pattern(WIDTH, HEIGHT), "host"), publish(admin, room, TONE, "host")
    )
    got = await pull.pulled(
        admin, room, 3, track_sid=camera.track_sid, audio_track_sid=tone.track_sid, container=MATROSKA
    )
    assert got.started[0].mime_type == "video/x-matroska"
    found = pull.contents(got.data)
    assert found.codecs == {"video": "vp8", "audio": "opus"}
    assert found.declared_s == pytest.approx(3, abs=0.05)
    assert found.seconds["audio"] == pytest.approx(3, abs=0.2)
    assert found.seconds["video"] == pytest.approx(3, abs=0.4)
    assert pitch_hz(found.sound[0][48_000:96_000]) == pytest.approx(440, abs=3)
    assert {(picture.width, picture.height) for picture in found.pictures} == {(WIDTH, HEIGHT)}
    clocks = burnt_in(found)
    assert len(clocks) >= 10
    # The clocks that are burnt in run as the timestamps do.
    first, last = clocks[0], clocks[-1]
    assert (last[1] - first[1]) / 1000 == pytest.approx(last[0] - first[0], abs=0.3)
    cut = pull.contents(got.data[: len(got.data) * 2 // 3])
    assert cut.seconds["video"] > 1
    assert cut.seconds["audio"] > 1


def more_than(count: int) -> Callable[[pull.Pull], bool]:
    """Whether so much has come, and more."""
    return lambda got: len(got.media) > count


def burnt_in(found: pull.Contents) -> list[tuple[float, int]]:
    """Time of each picture whose clock can be read, in seconds, and what its clock shows in milliseconds."""
    clocks = []
    for picture in found.pictures:
        shown = read_clock(picture.to_ndarray(format="yuv420p")[: picture.height].astype(np.uint8))
        if shown is not None and picture.time is not None:
            clocks.append((picture.time, shown))
    return clocks


async def test_a_reader_gets_what_is_sent_while_it_is_sent(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    async with pull.pulling(admin, room, track_sid=tone.track_sid, container=OGG) as got:
        for chunks in (2, 4, 6):
            await got.until(more_than(chunks - 1))
            # A second of sound is never held back.
            seconds = pull.contents(got.data).seconds["audio"]
            assert seconds > 0
    assert got.ended is None


async def test_frames_come_as_they_were_decoded(admin: Client, room: str) -> None:
    camera, tone, data = await asyncio.gather(
        publish(admin, room, pattern(WIDTH, HEIGHT), "host"),
        publish(admin, room, TONE, "host"),
        publish(admin, room, DATA, "data"),
    )
    seen = await pull.pulled(admin, room, 2, track_sid=camera.track_sid, frames=pull.FRAMES)
    assert seen.started[0].mime_type == "video/raw"
    pictures = [response.video for response in seen.media]
    assert all(len(each.data) == each.width * each.height * 3 // 2 for each in pictures)
    assert pictures[0].timestamp_us == 0
    assert all(after.timestamp_us > before.timestamp_us for before, after in itertools.pairwise(pictures))
    assert pictures[-1].timestamp_us < 2_000_000
    shown = [read_clock(np.frombuffer(each.data, np.uint8)[: each.width * each.height].reshape(each.height, each.width))
             for each in pictures]  # fmt: skip
    assert sum(clock is not None for clock in shown) > len(shown) / 2
    heard = await pull.pulled(
        admin, room, 1, publication_id=tone.publication_id, frames=pull_pb2.PullFrames(channels=2)
    )
    samples = b"".join(response.pcm.data for response in heard.media)
    assert (heard.started[0].mime_type, heard.started[0].channels) == ("audio/pcm", 2)
    assert len(samples) == 48_000 * 2 * 2
    assert [response.pcm.timestamp_us for response in heard.media[:3]] == [0, 20_000, 40_000]
    assert pitch_hz(np.frombuffer(samples, np.int16)[::2][12_000:]) == pytest.approx(440, abs=3)
    taken = await pull.pulled(admin, room, 1, track_sid=data.track_sid, frames=pull.FRAMES)
    assert taken.started[0].mime_type == "application/octet-stream"
    assert not taken.started[0].HasField("channels")
    assert len([response.data.payload for response in taken.media]) >= 5


async def test_pictures_are_scaled_where_a_size_is_asked_for(admin: Client, room: str) -> None:
    camera = await publish(admin, room, pattern(WIDTH, HEIGHT))
    wanted = pull_pb2.PullFrames(width=160, height=90)
    got = await pull.pulled(admin, room, 0.5, track_sid=camera.track_sid, frames=wanted)
    assert {(each.video.width, each.video.height, len(each.video.data)) for each in got.media} == {(160, 90, 21_600)}


async def test_of_simulcast_the_highest_layer_is_pulled(admin: Client, room: str) -> None:
    camera = await publish(admin, room, pattern(960, 540, 10))
    async with pull.pulling(admin, room, track_sid=camera.track_sid, frames=pull.FRAMES) as got:
        await got.until(lambda so_far: any(each.video.width == 960 for each in so_far.media))
    got = await pull.pulled(admin, room, 1, track_sid=camera.track_sid, container=MATROSKA)
    # Its size is the declared one, whatever layer came first.
    assert {(each.width, each.height) for each in pull.contents(got.data).pictures} == {(960, 540)}


async def test_what_an_sdk_publishes_is_pulled_and_a_turned_picture_is_upright(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "phone") as phone, turned_camera(phone) as camera:
        await until_listed(admin, room, camera.sid)
        seen = await pull.pulled(admin, room, 0.5, track_sid=camera.sid, frames=pull.FRAMES)
        assert {(each.video.width, each.video.height) for each in seen.media} == {(180, 320)}
        # What was at the left is at the top.
        last = seen.media[-1].video
        luma = np.frombuffer(last.data, np.uint8)[: 180 * 320].reshape(320, 180)
        assert luma[:100].mean() > 180
        assert luma[-100:].mean() < 60
        file = pull.contents((await pull.pulled(admin, room, 0.5, track_sid=camera.sid, container=MATROSKA)).data)
        assert {(each.width, each.height) for each in file.pictures} == {(180, 320)}


@contextlib.asynccontextmanager
async def turned_camera(joined: rtc.Room) -> AsyncIterator[rtc.LocalTrackPublication]:
    """White at the left and black at the right, to be turned by a quarter."""
    source = rtc.VideoSource(WIDTH, HEIGHT)
    track = rtc.LocalVideoTrack.create_video_track("cam", source)
    luma = np.zeros((HEIGHT, WIDTH), np.uint8)
    luma[:, : WIDTH // 2] = 235
    data = luma.tobytes() + bytes([128]) * (WIDTH * HEIGHT // 2)
    frame = rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.I420, data)

    async def feed() -> None:
        while True:
            source.capture_frame(frame, rotation=rtc.VideoRotation.VIDEO_ROTATION_90)
            await asyncio.sleep(0.05)

    feeding = asyncio.create_task(feed())
    try:
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        yield await joined.local_participant.publish_track(track, options)
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def test_what_is_encrypted_is_pulled_with_its_key_and_never_without(
    admin: Client, track: TrackProcess, room: str
) -> None:
    camera, data = await asyncio.gather(
        publish(admin, room, encrypted(pattern(WIDTH, HEIGHT)), "host"), publish(admin, room, encrypted(DATA), "data")
    )
    targets: list[dict[str, Any]] = [
        {"track_sid": camera.track_sid, "container": MATROSKA},
        {"track_sid": data.track_sid, "frames": pull.FRAMES},
    ]
    for target in targets:
        for key in (b"", GUESSED):
            refused = pull.refusal_of if not key else refused_later
            answer = await refused(admin, room, encryption_key=key, **target)
            assert (answer.code.name, answer.reason) == ("FAILED_PRECONDITION", "ENCRYPTION_KEY_NEEDED")
            assert answer.fields == ("encryption_key",)
    got = await pull.pulled(admin, room, 2, encryption_key=KEY, **targets[0])
    assert len(burnt_in(pull.contents(got.data))) >= 10
    async with pull.pulling(admin, room, encryption_key=KEY, **targets[1]) as taken:
        await taken.until(lambda so_far: len(so_far.media) >= 5)

    # Neither the right one nor a wrong one is kept anywhere.
    kept = files_in(track.directory)
    assert track.log_path in kept
    for path in kept:
        assert GUESSED not in path.read_bytes(), path.name


def files_in(folder: Path) -> list[Path]:
    """Its files, not those of its folders."""
    return [path for path in folder.iterdir() if path.is_file()]


async def refused_later(client: Client, room: str, **fields: Any) -> Any:
    """How a stream fails that brings nothing that can be read."""
    async with pull.pulling(client, room, **fields) as got:
        refused = await got.refused()
        assert got.data == b""
        assert not [each for each in got.media if each.HasField("video")]
        return refused


async def test_a_muted_microphone_is_silent_and_a_muted_camera_shows_nothing(admin: Client, room: str) -> None:
    tone, camera = await asyncio.gather(
        publish(admin, room, TONE, "host"), publish(admin, room, pattern(WIDTH, HEIGHT), "host")
    )
    refs = [tracks_pb2.TrackRef(track_sid=each.track_sid) for each in (tone, camera)]
    answer = await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=refs), timeout=30)
    assert all(result.muted for result in answer.results)
    # Also where nothing comes, it ends in time.
    heard, seen = await asyncio.gather(
        pull.pulled(admin, room, 1, track_sid=tone.track_sid, container=WAV),
        pull.pulled(admin, room, 1, track_sid=camera.track_sid, frames=pull.FRAMES),
    )
    found = pull.contents(heard.data)
    assert found.seconds["audio"] == pytest.approx(1, abs=0.05)
    assert np.abs(found.sound).max() < 0.01
    assert not seen.media


async def test_the_end_of_a_track_is_the_end_of_what_is_pulled(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    async with (
        pull.pulling(admin, room, track_sid=tone.track_sid, container=OGG) as by_sid,
        pull.pulling(admin, room, publication_id=tone.publication_id, frames=pull.FRAMES) as by_id,
    ):
        for got in (by_sid, by_id):
            await got.until(lambda so_far: len(so_far.media) >= 3)
        await unpublish(admin, pb.Publication(room=room, publication_id=tone.publication_id))
        for got in (by_sid, by_id):
            ended = await got.to_the_end()
            assert ended.reason == pull.TRACK_ENDED
            assert ended.stats.frames_delivered >= 3
    assert pull.contents(by_sid.data).seconds["audio"] > 0.5


async def test_the_example_writes_a_file(track: TrackProcess, admin: Client, room: str, tmp_path: Path) -> None:
    tone = await publish(admin, room, TONE)
    file = tmp_path / "tape.ogg"
    environment = {
        **os.environ,
        "TOKEN": track.token("tape", room_admin=True, room=room),
        "PYTHONPATH": str(ROOT / "generated"),
    }
    example = str(ROOT / "examples" / "pull_to_file.py")
    command = [sys.executable, example, track.address, room, tone.track_sid, str(file), "--seconds", "1"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(pull.DEADLINE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert b"audio/ogg" in output
    assert pull.contents(file.read_bytes()).seconds["audio"] == pytest.approx(1, abs=0.05)


async def test_a_data_track_that_ends_while_it_is_subscribed_to_has_ended_and_is_not_refused(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        for _ in range(3):
            data = await alice.local_participant.publish_data_track(name="readings")
            await until_listed(admin, room, data.info.sid)
            async with pull.pulling(admin, room, track_sid=data.info.sid, frames=pull.FRAMES) as got:
                await got.until(lambda so_far: bool(so_far.started))
                await data.unpublish()
                assert (await got.to_the_end()).reason == pull.TRACK_ENDED
