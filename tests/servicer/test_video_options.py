"""Video options of what this service hosts, as a subscriber receives it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import duration_pb2
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.media.clips import write_clip
from tests.media.sounds import pitch_hz
from tests.media.viewer import Viewer, luma, viewer
from tests.publications import pattern, publish, track_of
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2
from track_server.media.inputs.clock import read_clock

DEADLINE_S = 45.0
Layer = pb.VideoLayerOptions


async def clocks(seen: Viewer, sid: str, size: tuple[int, int], count: int) -> list[int]:
    """What the clocks of that many pictures of that size show, in milliseconds."""
    shown: list[int] = []
    async with asyncio.timeout(DEADLINE_S), seen.frames(sid) as frames:
        while len(shown) < count:
            _, frame = await frames.get()
            ms = read_clock(luma(frame)) if (frame.width, frame.height) == size else None
            if ms is not None:
                shown.append(ms)
    return shown


@pytest.mark.parametrize(
    ("codec", "mode", "layers"),
    [
        (pb.VIDEO_CODEC_VP9, "L3T3_KEY", 3),
        (pb.VIDEO_CODEC_VP9, "L1T3", 1),
        (pb.VIDEO_CODEC_AV1, "L2T2", 2),
    ],
    ids=["vp9 L3T3_KEY", "vp9 L1T3", "av1 L2T2"],
)
async def test_scalable_layers_are_declared_and_the_full_picture_arrives(
    admin: Client, livekit: LiveKitProcess, room: str, codec: Any, mode: str, layers: int
) -> None:
    publication = await publish(admin, room, pattern(960, 540, 10, codec=codec, scalability_mode=mode))
    assert publication.spec.video.scalability_mode == mode
    found = await track_of(admin, publication)
    assert len(found.layers) == layers
    assert (found.layers[-1].width, found.layers[-1].height) == (960, 540)
    async with viewer(livekit, room) as seen:
        shown = await clocks(seen, found.sid, (960, 540), 10)
    assert shown == sorted(shown)


@pytest.mark.parametrize(
    ("size", "layers"),
    [
        ((1280, 720), [(320, 180), (640, 360), (1280, 720)]),
        ((854, 480), [(640, 360), (854, 480)]),
        ((640, 480), [(480, 360), (640, 480)]),
    ],
    ids=["three", "two", "two of 4:3"],
)
async def test_layers_are_taken_where_they_are_those_that_are_sent(
    admin: Client, livekit: LiveKitProcess, room: str, size: tuple[int, int], layers: list[tuple[int, int]]
) -> None:
    asked = [Layer(width=width, height=height) for width, height in layers]
    publication = await publish(admin, room, pattern(*size, 10, layers=asked))
    video = publication.spec.video
    assert video.simulcast
    assert [(layer.width, layer.height) for layer in video.layers] == layers
    assert all(layer.max_bitrate_bps and layer.frames_per_second for layer in video.layers)
    found = await track_of(admin, publication)
    assert found.simulcast
    assert [(layer.width, layer.height) for layer in found.layers] == layers
    assert [layer.bitrate_bps for layer in found.layers] == [layer.max_bitrate_bps for layer in video.layers]
    async with viewer(livekit, room) as seen, seen.frames(found.sid) as frames:
        remote = await seen.publication_of(found.sid)
        assert isinstance(remote, rtc.RemoteTrackPublication)
        for quality, (width, _) in zip(
            (rtc.VideoQuality.VIDEO_QUALITY_LOW, rtc.VideoQuality.VIDEO_QUALITY_HIGH),
            (layers[0], layers[-1]),
            strict=True,
        ):
            remote.set_video_quality(quality)
            async with asyncio.timeout(DEADLINE_S):
                # Encoders want widths that they can halve.
                while abs((await frames.get())[1].width - width) > 2:
                    pass


async def test_a_screen_has_the_rate_that_was_asked_for(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    spec = pattern(640, 360, 20, simulcast=False)
    spec.source = track_pb2.TRACK_SOURCE_SCREEN_SHARE
    publication = await publish(admin, room, spec)
    assert (await track_of(admin, publication)).source == track_pb2.TRACK_SOURCE_SCREEN_SHARE
    async with viewer(livekit, room) as seen:
        shown = await clocks(seen, publication.track_sid, (640, 360), 60)
    # The SDK's own choice for a screen would be 3 a second.
    assert 60 / ((shown[-1] - shown[0]) / 1000) > 10


@pytest.mark.parametrize(
    "preference",
    [
        pb.DEGRADATION_PREFERENCE_BALANCED,
        pb.DEGRADATION_PREFERENCE_MAINTAIN_FRAMERATE,
        pb.DEGRADATION_PREFERENCE_MAINTAIN_RESOLUTION,
    ],
)
async def test_video_is_published_with_every_degradation_preference(
    admin: Client, livekit: LiveKitProcess, room: str, preference: Any
) -> None:
    publication = await publish(admin, room, pattern(degradation_preference=preference))
    assert publication.spec.video.degradation_preference == preference
    async with viewer(livekit, room) as seen:
        await clocks(seen, publication.track_sid, (320, 180), 3)


async def test_by_default_the_resolution_is_kept_however_low_the_bitrate(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    publication = await publish(admin, room, pattern(500, 500, 30, max_bitrate_bps=50_000))
    async with viewer(livekit, room) as seen, seen.frames(publication.track_sid) as frames:
        async with asyncio.timeout(DEADLINE_S):
            sizes = {(frame.width, frame.height) for _, frame in [await frames.get() for _ in range(20)]}
    assert sizes == {(500, 500)}


async def test_several_tracks_of_one_source_are_allowed_and_all_arrive(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    both = [await publish(admin, room, pattern(), "host") for _ in range(2)]
    assert len({found.track_sid for found in both}) == 2
    async with viewer(livekit, room) as seen:
        for found in both:
            await clocks(seen, found.track_sid, (320, 180), 3)


async def test_a_file_begins_at_its_offset(
    admin: Client, livekit: LiveKitProcess, track: TrackProcess, room: str
) -> None:
    # Dark and silent for ten seconds, then bright with a tone for ten.
    uri = write_clip(Path(track.directory) / "media" / "offset.mkv", 20.0).name
    offset = duration_pb2.Duration(seconds=10, nanos=100_000_000)
    picture = pb.FileInput(uri=uri, loop=True, start_offset=offset)
    sound = pb.FileInput(uri=uri, loop=True, start_offset=offset, type=track_pb2.TRACK_TYPE_AUDIO)
    async with viewer(livekit, room) as seen, asyncio.timeout(DEADLINE_S):
        bright = await publish(admin, room, pb.PublicationSpec(file=picture), "host")
        assert bright.spec.file.start_offset == offset
        async with seen.frames(bright.track_sid) as frames:
            assert luma((await frames.get())[1]).mean() > 120
        loud = await publish(admin, room, pb.PublicationSpec(file=sound), "another-host")
        assert pitch_hz((await seen.sound(loud.track_sid, 1.0))[24_000:]) == pytest.approx(1000, abs=20)
