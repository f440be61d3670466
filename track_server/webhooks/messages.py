"""What is sent to a receiver: messages of a room's stream as webhooks. Pure."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import json_format

from track.v1 import event_pb2, webhook_pb2
from track_server.rooms.log import Message
from track_server.webhooks.subscription import Subscription

GAP: Final = "gap"


def parts(
    subscription: Subscription, room: str, message: Message, *, after_end: bool
) -> list[event_pb2.RoomEvent | None]:
    """What is sent of that message of the room, in order: events that are selected, and None for a gap.

    A snapshot is a gap: events before it may be missing, also of a room that is empty, where somebody may have come and
    gone. ``after_end``: the room began anew with it. Then what is in it came since, and is told as if it had been seen.
    """
    event, snapshot = message.event, message.snapshot
    if event is not None:
        return [event] if subscription.selects(room, event) else []
    if snapshot is None or not after_end:
        return [None]
    return [None, *(found for found in _arrivals(snapshot) if subscription.selects(room, found))]


def _arrivals(snapshot: event_pb2.RoomSnapshot) -> Iterator[event_pb2.RoomEvent]:
    """The room, and who and what came into it, before the snapshot of one that is new."""
    time = snapshot.freshness.as_of_time
    yield event_pb2.RoomEvent(time=time, room_updated=snapshot.state)
    for participant in snapshot.participants:
        yield event_pb2.RoomEvent(time=time, participant_joined=participant)
    for track in snapshot.tracks:
        yield event_pb2.RoomEvent(time=time, track_published=track)


def webhook_of(
    subscription_id: str, room: str, message: Message, part: event_pb2.RoomEvent | None, number: int
) -> webhook_pb2.WebhookEvent:
    """The webhook of a part of that message. ``number``: of the part, from 0."""
    if part is None:
        reason = message.snapshot.reason if message.snapshot is not None else event_pb2.SNAPSHOT_REASON_UNSPECIFIED
        return gap_of(subscription_id, room, message.text, reason)
    return webhook_pb2.WebhookEvent(
        id=_id(subscription_id, room, f"{message.text} {number}"),
        subscription_id=subscription_id,
        room_name=room,
        cursor=message.text,
        room_event=part,
        event=part.WhichOneof("change") or "",
    )


def gap_of(
    subscription_id: str, room: str, cursor: str, reason: "event_pb2.SnapshotReason.ValueType"
) -> webhook_pb2.WebhookEvent:
    """The webhook that says that events may be missing after those that were sent."""
    return webhook_pb2.WebhookEvent(
        id=_id(subscription_id, room, f"{cursor} gap"),
        subscription_id=subscription_id,
        room_name=room,
        cursor=cursor,
        gap=reason,
        event=GAP,
    )


def body_of(webhook: webhook_pb2.WebhookEvent) -> bytes:
    """The body of the request: JSON. Raises ValueError where the event has what JSON cannot have."""
    try:
        fields: dict[str, Any] = json_format.MessageToDict(webhook)
    except json_format.SerializeToJsonError as error:
        raise ValueError(str(error)) from error
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _id(subscription_id: str, room: str, what: str) -> str:
    """The same at every try, also after a restart of the server."""
    named = f"{subscription_id} {what} {room}".encode()
    return f"WHE_{hashlib.blake2b(named, digest_size=10).hexdigest()}"
