"""Whom the Python companion obeys: the service only, each command once."""

import asyncio
import contextlib
import logging
import time

import pytest
from google.protobuf import json_format
from livekit import rtc

import track_control
from tests.clients.apps import attached
from tests.clients.commands import DEADLINE_S, DONE, PLAN, own_tracks
from tests.clients.service import KEY, METHOD, Service, target_of
from tests.livekit_process import LiveKitProcess
from tests.participants import Joined, participant
from track.control.v1 import control_pb2 as control
from track_server.control.commands import CommandText, Target, command, payload
from track_server.control.signing import ControlKey


async def test_a_command_with_another_key_or_none_or_altered_is_forged(sender: Service, alice: Joined) -> None:
    target = target_of(alice)
    signed = control.SignedCommand()
    json_format.Parse(payload(command(target, PLAN, time.time_ns()), KEY), signed)
    altered, bare, other = control.SignedCommand(), control.SignedCommand(), ControlKey(bytes(32))
    altered.CopyFrom(signed)
    altered.command = altered.command.replace("PUB_1", "PUB_2")
    bare.command = signed.command
    async with attached(alice):
        forged = [json_format.MessageToJson(one) for one in (altered, bare)]
        forged.append(payload(command(target, PLAN, time.time_ns()), other))
        for text in forged:
            assert (await sender.send(target, text)).status == control.COMMAND_STATUS_FORGED
        assert not own_tracks(alice)


async def test_a_command_for_another_room_participant_or_connection_is_refused(sender: Service, alice: Joined) -> None:
    me = target_of(alice)
    async with attached(alice):
        for other in (
            Target("elsewhere", me.identity, me.sid),
            Target(me.room, "bob", me.sid),
            Target(me.room, me.identity, "PA_before"),
        ):
            reply = await sender.send(me, payload(command(other, PLAN, time.time_ns()), KEY))
            assert reply.status == control.COMMAND_STATUS_NOT_FOR_US
        assert not own_tracks(alice)


async def test_a_command_is_refused_after_its_expiry_and_from_the_future(sender: Service, alice: Joined) -> None:
    me = target_of(alice)
    async with attached(alice):
        for off_s, status in ((-300, control.COMMAND_STATUS_EXPIRED), (300, control.COMMAND_STATUS_EXPIRED)):
            made = command(me, control.GetCapabilities(), time.time_ns() + off_s * 10**9)
            assert (await sender.send(me, payload(made, KEY))).status == status
        # Clocks may differ by 30 s.
        for off_s in (-50, 20):
            made = command(me, control.GetCapabilities(), time.time_ns() + off_s * 10**9)
            assert (await sender.send(me, payload(made, KEY))).status == DONE


async def test_a_command_is_done_once_however_often_it_comes(sender: Service, alice: Joined) -> None:
    me = target_of(alice)
    opened = []

    async def open_camera(_: object) -> rtc.VideoSource:
        opened.append(1)
        return rtc.VideoSource(320, 180)

    async with attached(alice, devices={"CAMERA": open_camera}):
        text = payload(command(me, PLAN, time.time_ns()), KEY)
        replies = await asyncio.gather(*(sender.send(me, text) for _ in range(5)))
        assert {reply.command_id for reply in replies} == {replies[0].command_id}
        first = await sender.done(alice, control.GetResult(command_id=replies[0].command_id))
        # Another command for the same publication finds it published.
        again = await sender.done(alice, PLAN)
        assert first.result.track_sid == again.result.track_sid
        assert own_tracks(alice) == [first.result.track_sid]
        assert len(opened) == 1


async def test_an_id_that_comes_with_other_contents_is_a_replay(sender: Service, alice: Joined) -> None:
    me = target_of(alice)
    async with attached(alice):
        first = command(me, control.GetCapabilities(), time.time_ns())
        second = command(me, PLAN, time.time_ns(), first.command_id)
        assert (await sender.send(me, payload(first, KEY))).status == DONE
        assert (await sender.send(me, payload(second, KEY))).status == control.COMMAND_STATUS_REPLAYED
        assert not own_tracks(alice)


async def test_a_command_that_comes_again_to_a_companion_attached_anew_is_not_done_again(
    sender: Service, alice: Joined
) -> None:
    me = target_of(alice)
    text = payload(command(me, PLAN, time.time_ns()), KEY)
    async with attached(alice):
        assert (await sender.send(me, text)).status == DONE
        await sender.done(alice, control.Unpublish(publication_id=PLAN.publication_id))
    async with attached(alice):
        assert (await sender.send(me, text)).status == DONE
        assert not own_tracks(alice)


@pytest.mark.parametrize("signed", [True, False])
async def test_participants_visible_or_hidden_are_not_obeyed(
    livekit: LiveKitProcess,
    room: str,
    sender: Service,
    alice: Joined,
    caplog: pytest.LogCaptureFixture,
    signed: bool,
) -> None:
    made = command(target_of(alice), PLAN, time.time_ns())
    text = json_format.MessageToJson(control.SignedCommand(command=made.text))
    async with (
        participant(livekit, room, "mallory", can_publish_data=True) as visible,
        participant(livekit, room, "ghost", can_publish_data=True, hidden=True) as hidden,
        attached(alice, KEY.public.public_key if signed else None, unsigned=not signed),
    ):
        async with asyncio.timeout(DEADLINE_S):  # a newcomer is signalled a while after it could call
            while "mallory" not in alice.remote_participants:
                await asyncio.sleep(0.05)
        answer = await visible.local_participant.perform_rpc(
            destination_identity="alice", method=METHOD, payload=text, response_timeout=30
        )
        assert json_format.Parse(answer, control.Reply()).status == control.COMMAND_STATUS_FORGED
        refused = caplog.text.count("was refused")
        with contextlib.suppress(rtc.RpcError):  # LiveKit does not bring a hidden one the answer
            await hidden.local_participant.perform_rpc(
                destination_identity="alice", method=METHOD, payload=text, response_timeout=3
            )
        async with asyncio.timeout(DEADLINE_S):
            while caplog.text.count("was refused") == refused:
                await asyncio.sleep(0.05)
        assert not own_tracks(alice)
        # The service itself is no participant.
        assert (await sender.ask(alice, control.GetCapabilities())).result.capabilities.signed == signed


async def test_a_captured_command_does_nothing_a_second_time(
    livekit: LiveKitProcess, room: str, sender: Service, alice: Joined
) -> None:
    me = target_of(alice)
    async with participant(livekit, room, "mallory", can_publish_data=True) as mallory, attached(alice):
        published = await sender.done(alice, PLAN)
        captured = payload(command(me, control.Unpublish(publication_id="PUB_1"), time.time_ns()), KEY)
        assert (await sender.finished(alice, await sender.send(me, captured))).status == DONE
        again = await sender.done(alice, PLAN)
        await mallory.local_participant.perform_rpc(
            destination_identity="alice", method=METHOD, payload=captured, response_timeout=30
        )
        assert own_tracks(alice) == [again.result.track_sid]
        assert again.result.track_sid != published.result.track_sid


async def test_unsigned_must_be_asked_for_and_warns(alice: Joined, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="public_key"):
        track_control.attach_track_control(alice)
    with pytest.raises(ValueError, match="public_key"):
        track_control.attach_track_control(alice, public_key=KEY.public.public_key, unsigned=True)
    with caplog.at_level(logging.WARNING, "track_control"):
        async with attached(alice, public_key=None, unsigned=True):
            pass
    assert "unsigned" in caplog.text


async def test_what_is_no_command_is_invalid(sender: Service, alice: Joined) -> None:
    me = target_of(alice)
    texts = ["", "{", "[]", "null", '"x"', "{}", '{"command": 7}', "[" * 5000]
    texts += [payload(CommandText("", text), KEY) for text in ('{"commandId": "x"}', "{}")]
    async with attached(alice):
        for text in texts:
            assert (await sender.send(me, text)).status == control.COMMAND_STATUS_INVALID, text[:50]
        made = command(me, control.GetCapabilities(), time.time_ns())
        unknown = CommandText(made.command_id, made.text.replace("getCapabilities", "getNews"))
        assert (await sender.send(me, payload(unknown, KEY))).status == control.COMMAND_STATUS_UNSUPPORTED
        missing = control.GetResult(command_id="CMD_never")
        assert (await sender.ask(alice, missing)).status == control.COMMAND_STATUS_NOT_FOUND
