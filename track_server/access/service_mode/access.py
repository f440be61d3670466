"""Mode `service`: the permission service decides, within what the caller's token is about."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from track.permission.v1 import permission_service_pb2 as pb
from track.v1 import access_pb2
from track.v1.access_pb2 import Permission, TrackOperation
from track.v1.token_pb2 import PublishBounds
from track_server.access import rules
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.principal import Principal
from track_server.access.question import Question, Touch
from track_server.access.service_mode.asking import Answer, Asking, sentence
from track_server.access.service_mode.decisions import Decision, Decisions
from track_server.access.service_mode.following import Following
from track_server.access.service_mode.metrics import PermissionClientMetrics, PermissionCounts
from track_server.access.service_mode.reports import Reports
from track_server.config import Settings
from track_server.errors import PermissionDenied, PermissionsChanging, PermissionServiceUnavailable, TrackError
from track_server.lifetime import Closing
from track_server.permission_client.client import PermissionClient
from track_server.permission_client.connection import Connection

_DENIED: Final = "the permission service does not allow this"
NOBODY: Final = "(nobody)"
"""The participant of a target that does not exist, to the permission service."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How decisions are kept: how many, for how many seconds, and how old an allow may be while the service is away."""

    entries: int
    max_lifetime_s: float
    stale_s: float


class ServiceAccess(Closing):
    """See Access. `async with` runs what follows the service's changes, and what reports to it.

    ``on_change``: told of every change, once no decision that it touches is kept. ``time_left``: seconds that the
    running call may still wait, or None. ``request_id``: that of the running call, or "".
    """

    def __init__(
        self,
        client: PermissionClient,
        keeping: Keeping,
        *,
        on_change: Callable[[Touch], None] = lambda touch: None,
        time_left: Callable[[], float | None] = lambda: None,
        request_id: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = PermissionCounts()
        self._client = client
        self._clock = clock
        self._decisions: Decisions[Any] = Decisions(
            entries=keeping.entries, max_lifetime_s=keeping.max_lifetime_s, stale_s=keeping.stale_s
        )
        self._asking = Asking(client, self._decisions, self.counts, time_left=time_left, clock=clock)
        self._following = Following(client, self._decisions, self._asking, on_change)
        self._reports = Reports(client, self.counts, request_id=request_id)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for part in (self._asking, self._reports, self._following):
            await self._stack.enter_async_context(part)
        return self

    async def aclose(self) -> None:
        """Ends it. May be called twice."""
        await self._stack.aclose()

    @property
    def connected(self) -> bool:
        """Whether the stream of changes is up."""
        return self._following.connected

    @property
    def entries(self) -> int:
        """Decisions that are kept."""
        return len(self._decisions)

    async def answering(self) -> bool:
        """Whether questions are answered: a stream of changes that is up is enough, else one is asked."""
        return self.connected or await self._asking.probe()

    def admitted(self, principal: Principal, permission: "Permission.ValueType", room: str) -> bool:
        """See Access: only what was allowed and is still known."""
        if self._decisions.allows_room(principal, permission, room, self._clock()):
            self.counts.hits += 1
            return True
        return False

    async def admit(self, principal: Principal, permission: "Permission.ValueType", room: str) -> None:
        """See Access."""
        (answer,) = await self._decided([(principal, Question(permission, room))])
        if isinstance(answer, TrackError):
            raise answer

    async def require(self, principal: Principal, question: Question) -> Bounds:
        """See Access."""
        (answer,) = await self.require_each(principal, [question])
        if isinstance(answer, TrackError):
            raise answer
        return answer

    async def require_each(self, principal: Principal, questions: Sequence[Question]) -> list[Bounds | TrackError]:
        """See Access. What is not known is asked all at once."""
        return await self._decided([(principal, _about_somebody(question)) for question in questions])

    async def review(self, asked: Sequence[tuple[Principal, Question]]) -> list[Bounds | TrackError]:
        """See Access. What is not known is asked all at once."""
        return await self._decided(asked)

    async def _decided(self, asked: Sequence[tuple[Principal, Question]]) -> list[Bounds | TrackError]:
        answers: list[Bounds | TrackError | None] = [_without_asking(*each) for each in asked]
        places = [place for place, answer in enumerate(answers) if answer is None]
        decided = await self._asking.decide([asked[place] for place in places])
        for place, decision in zip(places, decided, strict=True):
            answers[place] = self._outcome(*asked[place], decision)
        return [answer for answer in answers if answer is not None]

    def refused(self, principal: Principal, question: Question, detail: str) -> None:
        """See Access."""
        self._reports.tell(principal, question, pb.PERMISSION_ISSUE_ALLOWED_BUT_REFUSED, detail)

    async def issue(
        self,
        principal: Principal,
        room: str,
        identity: str,
        operation: "TrackOperation.ValueType",
        grants: access_pb2.Grants,
        bounds: PublishBounds | None,
        ttl: Duration,
    ) -> pb.IssueTrackTokenResponse | None:
        """What the service grants of a token with those ``grants``; None where it issues none and is to be asked for
        PERMISSION_CREATE_TOKEN instead. A token in it is the service's word: what it grants was not looked at.

        Raises PermissionDenied, PermissionServiceUnavailable.
        """
        rules.within_token(principal, Permission.PERMISSION_CREATE_TOKEN, room)
        request = pb.IssueTrackTokenRequest(
            principal=principal.message,
            room=room,
            participant_identity=identity,
            operation=operation,
            grants=grants,
            bounds=bounds,
            ttl=ttl,
        )
        answer = await self._client.issue(request)
        if answer is not None and answer.decision != pb.DECISION_ALLOWED:
            raise PermissionDenied(sentence(answer.reason) or _DENIED)
        return answer

    def _outcome(self, principal: Principal, question: Question, answer: Answer) -> Bounds | TrackError:
        if isinstance(answer, PermissionServiceUnavailable):
            # One of its own for each caller: several may have waited for the same answer.
            kind = PermissionsChanging if isinstance(answer, PermissionsChanging) else PermissionServiceUnavailable
            error = kind(answer.message, retry_delay_s=answer.retry_delay_s)
            error.__cause__ = answer.__cause__
            return error
        if answer.allowed:
            return _within(answer, principal)
        if _granted(principal, question):
            detail = "the caller's LiveKit grants would have allowed it"
            self._reports.tell(principal, question, pb.PERMISSION_ISSUE_DENIED_BUT_GRANTED, detail)
        return PermissionDenied(answer.reason or _DENIED)


@asynccontextmanager
async def service_access(
    settings: Settings,
    registry: CollectorRegistry,
    *,
    on_change: Callable[[Touch], None],
    time_left: Callable[[], float | None],
    request_id: Callable[[], str],
) -> AsyncIterator[ServiceAccess]:
    """Connected to the permission service of the settings, and with its metrics. Raises SettingsError."""
    keeping = Keeping(
        settings.permission_cache_entries, settings.permission_max_lifetime_seconds, settings.permission_stale_seconds
    )
    async with Connection(settings) as connection:
        client = PermissionClient(connection, timeout_s=settings.permission_timeout_seconds)
        async with ServiceAccess(
            client, keeping, on_change=on_change, time_left=time_left, request_id=request_id
        ) as access:
            PermissionClientMetrics(
                registry, access.counts, connected=lambda: access.connected, entries=lambda: access.entries
            )
            yield access


def _about_somebody(question: Question) -> Question:
    """Without a participant it would be the question about the room: its answer would tell that there is no target."""
    return question if question.participant_identity else replace(question, participant_identity=NOBODY)


def _without_asking(principal: Principal, question: Question) -> Bounds | TrackError | None:
    """What is decided whatever the service says; None: it is to be asked."""
    permission, room = question.permission, question.room
    try:
        rules.within_token(principal, permission, room)
        if permission == Permission.PERMISSION_HOST_MEDIA:
            # Between this server and its media workers, whose grant the service is not told of.
            rules.admit(principal, permission, room)
            return UNBOUNDED
    except PermissionDenied as error:
        return error
    return None


def _within(decision: Decision, principal: Principal) -> Bounds:
    if principal.bounds is UNBOUNDED:
        return decision.bounds
    return decision.bounds.within(principal.bounds)


def _granted(principal: Principal, question: Question) -> bool:
    """Whether the caller's LiveKit token alone would have done."""
    try:
        if question.participant_identity:
            rules.require(principal, question)
        else:
            rules.admit(principal, question.permission, question.room)
    except PermissionDenied:
        return False
    return True
