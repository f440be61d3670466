"""What rests on a permission is ended when the permission is gone.

Streams are looked at every second as well: a token expires, and a decision is good for its lifetime alone. What was
published or subscribed is durable, and is asked about again only when something changed.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import structlog

from track.v1 import event_pb2, track_pb2
from track.v1.access_pb2 import Permission, PrincipalKind
from track_server.access.access import Access
from track_server.access.bounds import Bounds, Description
from track_server.access.principal import Principal
from track_server.access.question import EVERYTHING, Question, Touch
from track_server.errors import PermissionDenied, PermissionsChanging, TrackError, Unauthenticated
from track_server.lifetime import Closing, Tasks

log = structlog.get_logger(__name__)

_INTERVAL_S: Final = 1.0
# Who cannot be asked about, because LiveKit or the permission service is away, is asked about again after so long.
_RETRY_S: Final = 1.0
# How long a stream goes on whose permission changes faster than it can be asked for.
_DOUBT_S: Final = 1.0
# More changes than that are looked at as one that touches everything.
_TOUCHES: Final = 100
# Participants whose permission is remembered, about 200 bytes each.
_PERMISSIONS: Final = 50_000
_REMOVED: Final = "PARTICIPANT_REMOVED"


@dataclass(frozen=True, slots=True)
class StandingEffect:
    """Something durable that rests on a permission. ``end`` takes it away, for the reason given."""

    principal: Principal
    question: Question
    end: Callable[[PermissionDenied], Awaitable[None]]


@dataclass(eq=False, slots=True)
class _Stream:
    """An open stream. ``end``: closes it with that error; at once, and once."""

    principal: Principal
    permission: "Permission.ValueType"
    room: str
    end: Callable[[TrackError], None]
    doubted_since: float | None = None
    """Since when nobody can tell whether it may go on, because permissions change; of the monotonic clock."""


class Revocation(Closing):
    """Owner of the looking, `async with`.

    ``vouches``: whether what a principal is known by still counts. ``clock`` gives seconds since 1970 UTC.
    """

    def __init__(
        self,
        access: Access,
        vouches: Callable[[Principal], bool] = lambda _: True,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._vouches = vouches
        self._clock = clock
        self._streams: set[_Stream] = set()
        self._sources: list[Callable[[], Iterable[StandingEffect]]] = []
        self._touches: dict[Touch, None] = {}
        self._touched = asyncio.Event()
        self._permissions: dict[tuple[str, str], bytes] = {}
        """By room and participant SID, as last updated."""
        self._tasks = Tasks()
        self._temporary: Callable[[str, str], bool] = lambda room, identity: False

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._look_at_streams(), name="revocation of streams")
        self._tasks.spawn(self._follow_changes(), name="revocation of what stands")
        return self

    async def aclose(self) -> None:
        """Stops looking. May be called twice."""
        await self._tasks.aclose()

    def add(self, source: Callable[[], Iterable[StandingEffect]]) -> None:
        """``source`` tells all durable things of a kind that stand now."""
        self._sources.append(source)

    def overlook(self, temporary: Callable[[str, str], bool]) -> None:
        """``temporary``: whether this service itself has taken a permission away for a moment, by room and identity."""
        self._temporary = temporary

    @contextlib.contextmanager
    def stream(
        self, principal: Principal, permission: "Permission.ValueType", room: str, end: Callable[[TrackError], None]
    ) -> Iterator[None]:
        """For the span of the block a stream is open that rests on the permission in the room."""
        stream = _Stream(principal, permission, room, end)
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)

    def changed(self, touch: Touch) -> None:
        """Permissions changed: what is touched is asked about again."""
        self._touches[touch] = None
        if len(self._touches) > _TOUCHES:
            self._touches = {EVERYTHING: None}
        self._touched.set()

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """Listens to watched rooms: LiveKit may take permissions away from a participant, or remove it."""
        match event.WhichOneof("change"):
            case "participant_updated" if self._temporary(room, event.participant_updated.identity):
                pass
            case "participant_updated" if self._other_permission(room, event.participant_updated):
                self.changed(Touch(principal_identity=event.participant_updated.identity, room=room))
            case "participant_left" if event.participant_left.disconnect_reason == _REMOVED:
                self._removed(room, event.participant_left.identity)
            case _:
                pass

    def _other_permission(self, room: str, participant: track_pb2.Participant) -> bool:
        """Whether its permission is another than when it was last updated: most updates are about something else."""
        place, permission = (room, participant.sid), participant.permission.SerializeToString(deterministic=True)
        before = self._permissions.pop(place, None)
        self._permissions[place] = permission
        if len(self._permissions) > _PERMISSIONS:
            # The one that was updated longest ago: its next update is looked at once more than needed.
            del self._permissions[next(iter(self._permissions))]
        return before != permission

    def _removed(self, room: str, identity: str) -> None:
        for stream in list(self._streams):
            # Admins and services are here by more than their participant.
            ordinary = stream.principal.kind == PrincipalKind.PRINCIPAL_KIND_PARTICIPANT
            if ordinary and stream.room == room and stream.principal.scope == (identity, room):
                stream.end(PermissionDenied("the participant was removed from the room"))

    async def _look_at_streams(self) -> None:
        while True:
            try:
                await self._review([EVERYTHING], only_unknown=True)
            except Exception:
                log.exception("streams_not_reviewed")
            await asyncio.sleep(_INTERVAL_S)

    async def _follow_changes(self) -> None:
        while True:
            await self._touched.wait()
            self._touched.clear()
            # All that came while the last ones were looked at, at once: changes may come faster than that.
            touches, self._touches = list(self._touches), {}
            try:
                await self._review(touches)
                answered = await self._review_standing(touches)
            except Exception:
                log.exception("permissions_not_reviewed")
                answered = False
            if not answered:
                await asyncio.sleep(_RETRY_S)
                self.changed(EVERYTHING)

    async def _review(self, touches: Sequence[Touch], *, only_unknown: bool = False) -> None:
        """Ends the streams among those touched whose permission is gone, or cannot be told any more.

        ``only_unknown``: leaves those alone whose permission is known to be there.
        """
        groups: dict[tuple[bytes, int, str], list[_Stream]] = {}
        for stream in list(self._streams):
            principal = stream.principal
            if principal.expire_time is not None and self._clock() >= principal.expire_time:
                stream.end(Unauthenticated("the access token has expired", cause="expired"))
            elif not self._vouches(principal):
                stream.end(Unauthenticated("the API key or the client certificate counts no more", cause="withdrawn"))
            elif only_unknown and self._access.admitted(principal, stream.permission, stream.room):
                stream.doubted_since = None
            elif _touched(touches, principal, Question(stream.permission, stream.room)):
                groups.setdefault((principal.fingerprint, stream.permission, stream.room), []).append(stream)
        asked = [(group[0].principal, Question(group[0].permission, group[0].room)) for group in groups.values()]
        for group, answer in zip(groups.values(), await self._access.review(asked), strict=True):
            for stream in group:
                _settle(stream, answer)

    async def _review_standing(self, touches: Sequence[Touch]) -> bool:
        """Ends what stands among what is touched and is no longer allowed; says whether all could be asked about."""
        standing = [
            found
            for source in self._sources
            for found in source()
            if _touched(touches, found.principal, found.question)
        ]
        answered = True
        answers = await self._access.review([(found.principal, found.question) for found in standing])
        for found, answer in zip(standing, answers, strict=True):
            denial = _denial(found, answer)
            if denial is not None:
                answered &= await self._end(found, denial)
            elif isinstance(answer, TrackError):
                answered = False
        return answered

    async def _end(self, found: StandingEffect, error: PermissionDenied) -> bool:
        question = found.question
        log.info(
            "permission_revoked",
            room=question.room,
            identity=question.participant_identity,
            permission=Permission.Name(question.permission),
            reason=error.message,
        )
        try:
            await found.end(error)
        except TrackError as trouble:
            log.warning("revocation_hindered", room=question.room, reason=trouble.message)
            return False
        except Exception:
            # The others must not wait for it.
            log.exception("revocation_broke", room=question.room)
            return False
        return True


def _touched(touches: Sequence[Touch], principal: Principal, question: Question) -> bool:
    return any(touch.touches(principal.identity, question) for touch in touches)


def _settle(stream: _Stream, answer: Bounds | TrackError) -> None:
    """Ends the stream unless it may go on. Where changes overtook the answer it has a moment: it is asked again."""
    if isinstance(answer, PermissionsChanging):
        now = time.monotonic()
        if stream.doubted_since is None:
            stream.doubted_since = now
        if now - stream.doubted_since < _DOUBT_S:
            return
    elif isinstance(answer, Bounds):
        stream.doubted_since = None
        return
    stream.end(answer)


def _denial(found: StandingEffect, answer: Bounds | TrackError) -> PermissionDenied | None:
    """Why it may not stand any longer; None where it may, or where that could not be told."""
    if isinstance(answer, Bounds):
        try:
            answer.refuse_beyond(found.question.described or Description())
        except PermissionDenied as error:
            return error
        return None
    return answer if isinstance(answer, PermissionDenied) else None
