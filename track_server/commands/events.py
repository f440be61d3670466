"""`track-server events`: prints what happens in rooms, a line an event, and goes on after a broken connection."""

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf import json_format

from track.v1 import event_pb2
from track.v1.track_service_pb2_grpc import TrackServiceStub
from track_server.commands.channel import Server
from track_server.commands.wording import time_of, words_of
from track_server.config import SettingsError
from track_server.durations import duration_of

TOKEN: Final = "TRACK_TOKEN"
"""The environment variable with the caller's LiveKit access token. No flag: a command line can be read by everybody."""

# A connection that is silent for longer than some of these is dead.
_BEAT_S: Final = 15.0
_SILENT_S: Final = 60.0
_PAUSE_FIRST_S: Final = 0.25
_PAUSE_LAST_S: Final = 5.0
_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


def watch(
    server: Server, *, rooms: Sequence[str], kinds: Sequence[str], expression: str, cursor: str, as_json: bool
) -> int:
    """Prints until the rooms close; returns the exit status, 1 where the server refuses. Raises SettingsError.

    What breaks once it has begun is tried again without end, after the cursor of what was printed last, which is
    told on stderr at the end.
    """
    request = event_pb2.WatchEventsRequest(filter=expression, heartbeat_interval=duration_of(_BEAT_S))
    request.kinds.extend(_kind(name) for name in kinds)
    if cursor and len(rooms) > 1:
        raise SettingsError(["--cursor is of one room: give one --room."])
    cursors = dict.fromkeys(rooms, cursor)
    try:
        return asyncio.run(_watch(server, request, cursors, as_json=as_json))
    finally:
        for room, last in cursors.items():
            if last:
                print(f"the last cursor of {room}: {last}", file=sys.stderr)


async def _watch(
    server: Server, request: event_pb2.WatchEventsRequest, cursors: dict[str, str], *, as_json: bool
) -> int:
    """``cursors``: by room, where it is; the rooms that have closed are taken out."""
    token = os.environ.get(TOKEN, "")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    begun, pause_s = False, _PAUSE_FIRST_S
    while True:
        try:
            async with server.aio_channel() as channel:
                stub: Any = TrackServiceStub(channel)
                messages = aiter(stub.WatchEvents(_asked(request, cursors), metadata=metadata))
                while True:
                    async with asyncio.timeout(_SILENT_S):
                        message = await anext(messages, None)
                    if message is None:
                        return 0
                    begun, pause_s = True, _PAUSE_FIRST_S
                    _take(message, cursors, as_json=as_json)
        except grpc.RpcError as error:
            print(f"{server.target}: {error.code().name}: {error.details()}", file=sys.stderr)
            if not begun or error.code() not in _AWAY:
                return 1
        except TimeoutError:
            print(f"{server.target}: silent for {_SILENT_S:g} s", file=sys.stderr)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, _PAUSE_LAST_S)


def _take(message: event_pb2.WatchEventsResponse, cursors: dict[str, str], *, as_json: bool) -> None:
    room = message.room or next(iter(cursors))
    if text := _line(message, as_json=as_json):
        print(text, flush=True)
    cursors[room] = message.cursor
    if message.event.HasField("room_closed") and len(cursors) > 1:
        del cursors[room]


def _asked(request: event_pb2.WatchEventsRequest, cursors: dict[str, str]) -> event_pb2.WatchEventsRequest:
    asked = event_pb2.WatchEventsRequest()
    asked.CopyFrom(request)
    if len(cursors) == 1:
        ((asked.room, asked.cursor),) = cursors.items()
    else:
        asked.rooms.extend(event_pb2.RoomPosition(room=room, cursor=cursor) for room, cursor in cursors.items())
    return asked


def _kind(name: str) -> event_pb2.EventKind.ValueType:
    try:
        return event_pb2.EventKind.Value(f"EVENT_KIND_{name.upper()}")
    except ValueError as error:
        known = [name.removeprefix("EVENT_KIND_").lower() for name in event_pb2.EventKind.keys()[1:]]
        raise SettingsError([f"--kind {name} is none of {', '.join(known)}."]) from error


def _line(message: event_pb2.WatchEventsResponse, *, as_json: bool) -> str:
    """What is printed of a message; empty for heartbeats."""
    payload = message.WhichOneof("payload")
    if payload not in ("snapshot", "event"):
        return ""
    if as_json:
        return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    room = [message.room] if message.room else []
    if payload == "snapshot":
        snapshot = message.snapshot
        reason = event_pb2.SnapshotReason.Name(snapshot.reason).removeprefix("SNAPSHOT_REASON_")
        counts = f"{len(snapshot.participants)} participants, {len(snapshot.tracks)} tracks"
        return " ".join([time_of(time.time()), *room, "snapshot", f"{reason}:", counts])
    event = message.event
    return " ".join([time_of(event.time.ToNanoseconds() / 1e9), *room, *words_of(event)])
