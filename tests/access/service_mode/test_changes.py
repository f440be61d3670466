"""Changes that the permission service tells of, and the states of its that questions name."""

import asyncio

import grpc
import pytest

from tests.access.service_mode.service import ALICE, MUTE, READ, ROOM, Running, running, until
from tests.permission_peer import PermissionPeer, allowed, denied
from track.permission.v1 import permission_service_pb2 as pb
from track_server.access.question import EVERYTHING, Question, Touch
from track_server.errors import PermissionDenied, PermissionServiceUnavailable


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
