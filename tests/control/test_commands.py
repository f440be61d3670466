"""Commands: for whom they are, how long they are good, and how they travel."""

import json
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf import json_format

from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2 as pb
from track_server.control.commands import (
    MAX_PAYLOAD_BYTES,
    VALID_NS,
    Action,
    Target,
    command,
    payload,
    plan_of,
    reply_of,
)
from track_server.control.companion import consent_of, failure_of
from track_server.control.signing import PREFIX, ControlKey
from track_server.errors import CompanionFailed, ConsentRefused, InvalidOptions, LiveKitUnavailable, NotSupported

KEY = ControlKey(bytes(32))
TARGET = Target("room", "alice", "PA_1")
NOW_NS = 1_700_000_000_123_456_789


def test_a_command_is_for_one_connection_and_a_short_while() -> None:
    text = command(TARGET, control.GetStats(), NOW_NS)
    made = json_format.Parse(text.text, control.Command())
    assert made.command_id == text.command_id
    assert (made.room, made.participant_identity, made.participant_sid) == ("room", "alice", "PA_1")
    assert made.issue_time.ToNanoseconds() == NOW_NS
    assert made.expire_time.ToNanoseconds() == NOW_NS + VALID_NS
    assert made.command_id != command(TARGET, control.GetStats(), NOW_NS).command_id


@pytest.mark.parametrize("action", get_args(Action))
def test_every_action_has_its_place_also_without_fields(action: type[Action]) -> None:
    made = command(TARGET, action(), NOW_NS)
    signed = json_format.Parse(payload(made, KEY), control.SignedCommand())
    assert signed.command == made.text
    read = json_format.Parse(signed.command, control.Command())
    field = read.WhichOneof("action")
    assert field is not None
    assert getattr(read, field).DESCRIPTOR.full_name == action.DESCRIPTOR.full_name
    assert json.loads(signed.command)[next(iter(json.loads(signed.command).keys() - _FIXED))] == {}


@pytest.mark.parametrize("room", ['a "room"', "\\", "Straße 🎥", "\u2028\x00"])
def test_a_command_says_what_was_meant_and_is_signed_as_it_says_it(room: str) -> None:
    mute = control.SetMuted(track_sid="TR_1", muted=True)
    signed = json_format.Parse(payload(command(Target(room, "bob", ""), mute, NOW_NS), KEY), control.SignedCommand())
    expected = control.Command(room=room, participant_identity="bob", set_muted=mute)
    expected.issue_time.FromNanoseconds(NOW_NS)
    expected.expire_time.FromNanoseconds(NOW_NS + VALID_NS)
    made = json_format.Parse(signed.command, control.Command())
    expected.command_id = made.command_id
    assert made == expected
    public_key = Ed25519PublicKey.from_public_bytes(KEY.public.public_key)
    public_key.verify(signed.signature, PREFIX + signed.command.encode())


_FIXED = {"commandId", "room", "participantIdentity", "participantSid", "issueTime", "expireTime"}


def test_every_action_of_the_contract_can_be_asked_for() -> None:
    fields = control.Command.DESCRIPTOR.oneofs_by_name["action"].fields
    assert {action.DESCRIPTOR.full_name for action in get_args(Action)} == {
        field.message_type.full_name for field in fields if field.message_type is not None
    }


def test_what_livekit_does_not_carry_is_refused_before_it_is_sent() -> None:
    stats = control.GetStats(track_sids=["TR_" + "x" * 20] * (MAX_PAYLOAD_BYTES // 20))
    with pytest.raises(InvalidOptions, match="longer"):
        payload(command(TARGET, stats, NOW_NS), KEY)


def test_metadata_stays_with_the_service() -> None:
    publication = pb.Publication(publication_id="PUB_1", muted=True, spec=pb.PublicationSpec(name="front"))
    publication.spec.metadata.update({"role": "x" * 16_000})
    plan = plan_of(publication, publication.spec, restored=True)
    assert (plan.publication_id, plan.spec.name, plan.muted, plan.restored) == ("PUB_1", "front", True, True)
    assert not plan.spec.HasField("metadata")
    assert publication.spec.HasField("metadata")


def test_what_a_newer_companion_adds_is_left_out_and_what_is_no_reply_is_told() -> None:
    assert reply_of('{"status": "COMMAND_STATUS_DONE", "news": 1}').status == control.COMMAND_STATUS_DONE
    for text in ("", "{", "[]", '{"status": {}}'):
        with pytest.raises(ValueError, match=r".*"):
            reply_of(text)


@pytest.mark.parametrize("reply", ['{"status": 77}', '{"status": 2, "consent": 77}', "[" * 7000])
def test_what_is_not_in_the_contract_is_no_reply(reply: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        reply_of(reply)


@pytest.mark.parametrize("sid", ["TR_" + "x" * 100, "PA_abc", "TR_\\n", "DTR_abc"])
def test_a_sid_that_is_no_tracks_is_no_reply(sid: str) -> None:
    with pytest.raises(ValueError, match="SID"):
        reply_of(f'{{"status": 2, "result": {{"trackSid": "{sid}"}}}}')


@pytest.mark.parametrize("gap", ['"NaN"', '"Infinity"', "-1"])
def test_a_gap_that_is_no_length_of_time_is_not_told(gap: str) -> None:
    assert not reply_of(f'{{"status": 2, "result": {{"gapMs": {gap}}}}}').result.HasField("gap_ms")


def test_what_a_client_says_is_told_on_one_printable_line() -> None:
    error = failure_of(control.Reply(status=control.COMMAND_STATUS_FAILED, detail="\x1b[31mred\n\u202edne"))
    assert error.message.isprintable()


def test_every_status_is_an_error_or_progress() -> None:
    expected = {
        control.COMMAND_STATUS_REFUSED: ConsentRefused,
        control.COMMAND_STATUS_NO_ANSWER: ConsentRefused,
        control.COMMAND_STATUS_UNSUPPORTED: NotSupported,
        control.COMMAND_STATUS_NOT_FOR_US: LiveKitUnavailable,
    }
    for status in list(control.CommandStatus.values())[3:]:
        error = failure_of(control.Reply(status=status, detail="why\nnot" + "!" * 1000))
        assert type(error) is expected.get(status, CompanionFailed)
        assert "\n" not in error.message
        assert len(error.message) < 400


def test_refused_and_no_answer_are_told_apart() -> None:
    refused, silent = (
        failure_of(control.Reply(status=status))
        for status in (control.COMMAND_STATUS_REFUSED, control.COMMAND_STATUS_NO_ANSWER)
    )
    assert consent_of(refused) == pb.CONSENT_REFUSED
    assert consent_of(silent) == pb.CONSENT_NO_ANSWER
    assert consent_of(CompanionFailed("no")) == pb.CONSENT_UNSPECIFIED
