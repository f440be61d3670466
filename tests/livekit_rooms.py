"""Rooms, made and deleted through LiveKit's own API."""

import contextlib
from collections.abc import AsyncIterator

from livekit import api

from tests.livekit_process import LiveKitProcess


@contextlib.asynccontextmanager
async def livekit_api(livekit: LiveKitProcess) -> AsyncIterator[api.LiveKitAPI]:
    """LiveKit's API, as the official SDK calls it."""
    async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as client:
        yield client


@contextlib.asynccontextmanager
async def existing_room(livekit: LiveKitProcess, name: str) -> AsyncIterator[None]:
    """A room that exists for the span of the block."""
    async with livekit_api(livekit) as client:
        await client.room.create_room(api.CreateRoomRequest(name=name))
    try:
        yield
    finally:
        await delete_room(livekit, name)


async def delete_room(livekit: LiveKitProcess, name: str) -> None:
    """Deletes it; one that is gone is no error."""
    async with livekit_api(livekit) as client:
        with contextlib.suppress(api.TwirpError):
            await client.room.delete_room(api.DeleteRoomRequest(room=name))


async def rooms(livekit: LiveKitProcess, name: str) -> list[str]:
    """``[name]`` where the room exists, else nothing."""
    async with livekit_api(livekit) as client:
        return [room.name for room in (await client.room.list_rooms(api.ListRoomsRequest(names=[name]))).rooms]


async def participants(livekit: LiveKitProcess, name: str, *, hidden: bool = False) -> set[str]:
    """Identities of all participants that are not hidden, or of all that are."""
    async with livekit_api(livekit) as client:
        listed = (await client.room.list_participants(api.ListParticipantsRequest(room=name))).participants
    return {found.identity for found in listed if found.permission.hidden == hidden}
