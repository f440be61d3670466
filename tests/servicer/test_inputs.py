"""What PublishTrack publishes really arrives: every input, seen by an independent participant."""

import asyncio
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.media.sounds import pitch_hz
from tests.media.viewer import DEADLINE_S, Viewer, luma, viewer
from tests.publications import pattern, publish, track_of, until
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2, tracks_pb2


async def first_frame(seen: Viewer, sid: str) -> rtc.VideoFrame:
    """The first decoded frame of a video."""
    async with asyncio.timeout(DEADLINE_S), seen.frames(sid) as frames:
        return (await frames.get())[1]


@pytest.mark.parametrize(
    ("codec", "mime"),
    [
        (pb.VIDEO_CODEC_VP8, "video/VP8"),
        (pb.VIDEO_CODEC_H264, "video/H264"),
        (pb.VIDEO_CODEC_VP9, "video/VP9"),
    ],
    ids=["vp8", "h264", "vp9"],
)
async def test_a_test_pattern_arrives_moving_in_its_size_and_codec(
    admin: Client, livekit: LiveKitProcess, room: str, codec: Any, mime: str
) -> None:
    publication = await publish(admin, room, pattern(320, 180, codec=codec, simulcast=False))
    found = await track_of(admin, publication)
    assert (found.width, found.height, found.mime_type) == (320, 180, mime)
    assert found.type == track_pb2.TRACK_TYPE_VIDEO
    assert found.source == track_pb2.TRACK_SOURCE_CAMERA
    assert found.publication_id == publication.publication_id
    async with viewer(livekit, room) as seen, asyncio.timeout(DEADLINE_S), seen.frames(found.sid) as frames:
        pictures: list[Any] = []
        while len(pictures) < 5:
            _, frame = await frames.get()
            # A sender may begin smaller, while it probes for bandwidth.
            if (frame.width, frame.height) == (320, 180):
                pictures.append(luma(frame).copy())
    assert np.ptp(pictures[-1]) > 100
    assert np.abs(pictures[0].astype(int) - pictures[-1]).max() > 50


async def test_simulcast_layers_of_720p_are_declared_and_received_at_three_sizes(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    publication = await publish(admin, room, pattern(1280, 720, 15))
    assert publication.spec.video.simulcast is True
    found = await track_of(admin, publication)
    assert found.simulcast
    assert [layer.quality for layer in found.layers] == [
        track_pb2.VIDEO_QUALITY_LOW,
        track_pb2.VIDEO_QUALITY_MEDIUM,
        track_pb2.VIDEO_QUALITY_HIGH,
    ]
    assert [(layer.width, layer.height) for layer in found.layers] == [(320, 180), (640, 360), (1280, 720)]
    sizes = {
        rtc.VideoQuality.VIDEO_QUALITY_LOW: (320, 180),
        rtc.VideoQuality.VIDEO_QUALITY_MEDIUM: (640, 360),
        rtc.VideoQuality.VIDEO_QUALITY_HIGH: (1280, 720),
    }
    async with viewer(livekit, room) as seen, seen.frames(found.sid) as frames:
        remote = await seen.publication_of(found.sid)
        for quality, size in sizes.items():
            assert isinstance(remote, rtc.RemoteTrackPublication)
            remote.set_video_quality(quality)
            async with asyncio.timeout(45):
                while True:
                    _, frame = await frames.get()
                    if (frame.width, frame.height) == size:
                        break


async def test_a_video_too_small_for_layers_is_sent_once(admin: Client, room: str) -> None:
    for simulcast in (None, True):
        found = await track_of(admin, await publish(admin, room, pattern(640, 360, 10, simulcast=simulcast)))
        assert not found.simulcast
        assert [(layer.width, layer.height) for layer in found.layers] == [(640, 360)]


async def test_a_tone_arrives_at_its_pitch_and_level(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    tone = pb.ToneInput(frequency_hz=880, level_dbfs=-12)
    publication = await publish(admin, room, pb.PublicationSpec(tone=tone))
    found = await track_of(admin, publication)
    assert found.type == track_pb2.TRACK_TYPE_AUDIO
    assert found.source == track_pb2.TRACK_SOURCE_MICROPHONE
    assert found.red
    assert found.dtx
    async with viewer(livekit, room) as seen:
        sound = await seen.sound(found.sid, 1.5)
    settled = sound[24_000:]
    assert pitch_hz(settled) == pytest.approx(880, abs=5)
    level_dbfs = 20 * np.log10(np.abs(settled).max())
    assert level_dbfs == pytest.approx(-12, abs=3)


async def test_red_and_dtx_are_as_asked_for(admin: Client, room: str) -> None:
    spec = pb.PublicationSpec(tone=pb.ToneInput(), audio=pb.AudioOptions(dtx=False, red=False))
    found = await track_of(admin, await publish(admin, room, spec))
    assert not found.red
    assert not found.dtx
    assert found.mime_type == "audio/opus"


async def test_sound_and_picture_of_a_file_are_one_participant(
    admin: Client, livekit: LiveKitProcess, room: str, clip: str
) -> None:
    picture = pb.PublicationSpec(file=pb.FileInput(uri=clip, type=track_pb2.TRACK_TYPE_VIDEO, loop=True))
    sound = pb.PublicationSpec(file=pb.FileInput(uri=clip, type=track_pb2.TRACK_TYPE_AUDIO, loop=True))
    video, audio = await asyncio.gather(publish(admin, room, picture, "film"), publish(admin, room, sound, "film"))
    tracks = [await track_of(admin, video), await track_of(admin, audio)]
    assert {found.participant_identity for found in tracks} == {"film"}
    assert len({found.participant_sid for found in tracks}) == 1
    async with viewer(livekit, room) as seen:
        frame = await first_frame(seen, video.track_sid)
        assert (frame.width, frame.height) == (160, 120)
        heard = await seen.sound(audio.track_sid, 0.8)
    # The clip's second half is a tone of 1 kHz.
    assert pitch_hz(heard[: int(0.6 * 48_000)]) == pytest.approx(1000, abs=20)


async def test_a_file_that_ends_ends_the_publication(admin: Client, room: str, clip: str) -> None:
    spec = pb.PublicationSpec(file=pb.FileInput(uri=clip))
    publication = await publish(admin, room, spec)
    assert publication.type == track_pb2.TRACK_TYPE_VIDEO
    ended = await until(admin, publication, lambda found: found.state == pb.PUBLICATION_STATE_ENDED)
    assert ended.end_cause == pb.PUBLICATION_END_CAUSE_SOURCE_ENDED
    assert not ended.HasField("problem")
    assert ended.lineage[-1].HasField("end_time")
    assert ended.HasField("expire_time")
    listed = await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room))
    assert publication.track_sid not in [found.sid for found in listed.tracks]


async def test_a_data_track_arrives_in_order(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with viewer(livekit, room) as seen:
        spec = pb.PublicationSpec(data=pb.DataInput(frames_per_second=50, frame_bytes=100), name="telemetry")
        publication = await publish(admin, room, spec)
        assert publication.track_sid.startswith("DTR_")
        remote = await seen.until(lambda: seen.data_tracks.get(publication.track_sid))
        assert remote.info.name == "telemetry"
        numbers = await read_numbers(remote, 20, size=100)
    assert numbers == sorted(set(numbers))


async def test_a_data_track_carries_the_payload_given(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with viewer(livekit, room) as seen:
        spec = pb.PublicationSpec(data=pb.DataInput(payload=b"\x00position\xff"))
        publication = await publish(admin, room, spec)
        remote = await seen.until(lambda: seen.data_tracks.get(publication.track_sid))
        async with asyncio.timeout(DEADLINE_S):
            frame = await anext(aiter(remote.subscribe()))
    assert bytes(frame.payload) == b"\x00position\xff"


async def read_numbers(remote: rtc.RemoteDataTrack, count: int, *, size: int) -> list[int]:
    """The numbers of that many frames."""
    numbers: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        async for frame in remote.subscribe():
            assert len(frame.payload) == size
            numbers.append(int.from_bytes(frame.payload[:8], "big"))
            if len(numbers) == count:
                break
    return numbers
