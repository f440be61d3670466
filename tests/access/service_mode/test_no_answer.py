"""Answers of the permission service that are none: malformed, late, or not given; and what stands in for them."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.access.service_mode.service import ALICE, MUTE, READ, ROOM, SERVICE, Running, running, until
from tests.permission_peer import Answer, PermissionPeer, allowed, denied
from track.permission.v1 import permission_service_pb2 as pb
from track.v1.token_pb2 import PublishBounds
from track.v1.track_pb2 import TrackSource
from track_server.access.bounds import UNBOUNDED
from track_server.access.question import Question
from track_server.errors import PermissionServiceUnavailable


def lasting(seconds: int, nanos: int = 0) -> Answer:
    answer = Answer(decision=pb.DECISION_ALLOWED)
    answer.lifetime.CopyFrom(Duration(seconds=seconds, nanos=nanos))
    return answer


MALFORMED: dict[str, Answer] = {
    "no decision": Answer(reason="hm"),
    "unknown decision": Answer(decision=3),  # type: ignore[arg-type]  # as a later contract may have it
    "negative decision": Answer(decision=-1),  # type: ignore[arg-type]
    "negative lifetime": lasting(-1),
    "negative nanos": lasting(1, -1),
    "too many nanos": lasting(1, 1_000_000_000),
    "lifetime of a million years": lasting(31_536_000_000_000),
    "negative bitrate": allowed(obligations=PublishBounds(max_bitrate_bps=-1)),
    "negative width": allowed(obligations=PublishBounds(max_width=-640)),
    "negative height": allowed(obligations=PublishBounds(max_height=-1)),
    "negative tracks": allowed(obligations=PublishBounds(max_tracks=-1)),
    "negative frame rate": allowed(obligations=PublishBounds(max_frames_per_second=-30)),
    "frame rate that is none": allowed(obligations=PublishBounds(max_frames_per_second=float("nan"))),
    "infinite frame rate": allowed(obligations=PublishBounds(max_frames_per_second=float("inf"))),
    "unknown source": allowed(obligations=PublishBounds(sources=[77])),  # type: ignore[list-item]
    "no source": allowed(obligations=PublishBounds(sources=[0])),  # type: ignore[list-item]
    "unknown codec": allowed(obligations=PublishBounds(codecs=[77])),  # type: ignore[list-item]
    "endless sources": allowed(obligations=PublishBounds(sources=[TrackSource.TRACK_SOURCE_CAMERA] * 17)),
    "endless token": allowed(consistency_token="x" * 5000),
}
RAW = {"no message": b"\xff\xff\xff", "no text": b"\x08\x01\x12\x02\xff\xfe", "nothing": b"", "cut": b"\x08"}


@pytest.mark.parametrize("lie", [*MALFORMED, *RAW])
@pytest.mark.parametrize("others", [0, 2], ids=["alone", "in a batch"])
async def test_a_malformed_answer_is_no_answer_and_is_not_kept(service: Running, lie: str, others: int) -> None:
    questions = [ROOM, *(Question(MUTE, "a", f"p{number}") for number in range(others))]
    method = "BatchCheckPermissions" if others else "CheckPermission"
    if lie in RAW:
        service.peer.raw[method] = RAW[lie]
    else:
        service.peer.decide = lambda question: MALFORMED[lie] if question.permission == READ else allowed()
    answers = await service.access.require_each(ALICE, questions)
    error = answers[0]
    assert isinstance(error, PermissionServiceUnavailable)
    assert error.message == "the permission service does not answer in a form that can be understood"
    assert error.retry_delay_s
    if lie in MALFORMED:
        assert answers[1:] == [UNBOUNDED] * others
    assert service.access.counts.checks["malformed"] == (1 if lie in MALFORMED else 1 + others)
    assert not service.access.admitted(ALICE, READ, "a")
    service.peer.raw.clear()
    service.peer.decide = lambda question: allowed()
    await service.ask(ROOM)


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_decisions_is_no_answer_to_any(service: Running, count: int) -> None:
    results = pb.BatchCheckPermissionsResponse(results=[allowed()] * count)
    service.peer.raw["BatchCheckPermissions"] = results.SerializeToString()
    answers = await service.access.require_each(ALICE, [ROOM, Question(MUTE, "a")])
    assert all(isinstance(answer, PermissionServiceUnavailable) for answer in answers)


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=lambda code: code.name
)
async def test_a_status_is_no_answer(service: Running, code: grpc.StatusCode) -> None:
    service.peer.fails["CheckPermission"] = code
    error = await service.fails(ROOM)
    assert isinstance(error, PermissionServiceUnavailable)
    assert error.message == "the permission service does not answer"
    # Where the connection broke it is asked once more, and never again.
    asked = 2 if code is grpc.StatusCode.UNAVAILABLE else 1
    assert service.peer.calls.count("CheckPermission") == asked
    assert service.access.counts.checks == {"unavailable": 1}


async def test_an_answer_that_takes_too_long_is_none(peer: PermissionPeer) -> None:
    peer.answering.clear()
    async with running(peer, timeout_s=1) as service:
        error = await service.fails(ROOM)
        assert isinstance(error, PermissionServiceUnavailable)
        assert error.retry_delay_s == 1.0
        peer.answering.set()
        await service.ask(ROOM)


async def test_a_call_waits_no_longer_than_it_has_left_and_the_answer_serves_the_next(service: Running) -> None:
    service.peer.answering.clear()
    service.left = 0.05
    assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
    service.left = None
    service.peer.answering.set()
    await service.ask(ROOM)
    assert len(service.peer.questions) == 1


async def test_a_connection_that_broke_is_made_again_within_the_call(service: Running) -> None:
    await service.ask(ROOM)
    await service.peer.stop()
    await service.peer.start()
    await until(lambda: service.access.connected and service.peer.watched == 1)
    await service.ask(ROOM)


async def test_without_an_answer_an_allow_stands_in_up_to_its_age_and_a_denial_never(service: Running) -> None:
    service.peer.decide = lambda question: denied() if question.room == "b" else allowed(lifetime_s=40)
    other = Question(READ, "b")
    await service.ask(ROOM, SERVICE)
    await service.fails(other, SERVICE)
    await service.peer.stop()
    await until(lambda: not service.access.connected)
    assert not service.access.admitted(SERVICE, READ, "a")
    service.now += 30
    assert await service.ask(ROOM, SERVICE) == UNBOUNDED
    assert isinstance(await service.fails(other, SERVICE), PermissionServiceUnavailable)
    assert isinstance(await service.fails(Question(READ, "c"), SERVICE), PermissionServiceUnavailable)
    assert service.access.counts.stale == 1
    service.now += 0.1
    assert isinstance(await service.fails(ROOM, SERVICE), PermissionServiceUnavailable)


async def test_an_allow_does_not_stand_in_beyond_its_lifetime(service: Running) -> None:
    service.peer.decide = lambda question: allowed(lifetime_s=10)
    await service.ask(ROOM)
    await service.peer.stop()
    await until(lambda: not service.access.connected)
    service.now += 10
    assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)


async def test_a_malformed_answer_does_not_let_an_old_allow_stand_in(service: Running) -> None:
    await service.ask(ROOM)
    service.peer.fails["WatchPermissions"] = grpc.StatusCode.UNAVAILABLE
    service.peer.hang_up()
    await until(lambda: not service.access.connected)
    service.peer.raw["CheckPermission"] = b"\xff"
    assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
    assert service.access.counts.stale == 0
