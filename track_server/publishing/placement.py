"""Where a session is hosted: by a media worker of this server's own, or by one that LiveKit's job dispatch finds."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from google.protobuf import json_format

from track.media.v1.media_service_pb2 import SessionHello, SessionTicket
from track_server.agent import AGENT_NAME, SESSION_ATTRIBUTE
from track_server.errors import LimitExceeded, TrackError, WorkerUnavailable
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint

log = structlog.get_logger(__name__)

# A worker answers a dispatch within half a second; one that must start a child first takes two or three.
ATTACH_TIMEOUT_S: Final = 4.0
# How long a worker that just registered needs for a dispatch that was made shortly before.
JUST_REGISTERED_S: Final = 0.5
# After a full worker declined, LiveKit asks the next one at once. A job that one takes is in LiveKit's list by then.
DECLINED_S: Final = 0.3
# A session whose last track was unpublished takes its place until it has left the room.
LEAVING_S: Final = 0.5
# When to try again.
_RETRY_S: Final = 2.0

Wait = Callable[[float, Callable[[], bool]], Awaitable[bool]]
"""Waits for a worker to attach, at most so many seconds and until the other holds; says whether one has attached."""


class OfferedSession(Protocol):
    """A session that a worker of this server's own has taken."""

    over: bool
    """Its session, or the worker itself, is over."""
    worker_pid: int
    """Process id of the worker."""

    def withdraw(self) -> None:
        """It need not host it any more."""


class OwnWorkers(Protocol):
    """The media workers that this server started itself."""

    @property
    def ready(self) -> bool:
        """Whether there is one that can be asked, full or not."""

    @property
    def expected(self) -> bool:
        """Whether there are any at all, be it that they are just being started."""

    async def offer(self, ticket: str, token: str, over: Callable[[], None]) -> OfferedSession | None:
        """Offers them a session, by its ticket and the token for the room; None where none of them answers.

        ``over`` is called when the session or its worker is over. Raises LimitExceeded where they are full.
        """


class Placement:
    """Finds workers for one session.

    ``wanted``: whether it is to be hosted still. ``changed`` is called when waiting for one may make no sense any more.
    """

    def __init__(
        self,
        api: LiveKitApi,
        tokens: TokenMint,
        own: OwnWorkers,
        room: str,
        wanted: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self.came = asyncio.Event()
        """A worker has come, or has a place again, since this was cleared last."""
        self._api = api
        self._tokens = tokens
        self._own = own
        self._room = room
        self._wanted = wanted
        self._changed = changed
        self._offered: OfferedSession | None = None
        self._full_at = 0

    @property
    def local(self) -> bool:
        """Whether a worker of this server's own has the session: one on this machine."""
        return self._offered is not None and not self._offered.over

    def is_over(self) -> bool:
        """Whether a worker of this server's own had the session and has it no more."""
        return self._offered is not None and self._offered.over

    def worker_came(self) -> None:
        """There is a worker that was not there before, or had no place."""
        self.came.set()
        self._changed()

    def declined(self, hello: SessionHello) -> None:
        """A worker says that it is full."""
        self._full_at = hello.full_at
        self._changed()

    async def find(self, ticket: Callable[[], SessionTicket], wait: Wait, *, local: bool) -> None:
        """Returns once a worker has attached, or none is waited for any more. ``ticket`` gives a new one for each try.

        ``local``: a worker on this machine alone will do. Raises LimitExceeded where there are workers and they are
        full, WorkerUnavailable where there is none, or what LiveKit says.
        """
        while True:
            try:
                return await self._try(ticket, wait, local)
            except (LimitExceeded, WorkerUnavailable):
                # One that has come meanwhile, or has a place again, was not asked yet.
                if not (self.came.is_set() and self._wanted()):
                    raise

    async def _try(self, ticket: Callable[[], SessionTicket], wait: Wait, local: bool) -> None:
        self.came.clear()
        if self._offered is not None:
            # It lost us, or does not answer: it must not come back when another one has the session.
            self._offered.withdraw()
        self._offered = None
        full: LimitExceeded | None = None
        try:
            if await self._offer(ticket(), wait):
                return
        except LimitExceeded as error:
            full = error
        if local and full is not None:
            await wait(LEAVING_S, self.came.is_set)
        # A dispatch would make a room again that is closed.
        if local or not self._wanted():
            raise full or WorkerUnavailable("no media worker of this server is there", retry_delay_s=_RETRY_S)
        await self._dispatch(ticket(), wait, full)

    async def _offer(self, ticket: SessionTicket, wait: Wait) -> bool:
        """Asks our own workers: LiveKit takes 200 ms to choose one. Says whether one has attached."""
        token = self._tokens.host(
            self._room,
            ticket.participant_identity,
            # The first is LiveKit's own name for what its dispatch adds.
            {"lk.agent_name": AGENT_NAME, SESSION_ATTRIBUTE: ticket.session_id},
        )
        offered = self._offered = await self._own.offer(_text(ticket), token, self._changed)
        if offered is None:
            return False
        log.info("session_placed", room=self._room, identity=ticket.participant_identity, worker_pid=offered.worker_pid)
        try:
            if await wait(ATTACH_TIMEOUT_S, lambda: offered.over):
                return True
        except BaseException:
            offered.withdraw()
            raise
        # It must not join when it is hosted elsewhere: the newcomer would be thrown out.
        offered.withdraw()
        raise WorkerUnavailable("the media worker did not begin the session", retry_delay_s=_RETRY_S)

    async def _dispatch(self, ticket: SessionTicket, wait: Wait, full: LimitExceeded | None) -> None:
        self._full_at = 0
        dispatch = await self._api.create_dispatch(self._room, AGENT_NAME, _text(ticket))
        taken = False
        try:
            taken = await self._taken(dispatch.id, wait)
        finally:
            if not taken:
                # A worker that takes it later would only be sent away.
                with contextlib.suppress(TrackError):
                    await self._api.delete_dispatch(self._room, dispatch.id)
        if not taken and full is None and self._full_at:
            full = LimitExceeded("worker_max_sessions", self._full_at, "media workers", retry_delay_s=_RETRY_S)
        if not taken:
            raise full or WorkerUnavailable("no media worker took the session", retry_delay_s=_RETRY_S)

    async def _taken(self, dispatch_id: str, wait: Wait) -> bool:
        if await wait(ATTACH_TIMEOUT_S, lambda: self.came.is_set() or self._full_at > 0):
            return True
        if self._full_at:
            if await wait(DECLINED_S, self.came.is_set):
                return True
            return await self._api.dispatched(self._room, dispatch_id) and await wait(ATTACH_TIMEOUT_S, _never)
        # One that came may have come just in time for this dispatch; ours can be asked directly.
        return self.came.is_set() and not self._own.ready and await wait(JUST_REGISTERED_S, _never)


def _text(ticket: SessionTicket) -> str:
    return json_format.MessageToJson(ticket, indent=None)


def _never() -> bool:
    return False
