"""Asks the permission service what is not known: equal questions at the same time once, many in one call."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from track.permission.v1 import permission_service_pb2 as pb
from track.v1.access_pb2 import Permission
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.service_mode.decisions import Asked, Decision, Decisions, Key, key_of
from track_server.access.service_mode.metrics import PermissionCounts
from track_server.errors import PermissionsChanging, PermissionServiceUnavailable
from track_server.lifetime import Closing, Tasks
from track_server.permission_client.answers import MalformedAnswer
from track_server.permission_client.client import MAX_QUESTIONS, NoAnswer, PermissionClient

log = structlog.get_logger(__name__)

# Asked so often where a change comes between question and answer: more changes than that in a row are a fault.
_ATTEMPTS: Final = 3
_MAX_REASON_CHARS: Final = 256
_MYSELF: Final = Principal("track-server")

Answer = Decision | PermissionServiceUnavailable


@dataclass(slots=True, eq=False)
class _Flight(Asked):
    """A question on its way, and everybody who waits for its answer."""

    answer: "asyncio.Future[Answer]"


class Asking(Closing):
    """Decides by what is known, else by asking. `async with` owns the calls that run.

    ``time_left``: seconds that the caller may still wait, None where there is no end to it. ``clock``: seconds.
    """

    def __init__(
        self,
        client: PermissionClient,
        decisions: "Decisions[_Flight]",
        counts: PermissionCounts,
        *,
        time_left: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.token = ""
        """Consistency token of the newest state that is known of; sent along with every question."""
        self.answering = False
        """Whether the service answered when it was asked last."""
        self._asked = False
        self._client = client
        self._decisions = decisions
        self._counts = counts
        self._time_left = time_left
        self._clock = clock
        self._calls = Tasks()

    async def aclose(self) -> None:
        """Ends the calls that run; who waits for them has no answer. May be called twice."""
        await self._calls.aclose()

    async def probe(self) -> bool:
        """Whether the service answers a question now, whatever it says. The question is this server's own."""
        question = Question(Permission.PERMISSION_READ_SERVER, "")
        answers: Sequence[object]
        try:
            answers = await self._client.check([message_of(_MYSELF, question)])
        except PermissionServiceUnavailable as error:
            answers = [error]
        self._told(answers)
        return self.answering

    async def decide(self, asked: Sequence[tuple[Principal, Question]]) -> list[Answer]:
        """A decision on each, in order, or why there is none: PermissionsChanging where all answers were overtaken."""
        keys = [key_of(principal, question) for principal, question in asked]
        left = dict(zip(keys, asked, strict=True))
        found: dict[Key, Answer] = {}
        for key in list(left):
            known = self._decisions.known(key, self._clock())
            if known is not None:
                self._counts.hits += 1
                found[key] = known
                del left[key]
        self._counts.misses += len(left)
        for _ in range(_ATTEMPTS):
            if not left:
                break
            left = await self._ask_once(left, found)
        for key in left:
            found[key] = PermissionsChanging("permissions change faster than they can be asked for")
        return [found[key] for key in keys]

    async def _ask_once(
        self, left: Mapping[Key, tuple[Principal, Question]], found: dict[Key, Answer]
    ) -> dict[Key, tuple[Principal, Question]]:
        """Puts answers into ``found``. Returns what was decided while it changed, and must be asked again."""
        flights = self._flights(left)
        await asyncio.wait([flight.answer for flight in flights], timeout=self._time_left())
        again = {}
        for flight in flights:
            answer: Answer = flight.answer.result() if flight.answer.done() else NoAnswer(TimeoutError())
            if isinstance(answer, NoAnswer):
                stale = self._decisions.stale(flight.key, self._clock())
                if stale is not None:
                    self._counts.stale += 1
                    answer = stale
            elif isinstance(answer, Decision) and flight.outdated:
                again[flight.key] = left[flight.key]
            found[flight.key] = answer
        return again

    def _flights(self, asked: Mapping[Key, tuple[Principal, Question]]) -> list[_Flight]:
        flights, new = [], []
        for key, (principal, question) in asked.items():
            flight = self._decisions.on_its_way(key)
            if flight is None:
                flight = _Flight(principal, question, asyncio.get_running_loop().create_future())
                self._decisions.ask(flight)
                new.append(flight)
            flights.append(flight)
        for start in range(0, len(new), MAX_QUESTIONS):
            # Of its own: who asked first may leave before the others.
            self._calls.spawn(self._call(new[start : start + MAX_QUESTIONS]), name="permission-check")
        return flights

    async def _call(self, flights: Sequence[_Flight]) -> None:
        token, asked = self.token, self._clock()
        answers: Sequence[pb.CheckPermissionResponse | PermissionServiceUnavailable]
        answers = [NoAnswer(asyncio.CancelledError())] * len(flights)
        try:
            answers = await self._client.check(
                [message_of(flight.principal, flight.question, token) for flight in flights]
            )
            self._learn(token, answers)
        except PermissionServiceUnavailable as error:
            answers = [error] * len(flights)
            if isinstance(error, NoAnswer) and error.not_understood and self.token == token:
                # It may be one of a service that was there before; without it the newest counts.
                self.token = ""
        finally:
            self._counts.durations.took(self._clock() - asked)
            self._told(answers)
            for flight, answer in zip(flights, answers, strict=True):
                self._settle(flight, answer, asked)

    def _settle(
        self, flight: _Flight, answer: pb.CheckPermissionResponse | PermissionServiceUnavailable, asked: float
    ) -> None:
        if isinstance(answer, PermissionServiceUnavailable):
            self._counts.answered("malformed" if isinstance(answer, MalformedAnswer) else "unavailable")
            self._decisions.unanswered(flight)
            flight.answer.set_result(answer)
            return
        decision = decision_of(answer, asked)
        self._counts.answered("allowed" if decision.allowed else "denied")
        self._decisions.answered(flight, decision)
        flight.answer.set_result(decision)

    def _learn(self, sent: str, answers: Iterable[object]) -> None:
        """An answer is as new as what was sent with its question, or newer; what came meanwhile may be newer still."""
        for answer in answers:
            if isinstance(answer, pb.CheckPermissionResponse) and answer.consistency_token and self.token == sent:
                self.token = sent = answer.consistency_token

    def _told(self, answers: Iterable[object]) -> None:
        fault = next((answer for answer in answers if isinstance(answer, PermissionServiceUnavailable)), None)
        if self.answering != (fault is None) or not self._asked:
            self._asked, self.answering = True, fault is None
            if fault is not None:
                log.warning("permission_service_unavailable", reason=str(fault.__cause__ or "") or str(fault))
            else:
                log.info("permission_service_answers")


def message_of(principal: Principal, question: Question, token: str = "") -> pb.CheckPermissionRequest:
    """The question as the contract has it."""
    message = pb.CheckPermissionRequest(
        principal=principal.message,
        permission=question.permission,
        room=question.room,
        participant_identity=question.participant_identity,
        track_sid=question.track_sid,
        consistency_token=token,
    )
    described = question.described
    if described is not None:
        message.track.CopyFrom(
            pb.TrackDescription(
                type=described.type,
                source=described.source,
                codec=described.codec,
                width=described.width,
                height=described.height,
                frames_per_second=described.frames_per_second,
                max_bitrate_bps=described.max_bitrate_bps,
            )
        )
    return message


def decision_of(answer: pb.CheckPermissionResponse, asked: float) -> Decision:
    """The decision of an answer that keeps the contract."""
    return Decision(
        allowed=answer.decision == pb.DECISION_ALLOWED,
        asked=asked,
        lifetime_s=answer.lifetime.seconds + answer.lifetime.nanos / 1e9,
        reason=sentence(answer.reason),
        bounds=Bounds.of(answer.obligations) if answer.HasField("obligations") else UNBOUNDED,
    )


def sentence(reason: str) -> str:
    """A reason of the service's as a caller may see it: one line of bounded length."""
    line = "".join(sign if sign.isprintable() else " " for sign in reason[: 4 * _MAX_REASON_CHARS]).strip()
    return line if len(line) <= _MAX_REASON_CHARS else f"{line[: _MAX_REASON_CHARS - 3]}..."
