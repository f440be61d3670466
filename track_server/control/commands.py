"""What is said to a companion: commands for one connection of one participant, signed, as proto JSON. Pure."""

import base64
import json
import math
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf import json_format, timestamp_pb2
from google.protobuf.message import Message

from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2
from track_server.control.signing import ControlKey
from track_server.errors import InvalidOptions

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
    field.message_type: field.name for field in control.Command.DESCRIPTOR.oneofs_by_name["action"].fields
}


@dataclass(frozen=True, slots=True)
class Target:
    """One connection of one participant: ``sid`` is the participant's."""

    room: str
    identity: str
    sid: str


def command(target: Target, action: Action, now_ns: int, command_id: str = "") -> control.Command:
    """A command with an id of its own, or that given; ``now_ns``: nanoseconds since 1970 UTC."""
    issue, expire = timestamp_pb2.Timestamp(), timestamp_pb2.Timestamp()
    issue.FromNanoseconds(now_ns)
    expire.FromNanoseconds(now_ns + VALID_NS)
    made = control.Command(
        command_id=command_id or f"CMD_{secrets.token_hex(12)}",
        room=target.room,
        participant_identity=target.identity,
        participant_sid=target.sid,
        issue_time=issue,
        expire_time=expire,
    )
    field: Message = getattr(made, _FIELDS[action.DESCRIPTOR])
    field.CopyFrom(action)
    # One without fields is set all the same.
    field.SetInParent()
    return made


def payload(made: control.Command, key: ControlKey) -> str:
    """The command as it travels. Raises InvalidOptions where it is longer than LiveKit takes."""
    text = _compact(json_format.MessageToDict(made))
    signature = base64.b64encode(key.sign(text)).decode()
    # A SignedCommand. Written by hand: this is done for every call to a client.
    result = _compact({"command": text, "keyId": key.public.key_id, "signature": signature})
    if len(result.encode()) > MAX_PAYLOAD_BYTES:
        raise InvalidOptions(f"what is to be said to the client is longer than {MAX_PAYLOAD_BYTES} bytes")
    return result


def reply_of(text: str) -> control.Reply:
    """The companion's answer. Raises ValueError where it is none. Fields of a newer companion are left out, and so is
    a gap that is no length of time."""
    try:
        reply = json_format.Parse(text, control.Reply(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error
    if not reply.status or reply.status not in control.CommandStatus.values():
        raise ValueError("it has no status that is known here")
    if reply.consent not in publication_pb2.Consent.values():
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


def _compact(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
