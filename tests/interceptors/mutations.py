"""Mutations, and what carries them out."""

import asyncio
from typing import Any

from track.v1 import tracks_pb2
from track_server.interceptors.context import current_call


class Effects:
    """A mutation's handler that counts, and waits where it is told to."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.error: Exception | None = None
        self.cancelled = 0

    async def __call__(self, request: Any, context: Any) -> Any:
        self.keys.append(current_call().operation_key)
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return answer(len(self.keys))


def answer(number: int) -> tracks_pb2.MuteTracksResponse:
    """What the call of that number answers."""
    return tracks_pb2.MuteTracksResponse(
        results=[tracks_pb2.MuteResult(track=tracks_pb2.TrackRef(track_sid=f"TR_{number}"))]
    )


def mute(request_id: str = "one", *, room: str = "room", sid: str = "TR_a") -> tracks_pb2.MuteTracksRequest:
    """To mute one track."""
    return tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=sid)], request_id=request_id)
