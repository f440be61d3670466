"""Who has an identity in a room: signalling tells of those who publish nothing 2 to 3 s late, LiveKit's API sooner."""

import asyncio
import contextlib
from typing import Final

from track_server.errors import TrackError
from track_server.livekit.api import LiveKitApi
from track_server.publishing.ids import hosted
from track_server.rooms.reading import roster

_LISTED_S: Final = 1.0
_LOOK_S: Final = 0.05


async def is_taken(api: LiveKitApi, room: str, identity: str) -> bool:
    """Whether somebody has it whom this service does not host. LiveKit puts the one before out first and lists the next
    one then, so it is asked for a second. False also where LiveKit does not answer."""
    with contextlib.suppress(TimeoutError, TrackError):
        async with asyncio.timeout(_LISTED_S):
            while True:
                participant = (await roster(api, room)).participants.get(identity)
                if participant is not None and not hosted(room, participant):
                    return True
                await asyncio.sleep(_LOOK_S)
    return False
