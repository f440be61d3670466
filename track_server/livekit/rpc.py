"""Calls of a participant's client, over LiveKit RPC. livekit-api has no call for it."""

import asyncio
import re
from typing import Final

from livekit.api.twirp_client import ServerError
from livekit.protocol import room

from track_server.errors import LiveKitError, LiveKitUnavailable, TrackError
from track_server.livekit.api import LiveKitApi

UNSUPPORTED_METHOD: Final = 1400
"""The client is there and does not know the method."""
CONNECTION_TIMEOUT: Final = 1501
"""The client did not answer within LiveKit's 2 s: it is away, or may not send data."""
RESPONSE_TIMEOUT: Final = 1502
"""The client took the call, and gave no answer in time."""

# Less than the whole call may take. LiveKit's RPC is unsafe below 1 s: it keeps a part of it for the way.
_RESPONSE_TIMEOUT_S: Final = 4.0

# A client that has joined a moment ago: its data channel opens after its transport (livekit-server 1.13.5).
_OPENING: Final = "data channel is not available"
_OPENING_S: Final = 3.0
_OPENING_PAUSE_S: Final = 0.05

_NUMBER: Final = re.compile(r"RpcError (\d{4})\b")


class RpcFailed(LiveKitError):
    """LiveKit's RPC failed; ``number`` is its error code."""

    def __init__(self, number: int) -> None:
        super().__init__("the participant's client could not be asked", metadata={"livekit_rpc_error": str(number)})
        self.number = number


async def perform_rpc(api: LiveKitApi, room_name: str, identity: str, method: str, payload: str) -> str:
    """What the participant's client answers, each way up to 15 KiB.

    Raises RpcFailed, and LiveKitUnavailable, also (after 3 s) for a participant that is not there.
    """
    request = room.PerformRpcRequest(
        room=room_name,
        destination_identity=identity,
        method=method,
        payload=payload,
        response_timeout_ms=round(_RESPONSE_TIMEOUT_S * 1000),
    )
    loop = asyncio.get_running_loop()
    until = loop.time() + _OPENING_S
    while True:
        try:
            answer = await api.ask_room(room_name, "PerformRpc", request, room.PerformRpcResponse)
        except TrackError as error:
            message = str(error.__cause__.message) if isinstance(error.__cause__, ServerError) else ""
            if found := _NUMBER.search(message):
                raise RpcFailed(int(found.group(1))) from error
            if _OPENING not in message:
                raise
            if loop.time() > until:
                raise LiveKitUnavailable("the participant's connection carries no data yet") from error
            await asyncio.sleep(_OPENING_PAUSE_S)
        else:
            return answer.payload
