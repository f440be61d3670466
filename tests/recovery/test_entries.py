"""What a session must know before it joins is known again after a crash: the key, two channels."""

import asyncio
from pathlib import Path

import pytest
from livekit import rtc

from tests.conftest import StartLiveKit, StartTrack
from tests.encrypted import clocks, encrypted, viewer
from tests.media.clips import write_sound
from tests.media.sounds import heard_of, pitch_hz, sine
from tests.media.viewer import viewer as plain_viewer
from tests.publications import pattern
from tests.receivers import eventually
from tests.recovery.test_recovery import DEADLINE_S, LIVE, publish, until
from track.v1 import publication_pb2 as pb

KEY = b"kept-over-a-crash"


async def test_encrypted_media_and_messages_come_back_with_their_key(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    options = pb.DataOptions(delivery=pb.DATA_DELIVERY_RELIABLE_MESSAGES, topic="t")
    news = pb.PublicationSpec(data=pb.DataInput(frames_per_second=20, payload=b"news"), data_options=options)
    async with track.client("admin", room_admin=True, room=room_name) as client:
        video = await publish(client, room_name, encrypted(pattern(), KEY), "host")
        messages = await publish(client, room_name, encrypted(news, KEY), "host")
    # Both die: what is wanted, and the key, come from the store.
    worker = track.worker
    await track.kill()
    worker.kill()
    await track.start()
    async with track.client("admin", room_admin=True, room=room_name) as client:
        back = await until(client, video, lambda found: found.state == LIVE and len(found.lineage) > 1)
        assert not back.spec.encryption.shared_key
        await until(client, messages, lambda found: found.state == LIVE)
        heard: set[bytes] = set()
        async with viewer(livekit, room_name, "friend", KEY) as friend:

            def receive(packet: rtc.DataPacket) -> None:
                heard.add(packet.data)

            friend.room.on("data_received", receive)
            await clocks(friend, back.track_sid, 5)
            await eventually(lambda: heard == {b"news"}, lambda: str(heard))
    assert KEY not in track.log_path.read_bytes()


async def test_stereo_comes_back_in_two_channels(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str, tmp_path: Path
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_DIR": str(tmp_path)})
    write_sound(tmp_path / "stereo.wav", sine(600, 2), sine(1500, 2))
    async with track.client("admin", room_admin=True, room=room_name) as client:
        known = await publish(client, room_name, heard_of("stereo.wav", stereo=True), "host")
        track.worker.kill()
        back = await until(client, known, lambda found: found.state == LIVE and len(found.lineage) > 1)
        async with asyncio.timeout(DEADLINE_S), plain_viewer(livekit, room_name) as seen:
            left, right = await seen.channels(back.track_sid, 1.5)
    assert pitch_hz(left[24_000:]) == pytest.approx(600, abs=5)
    assert pitch_hz(right[24_000:]) == pytest.approx(1500, abs=5)
