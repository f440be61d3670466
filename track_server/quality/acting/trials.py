"""The effect of actions that are none of the state machine's: those by hand, and releases because of a policy."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from track.v1.quality_policy_pb2 import QualityAction
from track_server.errors import Draining, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.quality.acting.messages import judged
from track_server.quality.core.adapting.action import Action
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import Timing
from track_server.quality.core.adapting.trial import Trial
from track_server.quality.live.assessing import Assessing
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

_LATE_S: Final = 15.0
"""So long after the time that is observed nobody measures any more."""


@dataclass(slots=True)
class _Watched:
    """One whose effect is looked at. ``over``: its verdict is known."""

    message: QualityAction
    trial: Trial
    action: Action
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Trials(Closing):
    """Owner of those of one room, `async with`. ``finish`` is told of each once it is judged.

    While there are any the room is watched, and its quality followed.
    """

    def __init__(self, room: str, rooms: Rooms, assessing: Assessing, finish: Callable[[QualityAction], None]) -> None:
        self._room = room
        self._rooms = rooms
        self._assessing = assessing
        self._finish = finish
        self._watched: dict[str, _Watched] = {}
        self._tasks = Tasks()

    def __len__(self) -> int:
        """How many are looked at."""
        return len(self._watched)

    async def aclose(self) -> None:
        """Lets go of them, without a verdict. May be called twice."""
        await self._tasks.aclose()

    def begin(self, message: QualityAction, action: Action, timing: Timing) -> None:
        """Looks at what comes of it, from now on."""
        trial = Trial(timing)
        trial.begin(action)
        watched = self._watched[message.action_id] = _Watched(message, trial, action)
        with contextlib.suppress(Draining):
            self._tasks.spawn(self._attend(watched, timing), name=f"effect of {message.action_id}")

    def tick(self, adaptation: Adaptation, now_s: float) -> None:
        """Something more was measured. ``now_s``: monotonic."""
        for watched in list(self._watched.values()):
            for found in watched.trial.judged(adaptation.recent(watched.action.line), now_s):
                self._end(watched, judged(watched.message, found.after, found.verdict))

    def _end(self, watched: _Watched, message: QualityAction) -> None:
        if self._watched.pop(watched.message.action_id, None) is not None:
            watched.over.set()
            self._finish(message)

    async def _attend(self, watched: _Watched, timing: Timing) -> None:
        with self._assessing.following(self._room):
            try:
                async with asyncio.timeout(timing.settle_s + timing.observe_s + _LATE_S):
                    async with self._rooms.watch(self._room):
                        await watched.over.wait()
            except TimeoutError:
                pass
            except TrackError as error:
                log.info("quality_effect_not_measured", room=self._room, reason=error.message)
            self._end(watched, judged(watched.message, None, None))
