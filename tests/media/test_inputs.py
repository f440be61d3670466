"""Every input, published by a worker and seen by an independent subscriber."""

import asyncio
import contextlib
import itertools
import struct
import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.media.clips import write_clip
from tests.media.peer import MediaPeer, audio, data, desired, pattern, tone
from tests.media.skew import MAX_SKEW_S, skews
from tests.media.viewer import Viewer, luma, viewer
from track.media.v1.media_service_pb2 import HOSTED_TRACK_STATE_FAILED, HOSTED_TRACK_STATE_SOURCE_ENDED, DesiredTrack
from track.v1.error_pb2 import ErrorReason
from track.v1.publication_pb2 import PublicationSpec, VideoCodec, VideoOptions
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.media.inputs.clock import read_clock
from track_server.media.settings import MediaSettings

pytestmark = pytest.mark.usefixtures("worker")


def file_track(
    publication_id: str, uri: str, kind: TrackType.ValueType = TrackType.TRACK_TYPE_VIDEO, *, loop: bool = False
) -> DesiredTrack:
    spec = PublicationSpec(name=publication_id, source=TrackSource.TRACK_SOURCE_CAMERA)
    spec.file.uri, spec.file.type, spec.file.loop = uri, kind, loop
    if kind == TrackType.TRACK_TYPE_AUDIO:
        spec.source = TrackSource.TRACK_SOURCE_MICROPHONE
        spec.audio.CopyFrom(audio())
    else:
        spec.video.CopyFrom(VideoOptions(width=160, height=120, frames_per_second=15, max_bitrate_bps=300_000))
    return desired(publication_id, spec)


async def clock_readings(
    seen: Viewer, sid: str, count: int, width: int, rates: tuple[float, float] = (0, 1000)
) -> list[tuple[float, int]]:
    """When pictures of that width came, in milliseconds, and what their clock showed.

    The latest ``count``, made at a rate within ``rates``, a second: a busy machine makes fewer for a while.
    """
    readings: list[tuple[float, int]] = []

    def steady() -> bool:
        if len(readings) < count:
            return False
        shown_s = (readings[-1][1] - readings[-count][1]) / 1000
        return rates[0] < (count - 1) / max(shown_s, 0.001) < rates[1]

    async with seen.frames(sid) as frames, asyncio.timeout(60):
        while not steady():
            came, frame = await asyncio.wait_for(frames.get(), 30)
            ms = read_clock(luma(frame))
            if frame.width == width and ms is not None:
                readings.append((came * 1000, ms))
    return readings[-count:]


async def test_a_test_pattern_arrives_in_size_and_rate_with_a_clock_that_runs(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, pattern("p1", 320, 180, 15))
        report = await session.report_of("p1")
        publication = await seen.publication_of(report.track_sid)
        assert (publication.name, publication.mime_type, publication.simulcasted) == ("p1", "video/VP8", False)
        assert publication.source == rtc.TrackSource.SOURCE_CAMERA
        clocks = await clock_readings(seen, report.track_sid, 30, 320, (11, 16.5))
    assert all(0 <= came - ms < 20_000 for came, ms in clocks), "the clock shows when the picture was made"
    assert all(later > earlier for (_, earlier), (_, later) in itertools.pairwise(clocks))


async def test_the_clock_is_readable_in_every_simulcast_layer(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        wanted = pattern("p1", 1280, 720, 10, simulcast=True, bitrate=1_900_000)
        session = await peer.dispatch(settings.agent_name, room_name, wanted)
        sid = (await session.report_of("p1")).track_sid
        publication = await seen.publication_of(sid)
        assert publication.simulcasted
        for quality, width in ((rtc.VideoQuality.VIDEO_QUALITY_LOW, 320), (rtc.VideoQuality.VIDEO_QUALITY_MEDIUM, 640)):
            publication.set_subscribed(True)
            publication.set_video_quality(quality)
            assert all(0 <= came - ms < 20_000 for came, ms in await clock_readings(seen, sid, 5, width))


@pytest.mark.parametrize(
    ("codec", "mime_type"),
    [
        (VideoCodec.VIDEO_CODEC_H264, "video/H264"),
        (VideoCodec.VIDEO_CODEC_VP9, "video/VP9"),
        (VideoCodec.VIDEO_CODEC_AV1, "video/AV1"),
    ],
)
async def test_every_codec_carries_the_clock(
    livekit: LiveKitProcess,
    settings: MediaSettings,
    peer: MediaPeer,
    room_name: str,
    codec: VideoCodec.ValueType,
    mime_type: str,
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, pattern("p1", 320, 180, 10, codec=codec))
        sid = (await session.report_of("p1")).track_sid
        assert (await seen.publication_of(sid)).mime_type == mime_type
        assert all(0 <= came - ms < 20_000 for came, ms in await clock_readings(seen, sid, 3, 320))


async def test_a_tone_has_its_frequency_and_level_without_clicks(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, tone("a1", 1234, -12))
        sound = await seen.sound((await session.report_of("a1")).track_sid, 2.0)
    piece = sound[-48_000:]
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
    assert abs(int(spectrum.argmax()) - 1234) <= 2
    beside = np.concatenate([spectrum[50:1184], spectrum[1284:8000]])
    assert spectrum.max() / beside.max() > 30, "a break in phase would spread over the spectrum"
    level_dbfs = 20 * np.log10(np.sqrt(2) * np.sqrt((piece**2).mean()))
    assert -14 < level_dbfs < -10


async def test_data_frames_are_numbered_timed_and_in_order(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        wanted = (data("d1", 50, frame_bytes=100), data("d2", 5, payload=b"as it is"))
        session = await peer.dispatch(settings.agent_name, room_name, *wanted)
        sids = [(await session.report_of(key)).track_sid for key in ("d1", "d2")]
        await seen.until(lambda: set(seen.data_tracks) == set(sids))
        numbered, fixed = [seen.data_tracks[sid] for sid in sids]
        frames = []
        async with asyncio.timeout(45):
            async for frame in numbered.subscribe():
                frames.append((time.time(), frame.payload))
                if len(frames) == 40:
                    break
            async for frame in fixed.subscribe():
                assert frame.payload == b"as it is"
                break
    heads = [struct.unpack_from(">QQ", payload) for _, payload in frames]
    assert all(len(payload) == 100 and payload[16:] == bytes(84) for _, payload in frames)
    numbers = [number for number, _ in heads]
    assert numbers == sorted(set(numbers))
    # In real time: never faster, slower where the machine is busy.
    assert 0.7 < (heads[-1][1] - heads[0][1]) / 1e6 / ((numbers[-1] - numbers[0]) / 50) < 10
    assert all(-0.01 <= came - us / 1e6 < 20 for (came, _), (_, us) in zip(frames, heads, strict=True))


async def test_picture_and_sound_of_a_looped_file_arrive_in_sync(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str, media_dir: Path
) -> None:
    write_clip(media_dir / "sync.mp4")
    async with viewer(livekit, room_name) as seen:
        wanted = (
            file_track("v1", "sync.mp4", loop=True),
            file_track("a1", "sync.mp4", TrackType.TRACK_TYPE_AUDIO, loop=True),
        )
        session = await peer.dispatch(settings.agent_name, room_name, *wanted)
        sids = [(await session.report_of(key)).track_sid for key in ("v1", "a1")]
        found: list[float] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(45):
                async for skew_s in skews(seen, video_sid=sids[0], audio_sid=sids[1]):
                    found.append(skew_s)
                    if settled(found):
                        break
    # On a machine that is too busy the receiver's jitter buffer stays long; even there they do not drift apart.
    assert settled(found) or (len(found) >= 8 and abs(median(found[-8:])) < 0.2), found


def settled(found: list[float]) -> bool:
    """Whether picture and sound were together in three of the latest four rounds."""
    return sum(abs(skew_s) < MAX_SKEW_S for skew_s in found[-4:]) >= 3


async def test_a_file_that_ends_ends_its_publication(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str, media_dir: Path
) -> None:
    write_clip(media_dir / "short.mp4", 1.0)
    async with viewer(livekit, room_name) as seen:
        wanted = (file_track("v1", "short.mp4"), file_track("a1", "short.mp4", TrackType.TRACK_TYPE_AUDIO))
        session = await peer.dispatch(settings.agent_name, room_name, *wanted)
        sids = {key: (await session.report_of(key)).track_sid for key in ("v1", "a1")}
        await asyncio.gather(*map(seen.publication_of, sids.values()))
        began = time.time()
        for key, sid in sids.items():
            await session.report_of(key, HOSTED_TRACK_STATE_SOURCE_ENDED)
            await seen.gone(sid)
        assert time.time() - began > 0.5, "it played in real time"
        assert session.ended is None, "the session lasts on"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nothing-there.mp4", ErrorReason.ERROR_REASON_MEDIA_NOT_FOUND),
        ("../outside.mp4", ErrorReason.ERROR_REASON_MEDIA_NOT_ALLOWED),
        ("http://127.0.0.1:1/a.mp4", ErrorReason.ERROR_REASON_MEDIA_NOT_ALLOWED),
        ("text.mp4", ErrorReason.ERROR_REASON_MEDIA_INVALID),
        ("sound.wav", ErrorReason.ERROR_REASON_MEDIA_INVALID),
    ],
)
async def test_a_bad_file_fails_alone_with_its_reason(
    settings: MediaSettings, peer: MediaPeer, room_name: str, media_dir: Path, uri: str, reason: ErrorReason.ValueType
) -> None:
    (media_dir / "text.mp4").write_text("no media")
    write_clip(media_dir / "sound.wav", 0.5, video=False)
    session = await peer.dispatch(settings.agent_name, room_name, file_track("v1", uri), data("d1"))
    report = await session.report_of("v1", HOSTED_TRACK_STATE_FAILED)
    assert report.problem.reason == reason
    assert str(media_dir) not in report.problem.message
    await session.report_of("d1")
