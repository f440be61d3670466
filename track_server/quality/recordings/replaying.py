"""What a recorded room would have been told, and what would have been done, as events. Pure."""

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from track.v1.event_pb2 import RoomEvent
from track.v1.quality_policy_pb2 import QualityAction, QualityPolicy
from track_server.durations import timestamp_at
from track_server.quality.acting.messages import judged, taken
from track_server.quality.alerts.book import Book
from track_server.quality.clock import Moment
from track_server.quality.core.adapting.action import Action
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.recording import replay
from track_server.quality.policies.reading import policy_of, timing_of


class Replayed(NamedTuple):
    """``at_s``: seconds after the first line. The event has its time where the recording tells what time it was."""

    at_s: float
    event: RoomEvent


class Replaying:
    """Replays one recording. ``policy``: what may be done, to everybody in the room; ``seed``: of what is held back."""

    def __init__(self, policy: QualityPolicy, seed: int) -> None:
        core, timing = policy_of(policy), timing_of(policy.timing)
        acts = bool(policy.allowed_actions)
        self._assessment = Assessment(Adaptation(lambda _: core, timing, random.Random(seed)) if acts else None)
        # The same in each replay.
        numbers = itertools.count(1)
        self._book = Book(self._assessment, lambda: f"QA_{next(numbers)}")
        self._actions: dict[int, QualityAction] = {}
        self._ahead_s: float | None = None
        """What the time of day, in seconds since 1970, is ahead of the lines."""

    def events(self, lines: Iterable[str]) -> Iterator[Replayed]:
        """What happens at each tick. Raises BadRecording."""
        begin_s: float | None = None
        for now_s, assessed in replay(lines, self._assessment, clock=self._set):
            begin_s = now_s if begin_s is None else begin_s
            moment = Moment(now_s + (self._ahead_s or 0.0), now_s)
            for event in self._found(assessed, moment):
                event.time.CopyFrom(timestamp_at(moment.time_s))
                if self._ahead_s is None:
                    _forget_times(event)
                yield Replayed(now_s - begin_s, event)

    def _set(self, at_s: float, time_s: float) -> None:
        self._ahead_s = time_s - at_s

    def _found(self, assessed: Assessed, moment: Moment) -> Iterator[RoomEvent]:
        yield from self._book.tick(assessed, moment)
        for action in assessed.actions:
            yield self._action(action, moment)

    def _action(self, action: Action, moment: Moment) -> RoomEvent:
        known = self._actions.get(action.number)
        if known is None or action.verdict is None:
            known = self._actions[action.number] = taken(action, moment)
            # Nobody did it, and its id is the same in each replay.
            known.action_id = f"QX_{action.number}"
            known.ClearField("stage")
            return RoomEvent(quality_action_taken=known)
        return RoomEvent(quality_action_judged=judged(known, action.after, action.verdict))


def _forget_times(event: RoomEvent) -> None:
    """A recording that does not say what time it was gives none."""
    event.ClearField("time")
    change = event.WhichOneof("change")
    if change == "quality_alert_started":
        event.quality_alert_started.ClearField("start_time")
        event.quality_alert_started.evidence.ClearField("since_time")
    elif change == "quality_alert_ended":
        event.quality_alert_ended.ClearField("start_time")
        event.quality_alert_ended.ClearField("end_time")
        event.quality_alert_ended.evidence.ClearField("since_time")
    elif change == "quality_action_taken":
        event.quality_action_taken.ClearField("time")
    elif change == "quality_action_judged":
        event.quality_action_judged.ClearField("time")
