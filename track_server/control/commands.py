"""What is said to a companion: commands for one connection of one participant, signed, as proto JSON. Pure."""

import base64
import math
import re
import secrets
import time
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson
from google.protobuf import json_format

from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2
from track_server.control.signing import ControlKey
from track_server.errors import InvalidOptions
from track_server.protojson import ProtoJsonReader

MAX_PAYLOAD_BYTES: Final = 15 * 1024
"""The most that LiveKit takes in a call of its RPC, each way."""
VALID_NS: Final = 30_000_000_000
"""How long a command may be on its way. A companion allows for clocks that differ by another 30 s."""

Action: TypeAlias = (
    control.Publish
    | control.Unpublish
    | control.Update
    | control.SetMuted
    | control.SetReceived
    | control.GetStats
    | control.Restart
    | control.GetCapabilities
    | control.GetResult
    | control.ReportState
)

# What a client says is kept with the publication: nothing but the SID of a track, which has 15 characters.
_SID: Final = re.compile(r"TR_[A-Za-z0-9_]{1,61}")

_FIELDS: Final = {
    field.message_type: field.camelcase_name for field in control.Command.DESCRIPTOR.oneofs_by_name["action"].fields
}
_REPLY: Final = ProtoJsonReader(control.Reply)
_STATUSES: Final = frozenset(control.CommandStatus.values()) - {control.COMMAND_STATUS_UNSPECIFIED}
_CONSENTS: Final = frozenset(publication_pb2.Consent.values())


@dataclass(frozen=True, slots=True)
class Target:
    """One connection of one participant: ``sid`` is the participant's."""

    room: str
    identity: str
    sid: str


@dataclass(frozen=True, slots=True)
class CommandText:
    """A command as it is signed: ``text`` is a Command in proto JSON, ``command_id`` its id."""

    command_id: str
    text: str


def command(target: Target, action: Action, now_ns: int, command_id: str = "") -> CommandText:
    """A command with an id of its own, or that given; ``now_ns``: nanoseconds since 1970 UTC."""
    made = command_id or f"CMD_{secrets.token_hex(12)}"
    # Written by hand, as the SignedCommand below: this is done for every call to a client.
    fields = {
        "commandId": made,
        "room": target.room,
        "participantIdentity": target.identity,
        "participantSid": target.sid,
        "issueTime": _time(now_ns),
        "expireTime": _time(now_ns + VALID_NS),
        # json_format takes its time for a question without fields, too.
        _FIELDS[action.DESCRIPTOR]: json_format.MessageToDict(action) if action.ByteSize() else {},
    }
    return CommandText(made, orjson.dumps(fields).decode())


def payload(made: CommandText, key: ControlKey) -> str:
    """The command as it travels. Raises InvalidOptions where it is longer than LiveKit takes."""
    signature = base64.b64encode(key.sign(made.text)).decode()
    signed = orjson.dumps({"command": made.text, "keyId": key.public.key_id, "signature": signature})
    if len(signed) > MAX_PAYLOAD_BYTES:
        raise InvalidOptions(f"what is to be said to the client is longer than {MAX_PAYLOAD_BYTES} bytes")
    return signed.decode()


def reply_of(text: str) -> control.Reply:
    """The companion's answer. Raises ValueError where it is none. Fields of a newer companion are left out, and so is
    a gap that is no length of time."""
    reply = _REPLY.read(text)
    if reply.status not in _STATUSES:
        raise ValueError("it has no status that is known here")
    if reply.consent not in _CONSENTS:
        raise ValueError("it has a consent that is not known here")
    if reply.result.track_sid and not _SID.fullmatch(reply.result.track_sid):
        raise ValueError("it has a SID that is none")
    if reply.result.HasField("gap_ms") and not (reply.result.gap_ms >= 0 and math.isfinite(reply.result.gap_ms)):
        reply.result.ClearField("gap_ms")
    return reply


def plan_of(
    publication: publication_pb2.Publication, spec: publication_pb2.PublicationSpec, *, restored: bool = False
) -> control.Publish:
    """How a publication is to be published by its participant's client; ``spec``: as it is to be tried now."""
    plan = control.Publish(
        publication_id=publication.publication_id, spec=spec, muted=publication.muted, restored=restored
    )
    plan.spec.ClearField("metadata")
    plan.spec.ClearField("fallback")
    return plan


def _time(at_ns: int) -> str:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
