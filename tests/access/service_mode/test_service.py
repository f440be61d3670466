"""What ServiceAccess asks the permission service, what it keeps, and what bounds come of it."""

import asyncio

import pytest

from tests.access.service_mode.service import ALICE, MUTE, PUBLISH, READ, ROOM, SERVICE, VIDEO, Running, until
from tests.permission_peer import allowed, denied
from track.permission.v1 import permission_service_pb2 as pb
from track.v1.access_pb2 import Permission, TrackOperation
from track.v1.publication_pb2 import VideoCodec
from track.v1.token_pb2 import PublishBounds
from track.v1.track_pb2 import TrackSource
from track_server.access.bounds import UNBOUNDED, Bounds, Description
from track_server.access.principal import Grants, Principal
from track_server.access.question import Question
from track_server.errors import PermissionDenied


async def test_what_was_allowed_is_asked_once_and_then_known_at_once(service: Running) -> None:
    assert not service.access.admitted(ALICE, READ, "a")
    await service.access.admit(ALICE, READ, "a")
    assert service.access.admitted(ALICE, READ, "a")
    await service.access.admit(ALICE, READ, "a")
    assert [question.room for question in service.peer.questions] == ["a"]
    service.now += 60
    assert not service.access.admitted(ALICE, READ, "a")
    await service.access.admit(ALICE, READ, "a")
    assert len(service.peer.questions) == 2


async def test_a_denial_tells_the_services_reason_and_is_kept_too(service: Running) -> None:
    service.peer.decide = lambda question: denied("alice is\ton leave\n" + "x" * 5000)
    for _ in range(2):
        error = await service.fails(ROOM)
        assert isinstance(error, PermissionDenied)
        assert error.message.startswith("alice is on leave xxx")
        assert len(error.message) == 256
        assert error.message.isprintable()
    assert len(service.peer.questions) == 1
    service.now += 60
    service.peer.decide = lambda question: denied("")
    assert (await service.fails(ROOM)).message == "the permission service does not allow this"


async def test_the_service_is_told_everything_that_it_may_decide_by(service: Running) -> None:
    described = Description(VIDEO, TrackSource.TRACK_SOURCE_CAMERA, VideoCodec.VIDEO_CODEC_VP8, 640, 360, 29.5, 500_000)
    await service.ask(Question(PUBLISH, "a", "bob", "TR_1", described))
    (asked,) = service.peer.questions
    assert asked == pb.CheckPermissionRequest(
        principal=ALICE.message,
        permission=PUBLISH,
        room="a",
        participant_identity="bob",
        track_sid="TR_1",
        track=pb.TrackDescription(
            type=VIDEO,
            source=TrackSource.TRACK_SOURCE_CAMERA,
            codec=VideoCodec.VIDEO_CODEC_VP8,
            width=640,
            height=360,
            frames_per_second=29.5,
            max_bitrate_bps=500_000,
        ),
    )


async def test_equal_questions_at_the_same_time_are_asked_once_and_who_asked_first_may_leave(service: Running) -> None:
    service.peer.answering.clear()
    first, *others = [asyncio.create_task(service.ask(ROOM)) for _ in range(20)]
    await until(lambda: service.peer.questions)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    service.peer.answering.set()
    assert await asyncio.gather(*others) == [UNBOUNDED] * 19
    assert len(service.peer.questions) == 1


async def test_many_questions_go_in_one_call_and_only_those_that_are_not_known(service: Running) -> None:
    questions = [Question(MUTE, "a", f"p{number}", f"TR_{number}") for number in range(100)]
    service.peer.decide = lambda question: denied() if question.participant_identity == "p7" else allowed()
    answers = await service.access.require_each(ALICE, questions)
    assert service.peer.calls.count("BatchCheckPermissions") == 1
    assert service.peer.batches == [100]
    assert [number for number, answer in enumerate(answers) if isinstance(answer, PermissionDenied)] == [7]
    again = [*questions, *(Question(MUTE, "a", f"q{number}") for number in range(1100)), questions[0], questions[7]]
    answers = await service.access.require_each(ALICE, again)
    assert len(answers) == 1202
    assert service.peer.batches == [100, 500, 500, 100]
    assert isinstance(answers[-1], PermissionDenied)
    assert isinstance(answers[-2], Bounds)


async def test_the_same_question_twice_in_a_batch_is_asked_once(service: Running) -> None:
    assert await service.access.require_each(ALICE, [ROOM, ROOM]) == [UNBOUNDED] * 2
    assert len(service.peer.questions) == 1


@pytest.mark.parametrize(
    ("principal", "question"),
    [
        (ALICE, Question(READ, "b")),
        (ALICE, Question(Permission.PERMISSION_READ_AUDIT, "b")),
        (ALICE, Question(MUTE, "b", "alice")),
        (ALICE, Question(READ, "")),
        (ALICE, Question(Permission.PERMISSION_READ_AUDIT, "")),
        (Principal("", Grants()), Question(Permission.PERMISSION_READ_AUDIT, "")),
        (Principal("alice", Grants(room="a", room_admin=True)), Question(READ, "b")),
        (Principal("", Grants()), Question(READ, "a")),
        (
            Principal("alice", ALICE.grants, operation=TrackOperation.TRACK_OPERATION_SUBSCRIBE),
            Question(PUBLISH, "a", "alice"),
        ),
        (Principal("alice", ALICE.grants, operation=TrackOperation.TRACK_OPERATION_OBSERVE), Question(MUTE, "a")),
        (ALICE, Question(Permission.PERMISSION_HOST_MEDIA, "")),
    ],
    ids=lambda value: "" if isinstance(value, Principal) else repr(value),
)
async def test_beyond_its_token_nobody_is_asked_about(
    service: Running, principal: Principal, question: Question
) -> None:
    assert not service.access.admitted(principal, question.permission, question.room)
    assert isinstance(await service.fails(question, principal), PermissionDenied)
    assert service.peer.questions == []
    (inside, outside) = await service.access.require_each(SERVICE, [Question(READ, "x"), Question(READ, "b")])
    assert inside == outside == UNBOUNDED


async def test_media_workers_host_by_their_own_grant(service: Running) -> None:
    worker = Principal("worker", Grants(agent=True))
    await service.access.admit(worker, Permission.PERMISSION_HOST_MEDIA, "")
    assert service.peer.questions == []


async def test_obligations_bound_what_may_be_published_and_so_does_an_operation_token(service: Running) -> None:
    obligations = PublishBounds(max_width=640, max_bitrate_bps=300_000, codecs=[VideoCodec.VIDEO_CODEC_VP8])
    service.peer.decide = lambda question: allowed(obligations=obligations)
    question = Question(PUBLISH, "a", "alice")
    assert await service.ask(question) == Bounds.of(obligations)
    bounded = Principal(
        "alice",
        ALICE.grants,
        operation=TrackOperation.TRACK_OPERATION_PUBLISH,
        bounds=Bounds(max_width=1000, max_height=5),
    )
    for _ in range(2):
        within = await service.ask(question, bounded)
        assert (within.max_width, within.max_height, within.max_bitrate_bps) == (640, 5, 300_000)


async def test_what_is_nobodys_is_not_asked_for_as_the_room(service: Running) -> None:
    service.peer.decide = lambda question: denied() if question.participant_identity else allowed()
    await service.ask(Question(MUTE, "a"))
    with pytest.raises(PermissionDenied):
        await service.access.require(ALICE, Question(MUTE, "a", track_sid="TR_gone"))
    assert service.peer.questions[-1].participant_identity == "(nobody)"
