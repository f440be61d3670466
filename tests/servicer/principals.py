"""Callers, by the token that they bring."""

import contextlib
from collections.abc import AsyncIterator

import grpc

from tests.track_process import Client, TrackProcess, _Bearer


@contextlib.asynccontextmanager
async def bearing(track: TrackProcess, token: str | None) -> AsyncIterator[Client]:
    """A stub whose calls carry that text as Bearer token; None: no credentials at all."""
    interceptors = [] if token is None else _Bearer(token).kinds()
    async with grpc.aio.insecure_channel(track.address, interceptors=interceptors) as channel:
        yield Client(channel)
