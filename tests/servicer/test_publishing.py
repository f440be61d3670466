"""PublishTrack, UnpublishTrack, GetPublication and ListPublications, as callers use them."""

import asyncio

import grpc
import pytest
from google.protobuf import struct_pb2
from livekit import rtc

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room, participants, rooms
from tests.media.viewer import viewer
from tests.participants import microphone, participant
from tests.publications import (
    DATA,
    DEADLINE_S,
    ENDED,
    LIVE,
    OBSERVED,
    TONE,
    pattern,
    publication,
    publish,
    unpublish,
    until,
)
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2, tracks_pb2


async def publications(client: Client, room: str, **query: object) -> list[str]:
    """Ids of the room's publications."""
    answer = await client.ListPublications(pb.ListPublicationsRequest(room=room, **query))  # type: ignore[arg-type]
    return [found.publication_id for found in answer.publications]


async def test_a_publication_is_live_shown_and_ended(admin: Client, room: str) -> None:
    answer = await admin.PublishTrack(pb.PublishTrackRequest(room=room, spec=TONE), timeout=30)
    assert (answer.stage, answer.evidence) == (OBSERVED, pb.EVIDENCE_ROOM)
    live = answer.publication
    assert live.publication_id.startswith("PUB_")
    assert live.state == LIVE
    assert live.route == pb.PUBLICATION_ROUTE_HOSTED
    assert live.creator_identity == "admin"
    assert live.participant_identity
    assert [entry.track_sid for entry in live.lineage] == [live.track_sid]
    assert [move.state for move in live.moves] == [
        pb.PUBLICATION_STATE_PENDING,
        pb.PUBLICATION_STATE_STARTING,
        pb.PUBLICATION_STATE_LIVE,
    ]
    assert await publication(admin, room, live.publication_id) == live

    gone = await unpublish(admin, live)
    assert (gone.stage, gone.evidence) == (OBSERVED, pb.EVIDENCE_ROOM)
    assert gone.publication.state == ENDED
    assert gone.publication.end_cause == pb.PUBLICATION_END_CAUSE_CALLER
    assert gone.publication.track_sid == ""
    assert gone.publication.lineage[0].HasField("end_time")
    assert not (await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room))).tracks
    # Once more: shown as it was.
    again = await unpublish(admin, live)
    assert again.publication == gone.publication


async def test_defaults_are_filled_in(admin: Client, room: str, clip: str) -> None:
    tone = (await publish(admin, room, pb.PublicationSpec(tone=pb.ToneInput()), "a")).spec
    assert (tone.tone.frequency_hz, tone.tone.level_dbfs) == (440, -20)
    assert (tone.audio.max_bitrate_bps, tone.audio.dtx, tone.audio.red) == (48_000, True, True)
    assert tone.source == track_pb2.TRACK_SOURCE_MICROPHONE
    data = await publish(admin, room, pb.PublicationSpec(data=pb.DataInput()), "a")
    assert (data.spec.data.frames_per_second, data.spec.data.frame_bytes) == (10, 64)
    assert data.spec.source == track_pb2.TRACK_SOURCE_UNSPECIFIED
    assert data.spec.name == data.publication_id
    film = (await publish(admin, room, pb.PublicationSpec(file=pb.FileInput(uri=clip, loop=True)), "a")).spec
    assert film.file.type == track_pb2.TRACK_TYPE_VIDEO
    assert (film.video.width, film.video.height, film.video.frames_per_second) == (160, 120, 15)
    assert (film.video.codec, film.video.simulcast) == (pb.VIDEO_CODEC_VP8, False)
    assert film.video.max_bitrate_bps == 50_000
    assert film.source == track_pb2.TRACK_SOURCE_CAMERA


async def test_name_source_and_metadata_are_seen_in_the_room(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    metadata = struct_pb2.Struct()
    metadata.update({"role": "presenter", "rank": 1})
    spec = pattern(320, 180, 10)
    spec.name, spec.source = "slides", track_pb2.TRACK_SOURCE_SCREEN_SHARE
    spec.metadata.CopyFrom(metadata)
    shared = await publish(admin, room, spec)
    await publish(admin, room, TONE)
    query = 'track.metadata.role == "presenter" && track.source == TrackSource.TRACK_SOURCE_SCREEN_SHARE'
    listed = await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room, filter=query))
    (found,) = listed.tracks
    assert (found.sid, found.name) == (shared.track_sid, "slides")
    assert found.metadata == metadata
    async with viewer(livekit, room) as seen:
        remote = await seen.publication_of(shared.track_sid)
        assert (remote.name, remote.source) == ("slides", rtc.TrackSource.SOURCE_SCREENSHARE)


async def test_the_same_identity_is_one_participant_and_none_is_one_each(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    await asyncio.gather(publish(admin, room, TONE, "host"), publish(admin, room, DATA, "host"))
    assert await participants(livekit, room) == {"host"}
    first, second = [await publish(admin, room, TONE) for _ in range(2)]
    assert first.participant_identity != second.participant_identity
    assert await participants(livekit, room) == {"host", first.participant_identity, second.participant_identity}


async def test_an_identity_can_be_used_again_at_once(admin: Client, room: str) -> None:
    # The participant of before may still be on its way out of the room.
    for turn in range(12):
        await unpublish(admin, await publish(admin, room, DATA, "host"))
        await asyncio.sleep(0.01 * (turn % 4))


async def test_a_participant_publishes_as_itself_by_default(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with track.client("alice", room_join=True, room=room) as alice:
        mine = await publish(alice, room, TONE)
        assert mine.participant_identity == "alice"
        assert mine.creator_identity == "alice"
        other = pb.PublishTrackRequest(room=room, spec=TONE, participant_identity="bob")
        assert (await refusal(alice.PublishTrack(other))).code is grpc.StatusCode.PERMISSION_DENIED
        await unpublish(alice, mine)
    assert "bob" not in await participants(livekit, room)


async def test_a_room_is_created_only_where_that_is_asked_for(
    admin: Client, livekit: LiveKitProcess, room_name: str
) -> None:
    refused = await refusal(admin.PublishTrack(pb.PublishTrackRequest(room=room_name, spec=TONE), timeout=45))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "ROOM_NOT_FOUND")
    assert refused.fields == ("room",)
    assert await rooms(livekit, room_name) == []
    assert await publications(admin, room_name) == []
    request = pb.PublishTrackRequest(room=room_name, spec=TONE, create_room=True)
    answer = await admin.PublishTrack(request, timeout=45)
    assert answer.stage == OBSERVED
    assert await rooms(livekit, room_name) == [room_name]
    await delete_room(livekit, room_name)
    ended = await until(admin, answer.publication, lambda found: found.state == ENDED)
    assert ended.end_cause == pb.PUBLICATION_END_CAUSE_ROOM_CLOSED
    assert await rooms(livekit, room_name) == []


async def test_an_identity_that_somebody_holds_is_refused_and_they_stay(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        gone = asyncio.Event()
        alice.on("disconnected", lambda *_: gone.set())
        mine = await microphone(alice)
        request = pb.PublishTrackRequest(room=room, spec=TONE, participant_identity="alice")
        refused = await refusal(admin.PublishTrack(request, timeout=45))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDENTITY_IN_USE")
        assert refused.fields == ("participant_identity",)
        assert await publications(admin, room) == []
        assert not gone.is_set()
        assert alice.isconnected()
        async with asyncio.timeout(DEADLINE_S):  # LiveKit announces a track with its first packet
            while True:
                listed = await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room))
                if [found.sid for found in listed.tracks] == [mine.sid]:
                    break
                await asyncio.sleep(0.05)


async def test_who_has_only_just_joined_is_not_thrown_out(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with events(admin, room) as stream:
        await stream.snapshot()
        # LiveKit tells others of a participant that publishes nothing 2 to 3 s after it joined.
        async with participant(livekit, room, "alice", auto_subscribe=False) as alice:
            gone = asyncio.Event()
            alice.on("disconnected", lambda *_: gone.set())
            request = pb.PublishTrackRequest(room=room, spec=TONE, participant_identity="alice")
            refused = await refusal(admin.PublishTrack(request, timeout=45))
            assert refused.reason == "IDENTITY_IN_USE"
            assert (await stream.until("participant_joined")).identity == "alice"
            assert not gone.is_set()


async def test_who_takes_the_identity_of_a_hosted_participant_has_it_and_stays(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    known = await publish(admin, room, TONE, "host")
    async with participant(livekit, room, "host") as taker:
        over = await until(admin, known, lambda found: found.state == ENDED)
        assert over.end_cause == pb.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED
        assert len(over.lineage) == 1
        assert taker.isconnected()


async def test_who_is_hidden_is_not_thrown_out(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with events(admin, room) as stream:
        await stream.snapshot()
        # This service's own: as long as the room is watched it would come back, and throw the publisher out in turn.
        (watcher,) = await participants(livekit, room, hidden=True)
        request = pb.PublishTrackRequest(room=room, spec=TONE, participant_identity=watcher)
        refused = await refusal(admin.PublishTrack(request, timeout=45))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDENTITY_IN_USE")
        assert await publications(admin, room) == []
        assert await participants(livekit, room, hidden=True) == {watcher}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one after the other"])
async def test_a_request_id_publishes_once(admin: Client, room: str, at_once: bool) -> None:
    request = pb.PublishTrackRequest(room=room, spec=TONE, request_id="take-1")
    if at_once:
        answers = await asyncio.gather(*(admin.PublishTrack(request, timeout=30) for _ in range(4)))
    else:
        answers = [await admin.PublishTrack(request, timeout=30) for _ in range(2)]
    assert len({answer.publication.publication_id for answer in answers}) == 1
    assert all(answer == answers[0] for answer in answers)
    assert len((await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room))).tracks) == 1
    assert len(await publications(admin, room)) == 1
    other = pb.PublishTrackRequest(room=room, spec=DATA, request_id="take-1")
    refused = await refusal(admin.PublishTrack(other))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert refused.fields == ("request_id",)


async def test_the_wait_ends_before_the_deadline_and_what_was_asked_stays_asked(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with track.client("admin", room_admin=True, room=room_name) as admin, existing_room(livekit, room_name):
        answer = await admin.PublishTrack(pb.PublishTrackRequest(room=room_name, spec=TONE), timeout=8)
        assert answer.stage == pb.STAGE_REQUESTED
        assert answer.evidence == pb.EVIDENCE_UNSPECIFIED
        assert answer.publication.state == pb.PUBLICATION_STATE_PENDING
        # In time it tells why nothing happens.
        waiting = await until(admin, answer.publication, lambda found: found.HasField("problem"))
        assert waiting.state == pb.PUBLICATION_STATE_PENDING
        assert waiting.problem.code == grpc.StatusCode.UNAVAILABLE.value[0]
        ended = await unpublish(admin, waiting)
        assert ended.publication.state == ENDED
        assert await participants(livekit, room_name) == set()


async def test_a_deadline_too_short_begins_nothing(
    admin: Client, livekit: LiveKitProcess, room: str, room_name: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await admin.PublishTrack(pb.PublishTrackRequest(room=room, spec=TONE, create_room=True), timeout=0.06)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await publications(admin, room) == []
    assert await participants(livekit, room) == set()


async def test_unknown_publications_are_not_found(admin: Client, room: str) -> None:
    known = await publish(admin, room, DATA)
    for room_asked, publication_id in ((room, "PUB_none"), (room, "nonsense")):
        for call in (
            admin.GetPublication(pb.GetPublicationRequest(room=room_asked, publication_id=publication_id)),
            admin.UnpublishTrack(pb.UnpublishTrackRequest(room=room_asked, publication_id=publication_id)),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PUBLICATION_NOT_FOUND")
            assert refused.fields == ("publication_id",)
    assert (await publication(admin, room, known.publication_id)).state == LIVE


async def test_a_publication_is_shown_in_its_own_room_only(track: TrackProcess, admin: Client, room: str) -> None:
    known = await publish(admin, room, DATA)
    async with track.client("somebody", room_list=True) as service:
        request = pb.GetPublicationRequest(room=f"{room}-other", publication_id=known.publication_id)
        assert (await refusal(service.GetPublication(request))).reason == "PUBLICATION_NOT_FOUND"
        assert await publication(service, room, known.publication_id) == known


async def test_publications_are_listed_oldest_first_filtered_and_in_pages(admin: Client, room: str) -> None:
    made = [(await publish(admin, room, DATA, "host")) for _ in range(5)]
    await unpublish(admin, made[1])
    ids = [found.publication_id for found in made]
    assert await publications(admin, room) == ids
    live = "publication.state != PublicationState.PUBLICATION_STATE_ENDED"
    assert await publications(admin, room, filter=live) == [ids[0], *ids[2:]]
    pages, token = [], ""
    while True:
        request = pb.ListPublicationsRequest(room=room, filter=live, page_size=3, page_token=token)
        answer = await admin.ListPublications(request)
        pages.append([found.publication_id for found in answer.publications])
        token = answer.next_page_token
        if not token:
            break
        last = token
    assert pages == [[ids[0], ids[2], ids[3]], [ids[4]]]
    other = pb.ListPublicationsRequest(room=room, page_size=3, page_token=last)
    assert (await refusal(admin.ListPublications(other))).reason == "INVALID_PAGE_TOKEN"
