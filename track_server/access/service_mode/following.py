"""Follows the permission service's stream of changes."""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, Self

import structlog

from track.permission.v1 import permission_service_pb2 as pb
from track_server.access.question import EVERYTHING, Touch
from track_server.access.service_mode.asking import Asking
from track_server.access.service_mode.decisions import Decisions
from track_server.errors import PermissionServiceUnavailable
from track_server.lifetime import Closing, Tasks
from track_server.permission_client.client import PermissionClient

log = structlog.get_logger(__name__)

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 2.0
"""Between the end of a stream and the next attempt, less up to a half by chance, so that not all come at once."""


class Following(Closing):
    """Keeps the stream up, and forgets what it touches. `async with` runs it.

    ``on_change`` is called for each change after that, and with EVERYTHING whenever the stream came up: changes may
    have been missed before.
    """

    def __init__(
        self,
        client: PermissionClient,
        decisions: Decisions[Any],
        asking: Asking,
        on_change: Callable[[Touch], None],
    ) -> None:
        self._client = client
        self._decisions = decisions
        self._asking = asking
        self._on_change = on_change
        self._told = False
        self._tasks = Tasks()

    @property
    def connected(self) -> bool:
        """Whether the stream is up."""
        return self._decisions.hearing

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._follow(), name="permission-changes")
        return self

    async def aclose(self) -> None:
        """Ends it. May be called twice."""
        await self._tasks.aclose()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_S
        while True:
            began = loop.time()
            try:
                await self._hear()
            except PermissionServiceUnavailable as error:
                self._lost(str(error.__cause__ or "") or str(error))
            except Exception:
                # What it has left undone is done when the stream comes up again.
                log.exception("permission_changes_failed")
                self._lost("a fault of this server")
            finally:
                self._decisions.lose()
            if loop.time() - began > 2 * _LONGEST_S:
                pause_s = _FIRST_S
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_S)

    async def _hear(self) -> None:
        async with aclosing(self._client.changes()) as messages:
            async for message in messages:
                touches = [_touch(change) for change in message.changes]
                self._asking.token = message.consistency_token or self._asking.token
                if self._decisions.hearing:
                    self._decisions.change(touches)
                else:
                    # The first one: of a service that may not be the one before, and knows no tokens of its.
                    self._asking.token = message.consistency_token
                    self._decisions.hear()
                    log.info("permission_changes_followed")
                    self._told = True
                    touches = [EVERYTHING]
                for touch in touches:
                    self._on_change(touch)

    def _lost(self, reason: str) -> None:
        # Of a stream that never was up, too, once: the settings may be wrong.
        if self._decisions.hearing or not self._told:
            log.warning("permission_changes_lost", reason=reason)
        self._told = True


def _touch(change: pb.PermissionChange) -> Touch:
    return Touch(
        principal_identity=change.principal_identity,
        room=change.room,
        participant_identity=change.participant_identity,
        track_sid=change.track_sid,
        permissions=frozenset(change.permissions),
    )
