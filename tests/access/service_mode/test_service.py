"""ServiceAccess in front of a permission service that does what the test wants, over a real connection."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from tests.access.service_mode.authority import Authority
from tests.permission_peer import Answer, PermissionPeer, allowed, denied
from track.permission.v1 import permission_service_pb2 as pb
from track.v1 import access_pb2
from track.v1.access_pb2 import Permission, TrackOperation
from track.v1.publication_pb2 import VideoCodec
from track.v1.token_pb2 import PublishBounds
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.access.bounds import UNBOUNDED, Bounds, Description
from track_server.access.principal import Grants, Principal
from track_server.access.question import EVERYTHING, Question, Touch
from track_server.access.service_mode.access import Keeping, ServiceAccess
from track_server.config import Settings, SettingsError
from track_server.errors import PermissionDenied, PermissionServiceUnavailable, TrackError
from track_server.permission_client.answers import MalformedAnswer
from track_server.permission_client.client import PermissionClient
from track_server.permission_client.connection import Connection

READ = Permission.PERMISSION_READ_TRACKS
MUTE = Permission.PERMISSION_MUTE
VIDEO = TrackType.TRACK_TYPE_VIDEO
PUBLISH = Permission.PERMISSION_PUBLISH
ALICE = Principal("alice", Grants(room="a", room_join=True, can_publish=True))
SERVICE = Principal("batch", Grants(room_list=True))
TIMEOUT_S = 5.0


@dataclass
class Running:
    """A ServiceAccess with its clock in the test's hand."""

    access: ServiceAccess
    peer: PermissionPeer
    touches: list[Touch] = field(default_factory=list)
    now: float = 1000.0
    left: float | None = None

    async def ask(self, question: Question, principal: Principal = ALICE) -> Bounds:
        """`require`; of the room as such `admit`."""
        if question.participant_identity:
            return await self.access.require(principal, question)
        await self.access.admit(principal, question.permission, question.room)
        return UNBOUNDED

    async def fails(self, question: Question, principal: Principal = ALICE) -> TrackError:
        """`ask`, which must raise."""
        with pytest.raises(TrackError) as raised:
            await self.ask(question, principal)
        return raised.value


async def until(condition: Callable[[], Any]) -> None:
    """Waits for it."""
    async with asyncio.timeout(45):
        while not condition():
            await asyncio.sleep(0.01)


def settings(address: str, **overrides: Any) -> Settings:
    """Those of mode service."""
    values = {
        "livekit_url": "ws://127.0.0.1:1",
        "livekit_api_key": "key",
        "livekit_api_secret": "secret",
        "auth_mode": "service",
        "permission_address": address,
        **overrides,
    }
    return Settings.load(values)


@asynccontextmanager
async def running(
    peer: PermissionPeer,
    *,
    entries: int = 1000,
    stale_s: float = 30,
    timeout_s: float = TIMEOUT_S,
    connected: bool = True,
    **overrides: Any,
) -> AsyncIterator[Running]:
    """ServiceAccess, connected to the peer; nothing that it does may fail unheard."""
    async with Connection(settings(peer.address, **overrides)) as connection:
        found: list[Running] = []
        access = ServiceAccess(
            PermissionClient(connection, timeout_s=timeout_s),
            Keeping(entries, 300, stale_s),
            on_change=lambda touch: found[0].touches.append(touch),
            time_left=lambda: found[0].left,
            request_id=lambda: "call-1",
            clock=lambda: found[0].now,
        )
        found.append(Running(access, peer))
        async with access:
            if connected:
                await until(lambda: access.connected)
            yield found[0]
        await access.aclose()
    await connection.aclose()
    gc.collect()


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[PermissionPeer]:
    """A permission service that allows everything."""
    async with PermissionPeer() as running_peer:
        yield running_peer


@pytest_asyncio.fixture
async def service(peer: PermissionPeer) -> AsyncIterator[Running]:
    """ServiceAccess in front of it."""
    async with running(peer) as access:
        yield access


ROOM = Question(READ, "a")


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


async def test_a_lost_stream_empties_and_the_service_is_asked_again_where_it_answers(service: Running) -> None:
    await service.ask(ROOM)
    service.peer.fails["WatchPermissions"] = grpc.StatusCode.UNAVAILABLE
    service.peer.hang_up()
    await until(lambda: not service.access.connected)
    service.peer.decide = lambda question: denied()
    assert isinstance(await service.fails(ROOM), PermissionDenied)
    # A denial took the allow's place: it does not come back with the service gone.
    await service.peer.stop()
    assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)


async def test_a_malformed_answer_does_not_let_an_old_allow_stand_in(service: Running) -> None:
    await service.ask(ROOM)
    service.peer.fails["WatchPermissions"] = grpc.StatusCode.UNAVAILABLE
    service.peer.hang_up()
    await until(lambda: not service.access.connected)
    service.peer.raw["CheckPermission"] = b"\xff"
    assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
    assert service.access.counts.stale == 0


async def test_while_the_stream_is_down_nothing_that_is_answered_is_known(peer: PermissionPeer) -> None:
    peer.fails["WatchPermissions"] = grpc.StatusCode.UNIMPLEMENTED
    async with running(peer, connected=False) as service:
        for _ in range(3):
            await service.ask(ROOM)
            assert not service.access.admitted(ALICE, READ, "a")
        assert len(peer.questions) == 3
        assert await service.access.answering()
        assert service.access.counts.checks == {"allowed": 3}
        assert service.access.entries == 1


async def test_when_the_stream_is_back_everything_may_have_changed(service: Running) -> None:
    assert service.touches == [EVERYTHING]
    await service.ask(ROOM)
    service.peer.hang_up()
    await until(lambda: len(service.touches) == 2 and service.access.connected)
    assert service.touches == [EVERYTHING, EVERYTHING]
    assert service.access.entries == 0
    service.peer.decide = lambda question: denied()
    assert isinstance(await service.fails(ROOM), PermissionDenied)


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff", pb.WatchPermissionsResponse(changes=[pb.PermissionChange(permissions=[99])]).SerializeToString()],  # type: ignore[list-item]
    ids=["no message", "unknown permission"],
)
async def test_a_change_that_cannot_be_understood_is_a_lost_stream(service: Running, raw: bytes) -> None:
    await service.ask(ROOM)
    service.peer.say(raw)
    await until(lambda: service.touches == [EVERYTHING, EVERYTHING])
    assert service.access.entries == 0


async def test_a_change_takes_effect_on_the_next_question_and_is_told(service: Running) -> None:
    await service.ask(ROOM)
    await service.ask(Question(MUTE, "a", "bob"))
    service.peer.decide = lambda question: denied("changed")
    service.peer.change(pb.PermissionChange(participant_identity="bob", permissions=[MUTE]))
    told = Touch(participant_identity="bob", permissions=frozenset({MUTE}))
    await until(lambda: service.touches == [EVERYTHING, told])
    assert service.access.admitted(ALICE, READ, "a")
    assert (await service.fails(Question(MUTE, "a", "bob"))).message == "changed"


async def test_an_answer_that_a_change_has_overtaken_is_not_believed(service: Running) -> None:
    service.peer.answering.clear()
    asking = asyncio.create_task(service.fails(ROOM))
    await until(lambda: service.peer.questions)
    # The allow is made, and on its way.
    service.peer.decide = lambda question: denied("changed")
    service.peer.change(pb.PermissionChange(room="a"))
    await until(lambda: len(service.touches) == 2)
    later = asyncio.create_task(service.fails(ROOM))
    await until(lambda: len(service.peer.questions) == 2)
    service.peer.answering.set()
    assert (await asking).message == (await later).message == "changed"
    assert len(service.peer.questions) <= 3


async def test_what_is_nobodys_is_not_asked_for_as_the_room(service: Running) -> None:
    service.peer.decide = lambda question: denied() if question.participant_identity else allowed()
    await service.ask(Question(MUTE, "a"))
    with pytest.raises(PermissionDenied):
        await service.access.require(ALICE, Question(MUTE, "a", track_sid="TR_gone"))
    assert service.peer.questions[-1].participant_identity == "(nobody)"


async def test_questions_carry_the_newest_consistency_token(peer: PermissionPeer) -> None:
    peer.consistency_token = "s1"
    peer.decide = lambda question: allowed(lifetime_s=0)
    async with running(peer) as service:
        await service.ask(ROOM)
        peer.change(token="s2")
        peer.change(pb.PermissionChange(room="z"))  # names no state of its own
        await until(lambda: len(service.touches) == 2)
        await service.ask(ROOM)
        peer.decide = lambda question: allowed(lifetime_s=0, consistency_token="a3")
        await service.ask(ROOM)
        await service.access.require_each(ALICE, [ROOM, Question(MUTE, "a")])
    assert [question.consistency_token for question in peer.questions] == ["s1", "s2", "s2", "a3", "a3"]


async def test_an_answer_does_not_take_the_consistency_token_back(peer: PermissionPeer) -> None:
    peer.consistency_token = "s1"
    peer.decide = lambda question: allowed(lifetime_s=0, consistency_token="a1")
    async with running(peer) as service:
        peer.answering.clear()
        asking = asyncio.create_task(service.ask(ROOM))
        await until(lambda: peer.questions)
        peer.change(pb.PermissionChange(room="z"), token="s2")
        await until(lambda: len(service.touches) == 2)
        peer.answering.set()
        await asking
        await service.ask(ROOM)
    assert [question.consistency_token for question in peer.questions] == ["s1", "s2"]


async def test_a_service_that_came_back_is_not_asked_for_what_the_one_before_knew(peer: PermissionPeer) -> None:
    peer.consistency_token = "before"
    async with running(peer) as service:
        peer.consistency_token = ""
        peer.hang_up()
        await until(lambda: len(service.touches) == 2)
        await service.ask(ROOM)
    assert [question.consistency_token for question in peer.questions] == [""]


async def test_a_token_that_the_service_does_not_take_is_not_sent_again(peer: PermissionPeer) -> None:
    peer.consistency_token = "old"
    async with running(peer) as service:
        peer.fails["CheckPermission"] = grpc.StatusCode.INVALID_ARGUMENT
        assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
        del peer.fails["CheckPermission"]
        await service.ask(ROOM)
    assert [question.consistency_token for question in peer.questions] == ["old", ""]


async def test_what_livekit_refused_and_what_its_grants_would_allow_is_reported_once(service: Running) -> None:
    question = Question(MUTE, "a", "alice", "TR_1", Description(source=TrackSource.TRACK_SOURCE_CAMERA))
    for _ in range(3):
        service.access.refused(ALICE, question, "LiveKit said no")
    await until(lambda: service.peer.reports)
    (report,) = service.peer.reports
    assert (report.issue, report.detail) == (pb.PERMISSION_ISSUE_ALLOWED_BUT_REFUSED, "LiveKit said no")
    assert (report.check.principal, report.check.permission) == (ALICE.message, MUTE)
    assert (report.check.track_sid, report.request_id) == ("TR_1", "call-1")
    assert report.time.seconds > 0
    service.peer.decide = lambda question: denied(lifetime_s=0)
    for _ in range(3):
        await service.fails(question)
    await until(lambda: len(service.peer.reports) == 2)
    assert service.peer.reports[1].issue == pb.PERMISSION_ISSUE_DENIED_BUT_GRANTED
    # Somebody else's track: LiveKit's grants would not allow it either.
    await service.fails(Question(MUTE, "a", "bob"))
    await service.fails(ROOM)
    await until(lambda: len(service.peer.reports) == 3)
    assert [report.check.permission for report in service.peer.reports] == [MUTE, MUTE, READ]
    await until(lambda: service.access.counts.reports_sent == 3)
    assert service.access.counts.reports_dropped == 0


async def test_reports_that_are_too_many_are_dropped_and_counted(service: Running) -> None:
    for number in range(1500):
        service.access.refused(ALICE, Question(MUTE, "a", f"p{number}"), "no")
    assert service.access.counts.reports_dropped == 500
    await until(lambda: service.access.counts.reports_sent == 1000)


async def test_reports_that_nobody_takes_are_dropped_and_counted(service: Running) -> None:
    await service.peer.stop()
    service.access.refused(ALICE, ROOM, "no")
    await until(lambda: service.access.counts.reports_dropped == 1)


def issue(service: Running, room: str = "a", bounds: PublishBounds | None = None) -> Any:
    grants = access_pb2.Grants(room="a", room_join=True)
    operation = TrackOperation.TRACK_OPERATION_PUBLISH
    return service.access.issue(ALICE, room, "alice", operation, grants, bounds, Duration(seconds=60))


async def test_the_service_may_issue_tokens_and_need_not(service: Running) -> None:
    assert await issue(service) is None
    service.peer.fails.clear()
    service.peer.issued = pb.IssueTrackTokenResponse(
        decision=pb.DECISION_ALLOWED, token="made there", obligations=PublishBounds(max_width=10)
    )
    bounds = PublishBounds(max_width=100)
    assert await issue(service, bounds=bounds) == service.peer.issued
    asked = service.peer.issues[-1]
    assert (asked.principal, asked.room, asked.participant_identity) == (ALICE.message, "a", "alice")
    assert (asked.operation, asked.bounds, asked.ttl.seconds) == (TrackOperation.TRACK_OPERATION_PUBLISH, bounds, 60)
    assert asked.grants == access_pb2.Grants(room="a", room_join=True)


async def test_a_token_is_not_issued_where_the_service_says_so_or_says_nothing_of_sense(service: Running) -> None:
    service.peer.fails.clear()
    service.peer.issued = pb.IssueTrackTokenResponse(decision=pb.DECISION_DENIED, reason="no tokens today")
    with pytest.raises(PermissionDenied, match="no tokens today"):
        await issue(service)
    for lie in (
        pb.IssueTrackTokenResponse(token="x"),
        pb.IssueTrackTokenResponse(decision=pb.DECISION_ALLOWED, obligations=PublishBounds(max_width=-1)),
    ):
        service.peer.issued = lie
        with pytest.raises(MalformedAnswer):
            await issue(service)
    service.peer.fails["IssueTrackToken"] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(PermissionServiceUnavailable):
        await issue(service)
    calls = len(service.peer.calls)
    with pytest.raises(PermissionDenied):
        await issue(service, room="b")
    assert len(service.peer.calls) == calls


@pytest.mark.parametrize(("sent", "taken"), [("right", True), ("wrong", False), ("", False)])
async def test_the_bearer_must_be_the_services(sent: str, taken: bool) -> None:
    async with (
        PermissionPeer(token="right") as peer,
        running(peer, permission_token=sent, connected=taken) as service,
    ):
        if taken:
            await service.ask(ROOM)
        else:
            assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
            assert not service.access.connected
            assert not await service.access.answering()
            assert peer.questions == []


async def test_tls_both_ways_and_certificates_that_are_exchanged(tmp_path: Any) -> None:
    first, second = Authority(tmp_path / "first"), Authority(tmp_path / "second")
    ours = first.issue("track-server")
    async with PermissionPeer(credentials=first.server_credentials("127.0.0.1")) as peer:
        tls: dict[str, Any] = {
            "permission_tls_ca": first.ca,
            "permission_tls_cert": ours.cert,
            "permission_tls_key": ours.key,
        }
        async with running(peer, **tls) as service:
            await service.ask(ROOM)
            # The service comes back under another authority, and knows the old certificates no more.
            await peer.stop()
            await until(lambda: not service.access.connected)
            peer.credentials = second.server_credentials("127.0.0.1")
            await peer.start()
            assert isinstance(await service.fails(Question(READ, "b"), SERVICE), PermissionServiceUnavailable)
            theirs = second.issue("track-server")
            for path, new in ((first.ca, second.ca), (ours.cert, theirs.cert), (ours.key, theirs.key)):
                path.write_bytes(new.read_bytes())
            await until(lambda: service.access.connected)
            await service.ask(Question(READ, "b"), SERVICE)


@pytest.mark.parametrize("fault", ["no certificate", "another authority", "another name", "no tls"])
async def test_without_the_right_certificates_there_is_no_answer(tmp_path: Any, fault: str) -> None:
    authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other")
    shown = authority.server_credentials("elsewhere.example" if fault == "another name" else "127.0.0.1")
    ours = (other if fault == "another authority" else authority).issue("track-server")
    tls: dict[str, Any] = {"permission_tls_ca": authority.ca}
    if fault != "no certificate":
        tls |= {"permission_tls_cert": ours.cert, "permission_tls_key": ours.key}
    if fault == "no tls":
        tls = {}
    async with (
        PermissionPeer(credentials=shown) as peer,
        running(peer, connected=False, timeout_s=1, **tls) as service,
    ):
        assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
        assert peer.calls == []


def test_without_tls_the_service_must_be_on_this_machine() -> None:
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_CA"):
        settings("permissions.example:50052")
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_KEY"):
        settings("127.0.0.1:1", permission_tls_ca="ca.pem", permission_tls_cert="cert.pem")
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_CA"):
        settings("127.0.0.1:1", permission_tls_cert="cert.pem", permission_tls_key="key.pem")
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TOKEN"):
        settings("127.0.0.1:1", permission_token="schlüssel")
    settings("permissions.example:50052", permission_tls_ca="ca.pem")


async def test_certificates_that_cannot_be_read_end_the_start(tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_CA"):
        async with Connection(settings("127.0.0.1:1", permission_tls_ca=tmp_path / "none.pem")):
            pass
    authority = Authority(tmp_path / "authority")
    ours, other = authority.issue("ours"), authority.issue("other")
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("no certificate")
    for ca, cert, key, says in (
        (no_pem, ours.cert, ours.key, "TRACK_PERMISSION_TLS_CA: .* has no certificate in PEM"),
        (authority.ca, no_pem, ours.key, "TRACK_PERMISSION_TLS_CERT: .* has no certificate in PEM"),
        (authority.ca, ours.cert, no_pem, "TRACK_PERMISSION_TLS_KEY: .* has no private key in PEM"),
        (authority.ca, ours.cert, other.key, "TRACK_PERMISSION_TLS_KEY: .* is not the private key of the certificate"),
    ):
        given = settings("127.0.0.1:1", permission_tls_ca=ca, permission_tls_cert=cert, permission_tls_key=key)
        with pytest.raises(SettingsError, match=says):
            async with Connection(given):
                pass


async def test_half_exchanged_certificates_leave_the_connection_as_it_is(tmp_path: Any) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.issue("ours"), authority.issue("theirs")
    given = settings(
        "127.0.0.1:1", permission_tls_ca=authority.ca, permission_tls_cert=ours.cert, permission_tls_key=ours.key
    )
    async with Connection(given) as connection:
        before = connection.channel
        ours.cert.write_bytes(theirs.cert.read_bytes())
        await connection.renew()
        assert connection.channel is before
        ours.key.write_bytes(theirs.key.read_bytes())
        await connection.renew()
        assert connection.channel is not before
