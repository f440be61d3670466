"""Restarts that are refused, wait for their turn, or are only validated."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.publications import (
    DATA,
    ENDED,
    OBSERVED,
    TONE,
    pattern,
    publication,
    publish,
    unpublish,
    until,
    until_listed,
)
from tests.refusals import refusal
from tests.servicer.restarting import KEYFRAME, REJOIN, REPUBLISH, RESUBSCRIBE, levels, restart
from tests.track_process import Client, TrackProcess
from track.v1 import error_pb2, publication_pb2
from track.v1 import publication_update_pb2 as pb


async def test_of_twenty_at_once_one_is_done(start_track: StartTrack, livekit: LiveKitProcess, room: str) -> None:
    # However long the others take to arrive.
    track = await start_track(livekit, {"TRACK_RESTART_COOLDOWN_SECONDS": "300"})
    async with track.client("admin", room_admin=True, room=room) as client:
        await _one_of_twenty(client, room)


async def _one_of_twenty(client: Client, room: str) -> None:
    known = await publish(client, room, pattern(), "host")

    async def one(number: int) -> Any:
        try:
            return await restart(client, known, REPUBLISH, request_id=f"restart-{number}")
        except grpc.aio.AioRpcError as error:
            return error

    async with asyncio.timeout(60):
        results = await asyncio.gather(*(one(number) for number in range(20)))
    done = [found for found in results if isinstance(found, pb.RestartTrackResponse)]
    assert len(done) == 1
    assert done[0].stage == OBSERVED, done
    refused = [found for found in results if isinstance(found, grpc.aio.AioRpcError)]
    assert {found.code() for found in refused} == {grpc.StatusCode.FAILED_PRECONDITION}
    after = await publication(client, room, known.publication_id)
    assert len(after.lineage) == 2


async def test_there_is_a_while_between_two_restarts(track: TrackProcess, admin: Client, room: str) -> None:
    known = await publish(admin, room, pattern(), "host")
    answer = await restart(admin, known, KEYFRAME)
    assert answer.cooldown_end_time.ToNanoseconds()
    refused = await refusal(restart(admin, known, KEYFRAME))
    assert refused.reason == "RESTART_IN_PROGRESS"
    assert refused.retry_s is not None
    assert 0 < refused.retry_s <= 5
    refused = await refusal(restart(admin, known, KEYFRAME, validate_only=True))
    assert refused.reason == "RESTART_IN_PROGRESS"


# Both tracks of sound are there for a while; of data tracks of one name the old one goes first.
@pytest.mark.parametrize("spec", [TONE, DATA], ids=["sound", "data"])
async def test_what_is_taken_back_meanwhile_was_not_restarted(
    admin: Client, room: str, spec: publication_pb2.PublicationSpec
) -> None:
    known = await publish(admin, room, spec, "host")
    restarted = asyncio.create_task(restart(admin, known, REPUBLISH, graceful=True))
    await until(admin, known, lambda found: len(found.lineage) == 2)
    await unpublish(admin, known)
    answer = await restarted
    assert [step.problem.reason for step in answer.steps] == [error_pb2.ERROR_REASON_PUBLICATION_ENDED]
    assert answer.publication.state == ENDED
    if spec is TONE:
        assert answer.stage == publication_pb2.STAGE_REQUESTED


async def test_validating_does_nothing(restarter: Client, room: str) -> None:
    known = await publish(restarter, room, pattern(), "host")
    answer = await restart(restarter, known, validate_only=True)
    assert levels(answer) == [KEYFRAME, RESUBSCRIBE, REPUBLISH, REJOIN]
    assert not answer.stage
    assert not answer.HasField("cooldown_end_time")
    assert answer.publication == await publication(restarter, room, known.publication_id)


async def test_what_cannot_be_restarted_is_refused(livekit: LiveKitProcess, restarter: Client, room: str) -> None:
    sound = await publish(restarter, room, TONE, "host")
    data = await publish(restarter, room, DATA, "host")
    async with participant(livekit, room, "stranger") as stranger:
        foreign = await microphone(stranger)

        async def refused(**fields: Any) -> tuple[str, tuple[str, ...]]:
            found = await refusal(restarter.RestartTrack(pb.RestartTrackRequest(room=room, **fields), timeout=45))
            return found.reason, found.fields

        sid = foreign.sid
        await until_listed(restarter, room, sid)
        assert await refused(publication_id=sound.publication_id, level=KEYFRAME) == ("NOT_SUPPORTED", ("level",))
        assert await refused(publication_id=data.publication_id, level=RESUBSCRIBE) == ("NOT_SUPPORTED", ("level",))
        assert await refused(track_sid=sid, level=REJOIN) == ("NOT_SUPPORTED", ("level",))
        assert (await refused(track_sid=sid, level=REPUBLISH))[0] == "COMPANION_MISSING"
        assert await refused(publication_id=sound.publication_id, level=REJOIN, graceful=True) == (
            "INVALID_OPTIONS",
            ("graceful",),
        )
        assert (await refused(publication_id="PUB_nobody"))[0] == "PUBLICATION_NOT_FOUND"
        assert (await refused(track_sid="TR_nobody"))[0] == "TRACK_NOT_FOUND"
        assert await refused(publication_id=sound.publication_id, level=9) == ("INVALID_FIELD", ("level",))
        assert (await refused())[0] == "INVALID_FIELD"
        assert (await refused(publication_id="PUB_a", track_sid="TR_a"))[0] == "INVALID_FIELD"
        await unpublish(restarter, sound)
        assert (await refused(publication_id=sound.publication_id))[0] == "PUBLICATION_ENDED"
    missing = await refusal(
        restarter.RestartTrack(pb.RestartTrackRequest(room=f"{room}-none", track_sid="TR_a"), timeout=45)
    )
    assert missing.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND)
