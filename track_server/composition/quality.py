"""The quality of rooms: measured, judged, told, and acted upon."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from track_server.composition.foundation import Foundation
from track_server.composition.subscriptions import Subscribed
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.quality import Quality
from track_server.rooms.selection import Selection
from track_server.rooms.subscriptions import KINDS

_OWNER: Final = "quality"
_SEES: Final = Selection(KINDS)


@dataclass(frozen=True, slots=True)
class Measured:
    """What measures. It is there before what it measures."""

    assessing: Assessing
    quality: Quality


@contextlib.asynccontextmanager
async def measuring(ground: Foundation) -> AsyncIterator[Measured]:
    """The assessments of rooms for the span of the block."""
    async with contextlib.AsyncExitStack() as stack:
        assessing = await stack.enter_async_context(Assessing(ground.rooms))
        ground.rooms.listen(assessing.happened)
        ground.subscriptions.look_along(assessing.looked)
        assessing.demand(_looking(ground, assessing))
        yield Measured(assessing, Quality(assessing))


def judging(measured: Measured, subscribed: Subscribed) -> None:
    """What the assessments ask of the other capabilities, once those are there."""
    measured.assessing.context.wanted = _wanting(subscribed)


def _looking(ground: Foundation, assessing: Assessing) -> Callable[[str], None]:
    """Has LiveKit's debug view, where it is on, looked at for rooms that are followed."""

    def look(room: str) -> None:
        owner = (_OWNER, room)
        if assessing.stats_interval(room) is not None:
            ground.subscriptions.want(owner, [room], _SEES)
        else:
            ground.subscriptions.release(owner)

    return look


def _wanting(subscribed: Subscribed) -> Callable[[str, str, str], bool | None]:
    """Whether a subscriber is meant to receive a track: by what is decided for it, and what its client has told."""
    controllers, states = subscribed.controllers, subscribed.reported.states

    def wanted(room: str, identity: str, track_sid: str) -> bool | None:
        if controllers.off(room, identity, track_sid) or states.paused(room, identity, track_sid):
            return False
        return None

    return wanted
