"""The record of operations whatever becomes of the caller and the server, and how long it lasts."""

import asyncio

import pytest
from livekit import api

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api
from tests.publications import DEADLINE_S, LIVE
from tests.refusals import refusal
from tests.servicer.records import INVALID, NO_WORKERS, asked, eventually, record
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2


@pytest.mark.parametrize("request_id", ["", "once"])
async def test_a_mutation_whose_caller_goes_away_is_recorded(
    livekit: LiveKitProcess, start_track: StartTrack, room: str, request_id: str
) -> None:
    # Without a worker it waits for one, until the deadline.
    track = await start_track(livekit, NO_WORKERS)
    async with track.client("admin", room_admin=True, room=room) as admin:
        call = admin.PublishTrack(asked(room, "studio", request_id), timeout=8 if request_id else 60)
        async with asyncio.timeout(DEADLINE_S):
            while not (await admin.ListPublications(publication_pb2.ListPublicationsRequest(room=room))).publications:
                await asyncio.sleep(0.02)
        call.cancel()
        (entry,) = await eventually(admin, room, 1)
        # With a request_id it is finished without the caller.
        assert entry.code == (0 if request_id else 1)
        assert entry.targets[0].participant_identity == "studio"


async def test_what_was_answered_is_in_the_record_after_sigkill(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, NO_WORKERS)
    for number in range(3):
        async with track.client("admin", room_admin=True, room=room) as admin:
            request_id = f"id-{number}" if number else ""
            await admin.PublishTrack(asked(room, f"studio-{number}", request_id), timeout=6)
            await track.kill()
        await track.start()
        async with track.client("admin", room_admin=True, room=room) as admin:
            entries = await record(admin, room)
            assert [entry.targets[0].participant_identity for entry in entries] == [
                f"studio-{n}" for n in range(number + 1)
            ]


async def test_a_thousand_at_once_are_one_publication_and_one_row(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    request = asked(room, "studio", "once")
    calls = [admin.PublishTrack(request, timeout=60) for _ in range(1000)]
    answers = await asyncio.gather(*calls)
    assert {answer.publication.publication_id for answer in answers} == {answers[0].publication.publication_id}
    assert {answer.publication.state for answer in answers} == {LIVE}
    async with livekit_api(livekit) as client:
        present = (await client.room.list_participants(api.ListParticipantsRequest(room=room))).participants
    tracks = [found.sid for who in present for found in who.tracks]
    assert tracks == [answers[0].publication.track_sid]
    (entry,) = await record(admin, room)
    assert entry.targets[0].publication_id == answers[0].publication.publication_id
    other = asked(room, "studio", "once")
    other.spec.tone.frequency_hz = 500
    refused = await refusal(admin.PublishTrack(other, timeout=45))
    assert (refused.code, refused.reason, refused.fields) == (INVALID, "REQUEST_ID_REUSED", ("request_id",))
    assert len(await record(admin, room)) == 1


async def test_no_more_is_kept_than_the_settings_say(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {**NO_WORKERS, "TRACK_AUDIT_MAX_ENTRIES": "100"})
    async with track.client("admin", room_admin=True, room=room) as admin:
        for number in range(110):
            await admin.PublishTrack(asked(room, f"studio-{number}", validate_only=True), timeout=45)
        entries = await record(admin, room)
        assert [entry.targets[0].participant_identity for entry in entries] == [f"studio-{n}" for n in range(10, 110)]
    await track.stop()
    track = await start_track(livekit, {**NO_WORKERS, "TRACK_AUDIT_RETENTION_DAYS": "0.00001"})
    async with track.client("admin", room_admin=True, room=room) as admin:
        await admin.PublishTrack(asked(room, "studio", validate_only=True), timeout=45)
        async with asyncio.timeout(DEADLINE_S):
            while await record(admin, room):
                await asyncio.sleep(0.1)
