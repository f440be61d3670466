"""What is done about the quality of one room: the actions of its state machine, stored, carried out and judged."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from track.v1.event_pb2 import EventCause, RoomEvent
from track.v1.publication_pb2 import Stage
from track.v1.publication_update_pb2 import RestartTrackRequest
from track.v1.quality_policy_pb2 import QualityAction
from track.v1.subscription_pb2 import LayerTerm
from track.v1.track_pb2 import Track
from track_server.deadline import Deadline
from track_server.errors import Draining, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.quality.acting.lines import Lines
from track_server.quality.acting.means import Means
from track_server.quality.acting.messages import as_action, carried_out, judged, released, taken
from track_server.quality.acting.terms import Held, Place, of_hands, of_lines
from track_server.quality.acting.trials import Trials
from track_server.quality.clock import Moment
from track_server.quality.core.adapting.action import Action
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import HIGH, Family, Line, Policy
from track_server.quality.core.adapting.measure import Measure
from track_server.quality.core.assessment import Assessed
from track_server.rooms.causes import rule_cause
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

QUALITY_POLICY: Final = "quality_policy"
"""Rule: what is done about quality is what the policies allow."""
_RETRY_S: Final = 2.0
_RESTART_S: Final = 30.0


@dataclass(slots=True)
class _Pending:
    """An action without a verdict."""

    line: Line
    message: QualityAction
    stored: bool = False


class RoomActing(Closing):
    """Owner of what is done in one room, over all its lives, `async with`. Its methods never wait, but ``aclose``.

    Limits are those that were stored, so they are derived anew after a restart of this service. ``settled`` is told
    when nothing is looked at any more.
    """

    def __init__(self, room: str, means: Means, settled: Callable[[str], None]) -> None:
        self.name: Final = room
        self._means = means
        self._settled = settled
        self._lines = Lines(room, means.policies, means.abilities)
        self._timing = self._lines.timing()
        self._numbers = itertools.count(1)
        self.adaptation = self._begin()
        self._held: dict[Line, Held] = {}
        self._basis: dict[Line, frozenset[str]] = {}
        """Which policies (etags) a line goes by."""
        self._pending: dict[int, _Pending] = {}
        self._restarting: set[Line] = set()
        self._terms: dict[Place, LayerTerm] = {}
        self._trials = Trials(room, means.rooms, means.assessing, self._tried)
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go; what is limited stays as it is. May be called twice."""
        await self._trials.aclose()
        await self._tasks.aclose()

    @property
    def idle(self) -> bool:
        """Whether nothing is limited, and nothing looked at."""
        return not (self._held or self._pending or self._terms or self._trials or len(self._tasks))

    def _begin(self) -> Adaptation:
        # No secret hangs on it: who is held back to compare is to be anybody's guess, not unguessable.
        return Adaptation(self._policy, self._timing, random.Random(), self._numbers)

    # What is told to it.

    def ticked(self, assessed: Assessed, moment: Moment) -> None:
        """Something more was measured, and the state machine has decided."""
        if not self._means.terms.acting(self.name):
            # Another server acts. Should it be this one's turn again, it begins anew.
            self._let_go(lambda _: True)
        else:
            for action in assessed.actions:
                if action.verdict is None:
                    self._pending[action.number] = _Pending(action.line, taken(action, moment))
            if assessed.actions:
                self._spawn(self._carry_out(assessed.actions))
        self._trials.tick(self.adaptation, moment.monotonic_s)

    def ended(self) -> None:
        """Nothing is measured any more: the room is closed, or nobody follows it."""
        self._let_go(lambda _: True)
        self.adaptation = self._begin()

    def policies_changed(self) -> None:
        """Lines whose policies are others now begin anew, and what they limited is released."""
        self._lines.forget()
        timing = self._lines.timing()
        if timing != self._timing:
            self._timing = timing
            self.adaptation.retime(timing)
        tracks = list(self._tracks())
        stale = {line for line, basis in self._basis.items() if basis != self._basis_of(line, tracks)}
        held = [(line, limit) for line, limit in self._held.items() if line in stale]
        self._let_go(stale.__contains__, but=frozenset(line for line, _ in held))
        for line, limit in held:
            self._spawn(self._release(line, limit))
        self.refresh()

    def left(self, identity: str) -> None:
        """A participant is gone."""
        self._let_go(lambda line: line.identity == identity)

    def unpublished(self, track_sid: str) -> None:
        """A track is gone."""
        self._let_go(lambda line: line.track_sid == track_sid and line not in self._restarting)
        self.refresh()

    def refresh(self) -> None:
        """Tracks, limits or policies are others: sets the terms that follow."""
        if not (self._held or self._terms or self._means.hands.concerns(self.name)):
            return
        tracks = list(self._tracks())
        wanted = of_lines(self._held, tracks, self._lines.at) if self._held else {}
        wanted |= of_hands(self._means.hands.of(self.name), tracks)
        before, self._terms = self._terms, wanted
        for place in before.keys() - wanted.keys():
            self._means.terms.limit(place.owner, self.name, place.identity, place.track_sid, None)
        for place, term in wanted.items():
            if before.get(place) != term:
                self._means.terms.limit(place.owner, self.name, place.identity, place.track_sid, term)

    # By hand.

    def before(self, line: Line, now: Moment) -> Measure:
        """What was measured of the line of late."""
        now_s = now.monotonic_s
        return self.adaptation.recent(line).between(now_s - self._timing.observe_s, now_s)

    def watch(self, message: QualityAction, line: Line, before: Measure, now: Moment) -> None:
        """An action that is none of the state machine's was done: what comes of it is looked at."""
        self._trials.begin(message, as_action(message, line, before, now), self._timing)

    # The state machine.

    def _policy(self, line: Line) -> Policy | None:
        if not self._means.terms.acting(self.name):
            return None
        tracks = list(self._tracks())
        policy = self._lines.policy(line, tracks)
        if policy is not None and policy.rungs(line.family):
            self._basis[line] = self._basis_of(line, tracks)
        return policy

    def _basis_of(self, line: Line, tracks: Iterable[Track]) -> frozenset[str]:
        return frozenset(policy.etag for policy in self._lines.holding(line, tracks))

    def _tracks(self) -> Iterable[Track]:
        live = self._means.rooms.followed(self.name)
        return live.model.tracks.values() if live is not None else ()

    def _let_go(self, gone: Callable[[Line], bool], *, but: frozenset[Line] = frozenset()) -> None:
        """Those lines are forgotten, and what they limit is released, except of those in ``but``, whose limits stay
        for now."""
        self.adaptation.drop(gone)
        for line in [line for line in self._basis if gone(line)]:
            del self._basis[line]
        for number in [number for number, pending in self._pending.items() if gone(pending.line)]:
            pending = self._pending.pop(number)
            if pending.stored:
                pending.message = judged(pending.message, None, None)
                self._spawn(self._judged(pending.message))
        lines = [line for line in self._held if gone(line) and line not in but]
        for line in lines:
            del self._held[line]
        if lines:
            self.refresh()

    # Carrying out, one after the other.

    async def _carry_out(self, actions: Sequence[Action]) -> None:
        async with self._turn:
            for action in actions:
                pending = self._pending.get(action.number)
                if pending is None:
                    # Its line was forgotten meanwhile.
                    continue
                if action.verdict is None:
                    await self._take(action, pending)
                else:
                    del self._pending[action.number]
                    pending.message = judged(pending.message, action.after, action.verdict)
                    await self._judged(pending.message)

    async def _take(self, action: Action, pending: _Pending) -> None:
        await self._store(pending.message)
        pending.stored = True
        if action.number not in self._pending:
            await self._judged(judged(pending.message, None, None))
            return
        line = action.line
        if not action.held:
            if line.family is Family.MEDIA:
                self._restarting.add(line)
                self._spawn(self._restart(action.number, pending))
            elif action.quality is None or action.quality == HIGH:
                self._held.pop(line, None)
            else:
                self._held[line] = Held(action.quality, action.kind, action.reason)
            self.refresh()
        self._tell(RoomEvent(quality_action_taken=pending.message), pending.message)

    async def _release(self, line: Line, limit: Held) -> None:
        """The line's policy is gone, or another."""
        now = self._means.assessing.clock.now()
        message = released(line, limit.kind, now)
        async with self._turn:
            await self._store(message)
            if self._held.get(line) is limit:
                del self._held[line]
                self.refresh()
        self._tell(RoomEvent(quality_action_taken=message), message)
        self.watch(message, line, self.before(line, now), now)

    async def _restart(self, number: int, pending: _Pending) -> None:
        line = pending.line
        try:
            kept = self._means.policies.kept(self.name, line.identity, line.track_sid)
            if kept is None:
                return
            request = RestartTrackRequest(room=self.name, track_sid=line.track_sid)
            cause = rule_cause(QUALITY_POLICY, pending.message.reason)
            try:
                answer = await self._means.restarts.restart(kept.creator, request, Deadline.after(_RESTART_S), cause)
            except TrackError as error:
                pending.message = carried_out(pending.message, Stage.STAGE_REQUESTED, error.problem())
            else:
                failed = answer.steps[-1].problem if answer.steps and answer.steps[-1].HasField("problem") else None
                pending.message = carried_out(pending.message, answer.stage, failed)
                sid = answer.publication.track_sid
                if sid and sid != line.track_sid and number in self._pending:
                    pending.line = replace(line, track_sid=sid)
                    self.adaptation.carry(line, pending.line)
                    self._basis[pending.line] = self._basis.pop(line, frozenset())
            await self._store(pending.message, version=1)
        finally:
            self._restarting.discard(line)

    async def _judged(self, message: QualityAction) -> None:
        await self._store(message, version=2)
        self._tell(RoomEvent(quality_action_judged=message), message)
        self._means.counted(message)

    def _tried(self, message: QualityAction) -> None:
        self._spawn(self._judged(message))

    async def _store(self, message: QualityAction, *, version: int = 0) -> None:
        """Returns once it is stored: nothing is done before. What follows waits as well."""
        while True:
            try:
                await self._means.history.add(self.name, message, version=version)
            except StoreError as error:
                log.warning("quality_action_waits_for_store", room=self.name, reason=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def _tell(self, event: RoomEvent, message: QualityAction) -> None:
        cause = EventCause(principal_identity=message.applied_by, reason=message.reason)
        event.cause.CopyFrom(cause if message.applied_by else rule_cause(QUALITY_POLICY, message.reason))
        self._means.rooms.announce(self.name, event)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def run() -> None:
            await work
            # This one is not counted any more when the next turn of the loop comes.
            asyncio.get_running_loop().call_soon(self._settled, self.name)

        with contextlib.suppress(Draining):
            self._tasks.spawn(run(), name=f"quality action in {self.name}")
