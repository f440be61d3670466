"""Whom the companion in Chromium obeys, and whom it asks first."""

import asyncio
import time
from functools import partial
from typing import Any

import pytest
from google.protobuf import json_format
from livekit import rtc

from tests.clients.browser.app import App, app
from tests.clients.browser.chromium import Chromium
from tests.clients.browser.plans import CAMERA, camera
from tests.clients.service import KEY, METHOD, Service
from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2 as pb
from track_server.control.commands import Action, Target, command, payload
from track_server.control.signing import ControlKey

STATUS = control.CommandStatus
DAY_NS = 86_400_000_000_000


def warned(text: str, counts: dict[str, Any]) -> bool:
    """Whether the console says so."""
    return any(text in warning for warning in counts["warnings"])


# Whom it obeys.


async def test_capabilities_name_what_the_client_can_do(alice: App) -> None:
    await alice.attach(app={"canvas": [320, 180]})
    able = (await alice.done(control.GetCapabilities())).capabilities
    assert able.companion.startswith("browser/")
    assert able.sdk == "livekit-client/2.23.0"
    assert able.signed
    assert set(able.actions) == {field.name for field in control.Command.DESCRIPTOR.oneofs_by_name["action"].fields}
    assert {"vp8", "opus"} <= set(able.send_codecs) & set(able.receive_codecs)
    assert set(able.devices) == set(pb.DeviceKind.values()) - {pb.DEVICE_KIND_UNSPECIFIED}
    assert list(able.app_sources) == ["canvas"]
    assert min(able.screen_width, able.screen_height, able.max_decode_width, able.max_decode_height) > 0
    assert (able.adaptive_stream, able.dynacast) == (False, False)
    assert able.HasField("adaptive_stream")
    assert able.HasField("dynacast")


async def test_forged_foreign_expired_and_replayed_commands_are_refused(alice: App, sender: Service, room: str) -> None:
    await alice.attach()
    now, good = time.time_ns(), alice.target

    async def status(target: Target = good, at: int = now, key: ControlKey = KEY) -> str:
        reply = await sender.send(good, payload(command(target, CAMERA, at), key))
        return STATUS.Name(reply.status).removeprefix("COMMAND_STATUS_")

    assert await status(key=ControlKey(bytes(32))) == "FORGED"
    signed = json_format.Parse(payload(command(good, CAMERA, now), KEY), control.SignedCommand())
    for change in ({"command": signed.command.replace("PUB_1", "PUB_2")}, {"signature": b""}, {"signature": bytes(64)}):
        altered = control.SignedCommand()
        altered.CopyFrom(signed)
        for name, value in change.items():
            setattr(altered, name, value)
        reply = await sender.send(good, json_format.MessageToJson(altered))
        assert reply.status == control.COMMAND_STATUS_FORGED
    for target in (
        Target("another-room", "alice", good.sid),
        Target(room, "bob", good.sid),
        Target(room, "alice", "PA_other"),
    ):
        assert await status(target) == "NOT_FOR_US"
    assert await status(at=now - DAY_NS) == "EXPIRED"
    assert await status(at=now + DAY_NS) == "EXPIRED"
    for nonsense in ("", "null", "[]", "{}", '{"command": 1}', '{"command": "{}", "signature": "?"}'):
        reply = await sender.send(good, nonsense)
        assert reply.status in (control.COMMAND_STATUS_INVALID, control.COMMAND_STATUS_FORGED)
    assert await alice.page.call("publications") == []

    # The same command again does nothing again; its id with other contents is refused.
    first = command(good, CAMERA, now)
    replies = [await sender.send(good, payload(first, KEY)) for _ in range(3)]
    sids = {(await alice.result(reply)).result.track_sid for reply in replies}
    assert len(sids) == len(await alice.page.call("publications")) == 1
    other = command(good, control.Unpublish(track_sid=sids.pop()), now, first.command_id)
    assert (await sender.send(good, payload(other, KEY))).status == control.COMMAND_STATUS_REPLAYED
    assert len(await alice.page.call("publications")) == 1


@pytest.mark.parametrize("hidden", [False, True])
async def test_participants_are_refused_visible_and_hidden_signed_and_unsigned(
    alice: App, livekit: LiveKitProcess, room: str, hidden: bool
) -> None:
    text = payload(command(alice.target, CAMERA, time.time_ns()), ControlKey(bytes(32)))
    async with participant(livekit, room, "mallory", hidden=hidden, can_publish_data=True) as mallory:
        if not hidden:
            await alice.until("others", holds=lambda found: "mallory" in found)
        for key in (KEY.public.public_key, None):
            await alice.attach(key, unsigned=key is None)
            call = mallory.local_participant.perform_rpc(
                destination_identity="alice", method=METHOD, payload=text, response_timeout=30
            )
            if hidden:  # it has no address for the answer
                with pytest.raises(rtc.RpcError):
                    await call
            else:
                assert json_format.Parse(await call, control.Reply()).status == control.COMMAND_STATUS_FORGED
            refused = "not signed with" if key else "a participant called"
            await alice.until("counts", holds=partial(warned, refused))
            await alice.page.call("detach")
    assert await alice.page.call("publications") == []


async def test_unsigned_mode_must_be_asked_for_warns_and_obeys_the_server(alice: App, sender: Service) -> None:
    with pytest.raises(RuntimeError, match="publicKey"):
        await alice.page.call("attach", {})
    for key in ("AAAA", "no base64"):
        with pytest.raises(RuntimeError, match=r"TypeError.* 32 bytes"):
            await alice.page.call("attach", {"publicKey": key})
    with pytest.raises(RuntimeError, match=r"TypeError.*consentTimeoutMs"):
        await alice.page.call("attach", {"unsigned": True, "consentTimeoutMs": -1})
    await alice.attach(None, unsigned=True)
    assert any("unsigned" in warning for warning in (await alice.page.call("counts"))["warnings"])
    made = command(alice.target, control.GetCapabilities(), time.time_ns())
    unsigned = control.SignedCommand(command=made.text)
    reply = await alice.result(await sender.send(alice.target, json_format.MessageToJson(unsigned)))
    assert reply.status == control.COMMAND_STATUS_DONE
    assert not reply.result.capabilities.signed


# Whom it asks.


async def test_a_slow_consent_is_asked_once_and_told_apart_asked_and_granted(alice: App) -> None:
    await alice.attach(consent=True)
    reply = await alice.ask(CAMERA)
    assert (reply.status, reply.consent) == (control.COMMAND_STATUS_ACCEPTED, pb.CONSENT_ASKED)
    # LiveKit would have run a handler that waits for the user three times by now.
    await asyncio.sleep(4)
    assert (await alice.page.call("counts"))["asked"] == [{"action": "publish", "restored": False}]
    assert await alice.page.call("publications") == []
    again = await alice.ask(control.GetResult(command_id=reply.command_id))
    assert (again.status, again.consent) == (control.COMMAND_STATUS_ACCEPTED, pb.CONSENT_ASKED)
    await alice.page.call("answer", True)
    granted = await alice.result(again)
    assert (granted.status, granted.consent) == (control.COMMAND_STATUS_DONE, pb.CONSENT_GRANTED)
    # Muting asks nobody, unmuting does.
    sid = granted.result.track_sid
    await alice.done(control.SetMuted(track_sid=sid, muted=True))
    reply = await alice.ask(control.SetMuted(track_sid=sid))
    await alice.until("counts", holds=lambda counts: len(counts["asked"]) == 2)
    await alice.page.call("answer", False)
    refused = await alice.result(reply)
    assert (refused.status, refused.consent) == (control.COMMAND_STATUS_REFUSED, pb.CONSENT_REFUSED)
    assert (await alice.page.call("publications"))[0]["muted"]


async def test_an_open_question_is_known_however_long_its_user_takes(alice: App, sender: Service) -> None:
    await alice.attach(consent=True, consentTimeoutMs=900_000)
    asked = await alice.ask(CAMERA)
    await alice.page.evaluate("(now => { Date.now = () => now() + 600_000 })(Date.now)")

    async def later(action: Action) -> control.Reply:
        made = command(alice.target, action, time.time_ns() + 600_000_000_000)
        return await sender.send(alice.target, payload(made, KEY))

    await later(control.GetCapabilities())
    reply = await later(control.GetResult(command_id=asked.command_id))
    assert (reply.status, reply.consent) == (control.COMMAND_STATUS_ACCEPTED, pb.CONSENT_ASKED)


async def test_refused_unanswered_and_vetoed_are_told_apart(alice: App) -> None:
    await alice.attach(consent=True, consentTimeoutMs=500)
    silence = await alice.do(CAMERA)
    assert (silence.status, silence.consent) == (control.COMMAND_STATUS_NO_ANSWER, pb.CONSENT_NO_ANSWER)
    await alice.page.call("detach")
    await alice.attach(consent=True)
    reply = await alice.ask(CAMERA)
    await alice.until("counts", holds=lambda counts: len(counts["asked"]) == 2)
    await alice.page.call("answer", False)
    refused = await alice.result(reply)
    assert (refused.status, refused.consent) == (control.COMMAND_STATUS_REFUSED, pb.CONSENT_REFUSED)
    await alice.page.call("veto", "publish", "set_received")
    vetoed = await alice.do(CAMERA)
    assert (vetoed.status, vetoed.consent) == (control.COMMAND_STATUS_REFUSED, pb.CONSENT_REFUSED)
    assert len((await alice.page.call("counts"))["asked"]) == 2  # the user was not asked
    received = control.SetReceived(tracks=[control.ReceivedSettings(track_sid="TR_none")])
    assert (await alice.do(received)).status == control.COMMAND_STATUS_REFUSED
    assert await alice.page.call("publications") == []


@pytest.mark.parametrize(
    ("broken", "status", "consent"),
    [
        ("onConsent", control.COMMAND_STATUS_NO_ANSWER, pb.CONSENT_NO_ANSWER),
        ("veto", control.COMMAND_STATUS_REFUSED, pb.CONSENT_REFUSED),
    ],
)
async def test_a_question_that_breaks_is_no_yes(
    alice: App, broken: str, status: "control.CommandStatus.ValueType", consent: "pb.Consent.ValueType"
) -> None:
    await alice.attach(consent=True, broken=[broken])
    reply = await alice.do(CAMERA)
    assert (reply.status, reply.consent) == (status, consent)
    assert await alice.page.call("publications") == []


async def test_a_no_in_the_browsers_own_dialog_is_a_refusal(alice: App) -> None:
    await alice.attach()
    await alice.page.call("camera", 0, "NotAllowedError")
    reply = await alice.do(CAMERA)
    assert (reply.status, reply.consent) == (control.COMMAND_STATUS_REFUSED, pb.CONSENT_REFUSED)


async def test_another_try_of_what_was_granted_asks_nobody_again(alice: App) -> None:
    await alice.attach(consent=True)
    await alice.page.call("camera", 0, "NotReadableError")
    reply = await alice.ask(CAMERA)
    await alice.page.call("answer", True)
    assert (await alice.result(reply)).status == control.COMMAND_STATUS_FAILED
    await alice.page.call("camera", 0)
    await alice.done(CAMERA)
    assert len((await alice.page.call("counts"))["asked"]) == 1
    # What is published anew, after it was taken away, is another matter.
    await alice.done(control.Unpublish(publication_id="PUB_1"))
    assert (await alice.ask(CAMERA)).consent == pb.CONSENT_ASKED
    await alice.done(control.Unpublish(publication_id="PUB_1"))


async def test_a_question_is_taken_back_when_its_publication_is_unpublished(alice: App) -> None:
    await alice.attach(consent=True)
    reply = await alice.ask(CAMERA)
    await alice.done(control.Unpublish(publication_id="PUB_1"))
    ended = await alice.result(reply)
    assert ended.status == control.COMMAND_STATUS_FAILED
    await alice.page.call("answer", True)
    assert await alice.page.call("publications") == []


async def test_detached_it_obeys_no_more_and_can_be_attached_again(alice: App, sender: Service) -> None:
    await alice.attach()
    text = payload(command(alice.target, CAMERA, time.time_ns()), KEY)
    await sender.send(alice.target, text)
    await alice.done(CAMERA)
    await alice.page.call("detach")
    await alice.page.call("detach")
    with pytest.raises(Exception, match="could not be asked"):
        await alice.ask(control.GetCapabilities())
    (own,) = await alice.page.call("publications")
    await alice.attach()
    with pytest.raises(RuntimeError, match="already registered"):
        await alice.attach()
    await alice.done(control.GetCapabilities())
    # What the one before has published is known to this one.
    assert (await alice.done(CAMERA)).track_sid == own["sid"]
    faster = camera(width=320, height=180, frames_per_second=15)
    assert (await alice.done(control.Update(track_sid=own["sid"], publish=faster))).track_sid == own["sid"]
    await alice.done(control.Unpublish(publication_id="PUB_1"))
    # Nor does a command of before bring it back.
    assert (await sender.send(alice.target, text)).status == control.COMMAND_STATUS_DONE
    assert await alice.page.call("publications") == []
    assert (await alice.do(control.GetResult(command_id="CMD_none"))).status == control.COMMAND_STATUS_NOT_FOUND


async def test_the_rooms_options_are_told(
    chromium: Chromium, livekit: LiveKitProcess, sender: Service, room: str
) -> None:
    async with app(chromium, livekit, sender, room, "bob", adaptiveStream=True, dynacast=True) as bob:
        await bob.attach()
        able = (await bob.done(control.GetCapabilities())).capabilities
        assert (able.adaptive_stream, able.dynacast) == (True, True)
