"""UpdatePublication, seen by subscribers of LiveKit's own SDK."""

import asyncio
import struct
import time
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import struct_pb2

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.media.clips import write_clip
from tests.media.viewer import viewer
from tests.publications import DATA, ENDED, LIVE, OBSERVED, TONE, pattern, publication, publish, unpublish, until
from tests.receivers import eventually
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import Client, TrackProcess
from tests.updates import IN_PLACE, NONE, REPLACED, audience, update, update_of, video
from track.v1 import publication_pb2 as pb
from track.v1 import tracks_pb2
from track_server.publishing.replacement import OVERLAP_S


async def sids_of(client: Client, room: str) -> dict[str, str]:
    """SIDs of the tracks in the room, by publication id."""
    answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
    return {track.publication_id: track.sid for track in answer.tracks}


async def test_another_encoding_is_another_track_and_pictures_never_stop(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with audience(livekit, room) as ann:
        before = await publish(admin, room, pattern(320, 180, 20))
        await ann.sees(before.track_sid)
        wanted = video(codec=pb.VIDEO_CODEC_H264, max_bitrate_bps=300_000)
        answer = await update(admin, before, wanted, "video.codec", "video.max_bitrate_bps")
        after = answer.publication
        assert (answer.method, answer.stage, answer.evidence) == (REPLACED, OBSERVED, pb.EVIDENCE_DEBUG_VIEW)
        assert (after.state, after.spec.video.codec) == (LIVE, pb.VIDEO_CODEC_H264)
        assert after.spec.video.max_bitrate_bps == 300_000
        assert after.publication_id == before.publication_id
        assert [entry.track_sid for entry in after.lineage] == [before.track_sid, after.track_sid]
        assert [entry.HasField("end_time") for entry in after.lineage] == [True, False]
        assert [move.state for move in after.moves].count(LIVE) == 1
        assert await publication(admin, room, before.publication_id) == after
        assert await sids_of(admin, room) == {after.publication_id: after.track_sid}

        await ann.sees(after.track_sid)
        # What was painted goes on: the new one's first picture is older than the old one's last.
        old, new = ann.of(before.track_sid), ann.of(after.track_sid)
        assert (new[0].clock_ms or 0) <= (old[-1].clock_ms or 0)
        assert (answer.gap.HasField("publisher_ms"), answer.gap.publisher_ms) == (True, 0)
        (gap,) = answer.gap.subscribers
        assert (gap.participant_identity, gap.HasField("gap_ms"), gap.gap_ms) == ("ann", True, 0)
        assert gap.resolution_ms > 0


async def test_another_size_and_rate_arrive_and_the_bitrate_follows(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with audience(livekit, room) as ann:
        before = await publish(admin, room, pattern(160, 90, 10))
        await ann.sees(before.track_sid)
        answer = await update(
            admin, before, pattern(320, 180, 40), "video.width", "video.height", "video.frames_per_second"
        )
        after = answer.publication
        assert answer.method == REPLACED
        # 0.07 bits per pixel; it was the least that there is.
        assert (before.spec.video.max_bitrate_bps, after.spec.video.max_bitrate_bps) == (50_000, 161_280)
        await ann.sees(after.track_sid)
        # An encoder that has just begun, or whose machine is busy, may send smaller ones for a while.
        await eventually(
            lambda: any((found.width, found.height) == (320, 180) for found in ann.of(after.track_sid)),
            lambda: f"{ann.of(after.track_sid)[-3:]}",
        )
        clocks = [picture.clock_ms or 0 for picture in ann.of(after.track_sid)]
        assert clocks == sorted(clocks)
        # Back to the defaults of the contract.
        answer = await update(admin, after, pb.PublicationSpec(), "video")
        assert (answer.publication.spec.video.width, answer.publication.spec.video.height) == (1280, 720)


async def test_what_feeds_a_track_changes_while_it_stays(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with viewer(livekit, room) as seen:
        numbered = await publish(admin, room, DATA, "host")
        track = await seen.until(lambda: seen.data_tracks.get(numbered.track_sid))
        reader = aiter(track.subscribe())
        async with asyncio.timeout(45):
            (number,) = struct.unpack(">Q", (await anext(reader)).payload[:8])
        fixed = pb.PublicationSpec(data=pb.DataInput(payload=b"hello", frames_per_second=50))
        answer = await update(admin, numbered, fixed, "data.payload", "data.frames_per_second", "data.frame_bytes")
        assert (answer.method, answer.stage, answer.evidence) == (IN_PLACE, OBSERVED, pb.EVIDENCE_HOSTED_SESSION)
        assert answer.publication.track_sid == numbered.track_sid
        assert not answer.HasField("gap")
        async with asyncio.timeout(45):
            while (await anext(reader)).payload != b"hello":
                pass
        back = await update(admin, answer.publication, DATA, "data")
        async with asyncio.timeout(45):
            while (payload := (await anext(reader)).payload) == b"hello":
                pass
        assert struct.unpack(">Q", payload[:8])[0] > number
        assert back.publication.spec.data.frames_per_second == 20

        tone = await publish(admin, room, TONE, "singer")
        higher = pb.PublicationSpec(tone=pb.ToneInput(frequency_hz=2000))
        answer = await update(admin, tone, higher, "tone.frequency_hz")
        assert (answer.method, answer.publication.track_sid) == (IN_PLACE, tone.track_sid)
        wave = await seen.sound(tone.track_sid, 1.0)
        spectrum = np.abs(np.fft.rfft(wave[-24_000:]))
        assert abs(np.argmax(spectrum) * 2 - 2000) < 10


async def test_fewer_pictures_of_a_pattern_need_no_other_track_and_more_do(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with audience(livekit, room) as ann:
        before = await publish(admin, room, pattern(320, 180, 20))
        await ann.sees(before.track_sid)
        answer = await update(admin, before, video(frames_per_second=5), "video.frames_per_second")
        assert (answer.method, answer.publication.track_sid) == (IN_PLACE, before.track_sid)
        await ann.sees(before.track_sid)
        clocks = [picture.clock_ms or 0 for picture in ann.of(before.track_sid)[-4:]]
        assert (clocks[-1] - clocks[0]) / 3 > 150
        answer = await update(admin, before, video(frames_per_second=15), "video.frames_per_second")
        assert (answer.method, answer.publication.spec.video.frames_per_second) == (REPLACED, 15)


async def test_another_name_is_another_track_of_the_same_sound(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    tone = await publish(admin, room, TONE)
    answer = await update(admin, tone, pb.PublicationSpec(name="horn"), "name")
    after = answer.publication
    assert (answer.method, answer.stage, after.spec.name) == (REPLACED, OBSERVED, "horn")
    async with viewer(livekit, room) as seen:
        assert (await seen.publication_of(after.track_sid)).name == "horn"
        wave = await seen.sound(after.track_sid, 0.5)
        assert abs(np.argmax(np.abs(np.fft.rfft(wave[-24_000:]))) * 2 - 440) < 10
    answer = await update(admin, after, pb.PublicationSpec(), "name")
    assert answer.publication.spec.name == tone.publication_id


async def test_another_name_is_another_data_track_beside_the_one_before(admin: Client, room: str) -> None:
    data = await publish(admin, room, DATA)
    answer = await update(admin, data, pb.PublicationSpec(name="facts"), "name")
    assert (answer.method, answer.stage) == (REPLACED, OBSERVED)
    assert [entry.HasField("end_time") for entry in answer.publication.lineage] == [True, False]
    assert answer.gap.publisher_ms == 0, "the old one went before the new one came"


async def test_metadata_changes_nothing_that_is_sent_and_is_seen_at_once(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    metadata = struct_pb2.Struct()
    metadata.update({"role": "presenter"})
    async with events(admin, room) as watched:
        await watched.snapshot()
        answer = await update(admin, tone, pb.PublicationSpec(metadata=metadata), "metadata")
        assert (answer.method, answer.stage) == (NONE, pb.STAGE_REQUESTED)
        moved = await watched.until("publication_moved")
        assert (moved.publication_id, moved.spec.metadata) == (tone.publication_id, metadata)
        updated = await watched.until("track_updated")
        assert (updated.sid, updated.metadata) == (tone.track_sid, metadata)
        # It is carried over to the track that comes next.
        answer = await update(admin, tone, pb.PublicationSpec(name="horn"), "name")
        moved = await watched.until("publication_moved")
        assert (moved.track_sid, moved.state) == (tone.track_sid, LIVE)
        await watched.until("publication_moved", lambda found: found.track_sid == answer.publication.track_sid)
    query = 'track.metadata.role == "presenter"'
    (found,) = (await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room, filter=query))).tracks
    assert (found.sid, found.publication_id) == (answer.publication.track_sid, tone.publication_id)
    # Without one that is named it goes.
    await update(admin, tone, pb.PublicationSpec(), "metadata")
    assert not (await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room, filter=query))).tracks


async def test_a_file_goes_on_where_it_is(admin: Client, track: TrackProcess, room: str) -> None:
    write_clip(Path(track.directory) / "media" / "once.mkv", 10.0)
    film = pb.PublicationSpec(file=pb.FileInput(uri="once.mkv"))
    before = await publish(admin, room, film)
    began = asyncio.get_running_loop().time()
    answer = await update(admin, before, video(max_bitrate_bps=200_000), "video.max_bitrate_bps")
    assert (answer.method, answer.stage) == (REPLACED, OBSERVED)
    await asyncio.sleep(5)  # of the film, so that beginning anew tells more than a machine may be late
    answer = await update(admin, before, video(width=320, height=240), "video.width", "video.height")
    assert (answer.method, answer.stage) == (REPLACED, OBSERVED)
    ended = await until(admin, before, lambda found: found.state == ENDED)
    assert ended.end_cause == pb.PUBLICATION_END_CAUSE_SOURCE_ENDED
    # Begun anew with each change it would have lasted ten seconds more than up to the last of them.
    assert len(ended.lineage) == 3
    changed_s = ended.lineage[-1].begin_time.ToNanoseconds() / 1e9 - ended.lineage[0].begin_time.ToNanoseconds() / 1e9
    lasted_s = asyncio.get_running_loop().time() - began
    assert lasted_s < 10.0 + changed_s


async def test_another_file_is_played_and_what_cannot_be_played_leaves_the_one_that_is(
    admin: Client, track: TrackProcess, livekit: LiveKitProcess, room: str, clip: str
) -> None:
    media = Path(track.directory) / "media"
    write_clip(media / "other.mkv", 2.0, fps=10)
    whole = write_clip(media / "whole.mkv", 4.0, audio=False).read_bytes()
    async with audience(livekit, room) as ann:
        before = await publish(admin, room, pb.PublicationSpec(file=pb.FileInput(uri=clip, loop=True)))
        other = pb.PublicationSpec(file=pb.FileInput(uri="other.mkv"))
        answer = await update(admin, before, other, "file.uri")
        assert (answer.method, answer.publication.spec.file.uri) == (REPLACED, "other.mkv")
        assert answer.publication.spec.file.loop
        await ann.sees(answer.publication.track_sid)
        # Its head is whole, and there is nothing behind it: that is found out when it is opened to be played.
        (media / "broken.mkv").write_bytes(whole[:900])
        refused = await refusal(
            update(admin, before, pb.PublicationSpec(file=pb.FileInput(uri="broken.mkv")), "file.uri")
        )
        assert refused.reason == "MEDIA_INVALID"
        after = await publication(admin, room, before.publication_id)
        assert after == answer.publication
        await ann.sees(after.track_sid)


async def test_two_at_once_are_made_one_after_the_other(admin: Client, room: str) -> None:
    before = await publish(admin, room, pattern(320, 180, 10))
    answers = await asyncio.gather(
        update(admin, before, pb.PublicationSpec(name="one"), "name"),
        update(admin, before, video(max_bitrate_bps=111_000), "video.max_bitrate_bps"),
    )
    assert {answer.method for answer in answers} == {REPLACED}
    after = await publication(admin, room, before.publication_id)
    assert (after.spec.name, after.spec.video.max_bitrate_bps) == ("one", 111_000)
    assert len(after.lineage) == 3
    assert await sids_of(admin, room) == {after.publication_id: after.track_sid}


async def test_a_data_track_of_another_name_is_beside_the_old_one_until_that_goes(admin: Client, room: str) -> None:
    known = await publish(admin, room, DATA, "host")
    begun = time.monotonic()
    answer = await update(admin, known, pb.PublicationSpec(name="renamed"), "name")
    took_s = time.monotonic() - begun
    after = answer.publication
    assert (answer.method, answer.stage, after.spec.name) == (REPLACED, OBSERVED, "renamed")
    assert answer.gap.publisher_ms == 0, "both were there"
    assert [entry.HasField("end_time") for entry in after.lineage] == [True, False]
    first, second = after.lineage
    assert first.end_time.ToMilliseconds() - second.begin_time.ToMilliseconds() >= 1000 * OVERLAP_S
    assert took_s < OVERLAP_S + 3


async def test_what_is_taken_back_while_it_is_replaced_was_not_updated(admin: Client, room: str) -> None:
    known = await publish(admin, room, DATA, "host")
    renamed = asyncio.create_task(update(admin, known, pb.PublicationSpec(name="renamed"), "name"))
    # Both tracks are there for two seconds.
    await until(admin, known, lambda found: len(found.lineage) == 2)
    await unpublish(admin, known)
    refused = await refusal(renamed)
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PUBLICATION_ENDED")
    assert (await publication(admin, room, known.publication_id)).state == ENDED


async def test_once_more_with_the_same_request_id_is_the_same_answer(admin: Client, room: str) -> None:
    before = await publish(admin, room, TONE)
    request = update_of(before, pb.PublicationSpec(name="horn"), "name")
    request.request_id = "rename"
    first, second = [await admin.UpdatePublication(request, timeout=40) for _ in range(2)]
    assert first == second
    assert len((await publication(admin, room, before.publication_id)).lineage) == 2


async def test_with_validate_only_it_says_how_it_would_be_made_and_nothing_is(admin: Client, room: str) -> None:
    before = await publish(admin, room, pattern(320, 180, 10))
    for spec, path, method in (
        (pb.PublicationSpec(), "metadata", NONE),
        (video(frames_per_second=5), "video.frames_per_second", IN_PLACE),
        (video(max_bitrate_bps=99_000), "video.max_bitrate_bps", REPLACED),
    ):
        request = update_of(before, spec, path)
        request.validate_only = True
        answer = await admin.UpdatePublication(request, timeout=45)
        assert (answer.method, answer.stage) == (method, pb.STAGE_UNSPECIFIED)
        assert answer.publication.state == LIVE
        assert answer.publication.spec.video.max_bitrate_bps == (99_000 if method == REPLACED else 50_000)
        assert answer.limits
    assert await publication(admin, room, before.publication_id) == before


async def test_one_that_waits_for_a_worker_is_published_as_it_was_changed_to(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    # A LiveKit of its own: other servers' workers would take it.
    livekit, room = await start_livekit(), room_name
    idle = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with idle.client("admin", room_admin=True, room=room) as client, existing_room(livekit, room):
        asked = await client.PublishTrack(pb.PublishTrackRequest(room=room, spec=TONE), timeout=6)
        answer = await client.UpdatePublication(
            update_of(asked.publication, pb.PublicationSpec(name="horn"), "name"), timeout=6
        )
        assert (answer.method, answer.stage) == (NONE, pb.STAGE_REQUESTED)
        assert (answer.publication.state, answer.publication.spec.name) == (pb.PUBLICATION_STATE_PENDING, "horn")
        found = await publication(client, room, asked.publication.publication_id)
        assert found.spec == answer.publication.spec
