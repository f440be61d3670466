"""Companions as the service sees them: none, slow, broken, gone; over a real LiveKit."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import participant
from track.control.v1 import control_pb2 as control
from track_server.control.commands import Target
from track_server.control.companion import METHOD, Companion
from track_server.control.signing import ControlKey
from track_server.deadline import Deadline
from track_server.errors import CompanionFailed, CompanionMissing, LiveKitUnavailable, TrackError
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint

DONE = control.COMMAND_STATUS_DONE


@pytest_asyncio.fixture
async def companion(livekit: LiveKitProcess) -> AsyncIterator[Companion]:
    """The service's side."""
    async with LiveKitApi(livekit.http_url, TokenMint(livekit.api_key, livekit.api_secret)) as api:
        yield Companion(api, ControlKey(bytes(32)))


@pytest_asyncio.fixture
async def alice(livekit: LiveKitProcess, room_name: str) -> AsyncIterator[rtc.Room]:
    """A participant without a companion."""
    async with existing_room(livekit, room_name), participant(livekit, room_name, "alice") as joined:
        yield joined


def target_of(joined: rtc.Room) -> Target:
    """Its connection."""
    return Target(joined.name, "alice", joined.local_participant.sid)


def soon() -> Deadline:
    """Long enough."""
    return Deadline.after(20)


async def test_a_client_without_one_is_known_at_once_and_asked_again(companion: Companion, alice: rtc.Room) -> None:
    assert not await companion.has_companion(target_of(alice))
    with pytest.raises(CompanionMissing):
        await companion.stats(target_of(alice), [], soon())
    calls = []

    async def answer(call: rtc.RpcInvocationData) -> str:
        calls.append(call)
        return '{"status": "COMMAND_STATUS_DONE", "result": {"capabilities": {"companion": "test/1"}}}'

    alice.local_participant.register_rpc_method(METHOD, answer)
    assert await companion.has_companion(target_of(alice))
    assert (await companion.capabilities(target_of(alice))).companion == "test/1"
    assert len(calls) == 1


async def test_nobody_there_is_unavailable(companion: Companion, alice: rtc.Room) -> None:
    with pytest.raises(LiveKitUnavailable):
        await companion.capabilities(Target(alice.name, "nobody", "PA_1"), Deadline.after(30))


async def test_what_was_accepted_is_followed_until_it_is_done(companion: Companion, alice: rtc.Room) -> None:
    asked: list[str] = []

    async def answer(call: rtc.RpcInvocationData) -> str:
        command = json.loads(json.loads(call.payload)["command"])
        asked.append(command["commandId"] if "publish" in command else command["getResult"]["commandId"])
        status = "DONE" if len(asked) > 3 else "ACCEPTED"
        return json.dumps(
            {"commandId": asked[-1], "status": f"COMMAND_STATUS_{status}", "result": {"trackSid": "TR_1"}}
        )

    alice.local_participant.register_rpc_method(METHOD, answer)
    heard: list[int] = []

    async def hear(reply: control.Reply) -> None:
        heard.append(reply.status)

    reply = await companion.publish(target_of(alice), control.Publish(), soon(), hear)
    assert (reply.status, reply.result.track_sid) == (DONE, "TR_1")
    assert len(set(asked)) == 1
    assert heard == [control.COMMAND_STATUS_ACCEPTED] * 3 + [DONE]


async def test_at_the_deadline_it_stays_asked(companion: Companion, alice: rtc.Room) -> None:
    async def accept(call: rtc.RpcInvocationData) -> str:
        return '{"status": "COMMAND_STATUS_ACCEPTED"}'

    alice.local_participant.register_rpc_method(METHOD, accept)
    reply = await companion.publish(target_of(alice), control.Publish(), Deadline.after(1.5))
    assert reply.status == control.COMMAND_STATUS_ACCEPTED


async def test_one_that_does_not_answer_holds_nobody_up(companion: Companion, alice: rtc.Room) -> None:
    async def sleep(call: rtc.RpcInvocationData) -> str:
        await asyncio.sleep(30)
        return ""

    alice.local_participant.register_rpc_method(METHOD, sleep)
    reply = await companion.publish(target_of(alice), control.Publish(), Deadline.after(1.0))
    assert reply.status == control.COMMAND_STATUS_UNSPECIFIED


@pytest.mark.parametrize("answer", ["", "nonsense", '{"status": "COMMAND_STATUS_FORGED"}', "raise"])
async def test_one_that_is_broken_fails(companion: Companion, alice: rtc.Room, answer: str) -> None:
    async def broken(call: rtc.RpcInvocationData) -> str:
        if answer == "raise":
            raise rtc.RpcError(1234, "broken")
        return answer

    alice.local_participant.register_rpc_method(METHOD, broken)
    with pytest.raises(CompanionFailed) as caught:
        await companion.unpublish(target_of(alice), "TR_1", soon())
    assert isinstance(caught.value, TrackError)
