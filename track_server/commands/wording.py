"""An event as a line of text."""

import time
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from track.v1 import access_pb2, event_pb2
from track.v1.quality_alert_pb2 import QualityEvidence

_LONGEST_TEXT: Final = 60


def words_of(event: event_pb2.RoomEvent) -> list[str]:
    """What happened, to what, and by whom."""
    change = event.WhichOneof("change") or "unknown"
    about: Message = getattr(event, change, event_pb2.RoomEvent())
    return [change, *_words(about), *_cause(event)]


def time_of(seconds: float) -> str:
    """The local time of day of seconds since 1970."""
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds * 1000) % 1000:03}"


def _words(message: Message) -> list[str]:
    """What is said of something: its own fields, and of those within it the kind alone."""
    words = []
    for field, value in message.ListFields():
        if isinstance(value, QualityEvidence) and value.HasField("value"):
            words.append(f"value={value.value:.4g}{value.unit and '_'}{value.unit}")
        if field.name == "room" or field.is_repeated or field.type == FieldDescriptor.TYPE_MESSAGE:
            continue
        words.append(f"{field.name}={_text(field, value)}")
    return words


def _text(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        prefix = f"{field.enum_type.values_by_number[0].name.removesuffix('UNSPECIFIED')}"
        known = field.enum_type.values_by_number.get(value)
        return known.name.removeprefix(prefix) if known is not None else str(value)
    if isinstance(value, bool):
        return str(value).lower()
    # Of what participants say of themselves nothing may reach the terminal as anything but text.
    text = str(value)
    plain = text if text.isprintable() and " " not in text else ascii(text)
    return plain if len(plain) <= _LONGEST_TEXT else f"{plain[:_LONGEST_TEXT]}..."


def _cause(event: event_pb2.RoomEvent) -> list[str]:
    if not event.HasField("cause"):
        return []
    cause = event.cause
    kind = access_pb2.PrincipalKind.Name(cause.principal_kind).removeprefix("PRINCIPAL_KIND_").lower()
    who = f"rule {cause.rule}" if cause.rule else f"{kind} {cause.principal_identity}".strip()
    return [f"(by {ascii(who)[1:-1]}{': ' + ascii(cause.reason) if cause.reason else ''})"]
