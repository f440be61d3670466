"""UpdatePublication, refused: each says why, and the publication is what it was."""

import math

import grpc
import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.publications import DATA, TONE, pattern, publication, publish, unpublish
from tests.refusals import Refusal, refusal
from tests.track_process import Client, TrackProcess
from tests.updates import update, update_of, video
from track.v1 import publication_pb2 as pb
from track.v1 import publication_update_pb2, track_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
RATE = "spec.video.frames_per_second"
VP9 = video(codec=pb.VIDEO_CODEC_VP9, simulcast=True)
AUDIO = pb.PublicationSpec(audio=pb.AudioOptions(max_bitrate_bps=48_000))
MICROPHONE = pb.PublicationSpec(source=track_pb2.TRACK_SOURCE_MICROPHONE)


@pytest.mark.parametrize(
    ("spec", "paths", "refused"),
    [
        (pb.PublicationSpec(), [], ("INVALID_FIELD", "update_mask", "name the fields")),
        (video(width=10), ["video.size"], ("INVALID_FIELD", "update_mask", "'video.size'")),
        (video(width=10), ["video", "colour"], ("INVALID_FIELD", "update_mask", "'colour'")),
        (video(width=10), ["video.width.pixels"], ("INVALID_FIELD", "update_mask", "'video.width.pixels'")),
        (video(width=10), ["metadata.role"], ("INVALID_FIELD", "update_mask", "'metadata.role'")),
        (video(width=10), ["video.layers.width"], ("INVALID_FIELD", "update_mask", "'video.layers.width'")),
        (video(width=10), ["*"], ("INVALID_FIELD", "update_mask", "'*'")),
        (video(width=10), [""], ("INVALID_FIELD", "update_mask", "''")),
        (TONE, ["tone"], ("INVALID_OPTIONS", "update_mask", "kind of input")),
        (pb.PublicationSpec(), ["encryption"], ("INVALID_OPTIONS", "update_mask", "encryption")),
        (pb.PublicationSpec(), ["encryption.shared_key"], ("INVALID_OPTIONS", "update_mask", "encryption")),
        (video(width=321), ["video.width"], ("INVALID_FIELD", "spec.video.width", "even")),
        (video(frames_per_second=61), ["video.frames_per_second"], ("INVALID_FIELD", RATE, f"{RATE}: must be")),
        (video(frames_per_second=math.nan), ["video.frames_per_second"], ("INVALID_FIELD", RATE, f"{RATE}: must be")),
        (video(frames_per_second=math.inf), ["video.frames_per_second"], ("INVALID_FIELD", RATE, f"{RATE}: must be")),
        (VP9, ["video.codec", "video.simulcast"], ("INVALID_OPTIONS", "spec.video.simulcast", "")),
        (AUDIO, ["audio.max_bitrate_bps"], ("INVALID_OPTIONS", "spec.audio", "audio")),
        (MICROPHONE, ["source"], ("INVALID_OPTIONS", "spec.source", "")),
        (pb.PublicationSpec(name="n" * 257), ["name"], ("INVALID_FIELD", "spec.name", "256")),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(
    admin: Client, room: str, spec: pb.PublicationSpec, paths: list[str], refused: tuple[str, str, str]
) -> None:
    known = await publish(admin, room, pattern(320, 180, 5))
    answer = await refusal(update(admin, known, spec, *paths))
    reason, field, told = refused
    assert (answer.code, answer.reason, answer.fields) == (INVALID, reason, (field,))
    assert told in answer.message
    assert await publication(admin, room, known.publication_id) == known


async def test_what_is_not_named_is_not_looked_at(admin: Client, room: str) -> None:
    known = await publish(admin, room, TONE)
    # Nothing of it is asked for, so that it would be refused is no matter.
    answer = await update(admin, known, pb.PublicationSpec(video=pb.VideoOptions(width=3)), "metadata")
    assert answer.publication == known


async def test_another_type_of_file_is_another_publication(admin: Client, room: str, clip: str) -> None:
    film = pb.PublicationSpec(file=pb.FileInput(uri=clip, loop=True, type=track_pb2.TRACK_TYPE_AUDIO))
    known = await publish(admin, room, film)
    film.file.type = track_pb2.TRACK_TYPE_VIDEO
    refused = await refusal(update(admin, known, film, "file.type"))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_OPTIONS")
    film.file.uri = "nowhere.mkv"
    refused = await refusal(update(admin, known, film, "file.uri"))
    assert (refused.reason, refused.fields) == ("MEDIA_NOT_FOUND", ("spec.file.uri",))


async def test_one_that_is_not_there_or_over_cannot_be_changed(admin: Client, room: str) -> None:
    known = await publish(admin, room, DATA)
    await unpublish(admin, known)
    ended = await refusal(update(admin, known, pb.PublicationSpec(name="n"), "name"))
    assert (ended.code, ended.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PUBLICATION_ENDED")
    known.publication_id = "PUB_nothing"
    nothing = await refusal(update(admin, known, pb.PublicationSpec(name="n"), "name"))
    assert (nothing.code, nothing.reason) == (grpc.StatusCode.NOT_FOUND, "PUBLICATION_NOT_FOUND")


async def test_limits_hold_as_for_publishing_and_it_is_not_counted_twice(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    limits = {"TRACK_MAX_PUBLICATIONS_PER_ROOM": "1", "TRACK_MAX_TRACK_BITRATE_BPS": "1000000"}
    limited = await start_track(livekit, limits)
    async with limited.client("admin", room_admin=True, room=room) as client:
        known = await publish(client, room, pattern(320, 180, 5))
        refused = await refusal(update(client, known, video(max_bitrate_bps=2_000_000), "video.max_bitrate_bps"))
        assert (refused.code, refused.fields) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            ("spec.video.max_bitrate_bps",),
        )
        assert await publication(client, room, known.publication_id) == known
        answer = await update(client, known, video(max_bitrate_bps=900_000), "video.max_bitrate_bps")
        assert answer.publication.spec.video.max_bitrate_bps == 900_000


async def test_the_same_is_asked_as_for_publishing_it(admin: Client, track: TrackProcess, room: str) -> None:
    known = await publish(admin, room, pattern(320, 180, 5), "bob")
    own = await publish(admin, room, TONE, "alice")
    grants = {"room": room, "room_join": True, "can_publish": True, "can_publish_sources": ["microphone"]}
    async with track.client("alice", **grants) as alice:
        refusals: list[Refusal] = []
        for publication_id in (known.publication_id, "PUB_nothing"):
            request = publication_update_pb2.UpdatePublicationRequest(room=room, publication_id=publication_id)
            request.update_mask.paths.append("name")
            refusals.append(await refusal(alice.UpdatePublication(request, timeout=45)))
        assert {refused.code for refused in refusals} == {grpc.StatusCode.PERMISSION_DENIED}
        # A denial does not tell whether there is such a publication.
        assert refusals[0].message == refusals[1].message
        other = pb.PublicationSpec(source=track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO)
        beyond = await refusal(alice.UpdatePublication(update_of(own, other, "source"), timeout=45))
        assert beyond.code is grpc.StatusCode.PERMISSION_DENIED
        answer = await update(alice, own, pb.PublicationSpec(tone=pb.ToneInput(frequency_hz=600)), "tone")
        assert answer.publication.spec.tone.frequency_hz == 600
    assert await publication(admin, room, known.publication_id) == known
