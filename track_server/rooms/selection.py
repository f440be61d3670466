"""Which events of a room are shown: by kind, and by a filter that is evaluated once an event, whoever asks."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from track.v1 import event_pb2
from track_server.cel import EventPredicate, compile_event_filter
from track_server.errors import InvalidExpression

_FIELD: Final = "filter"
# Events whose verdict is remembered: streams with the same filter come to the same event one right after the other.
_REMEMBERED: Final = 128
# CPU time of one evaluation that any filter may take; a simple one takes 0.01 ms.
_FREE_S: Final = 0.000_2
# What an evaluation takes beyond it is drawn from a store that holds so much, and gains so much a second: everybody
# waits meanwhile, and no filter may hold up the event loop for long.
_STORE_S: Final = 0.25
_GAIN: Final = 0.05


class EventFilter:
    """A filter over `event` and `room`, shared by all who have the same text. ``clock``: CPU time, in seconds."""

    def __init__(self, predicate: EventPredicate, clock: Callable[[], float] = time.thread_time) -> None:
        self._predicate = predicate
        self._clock = clock
        self._left_s = _STORE_S
        self._drawn_at = time.monotonic()
        self._verdicts: dict[int, tuple[event_pb2.RoomEvent, bool]] = {}
        """By identity of the event, which is held so that it stays its own; the newest last."""

    def matches(self, room: str, event: event_pb2.RoomEvent) -> bool:
        """Whether it holds of that event of the room; False where it fails. Raises InvalidExpression where it has
        taken too much time."""
        known = self._verdicts.get(id(event))
        if known is not None:
            return known[1]
        begun = self._clock()
        verdict = self._predicate(room, event)
        self._draw(self._clock() - begun)
        if len(self._verdicts) >= _REMEMBERED:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[id(event)] = (event, verdict)
        return verdict

    def _draw(self, took_s: float) -> None:
        if took_s <= _FREE_S:
            return
        now = time.monotonic()
        self._left_s = min(_STORE_S, self._left_s + (now - self._drawn_at) * _GAIN) - took_s
        self._drawn_at = now
        if self._left_s < 0:
            raise InvalidExpression("the filter takes too long", field=_FIELD)


@lru_cache(maxsize=1024)
def _shared(source: str) -> EventFilter | None:
    predicate = compile_event_filter(source, _FIELD)
    return EventFilter(predicate) if predicate is not None else None


@dataclass(frozen=True, slots=True)
class Selection:
    """What somebody wants to be told. ``kinds``: names of RoomEvent's `change`; empty: all. ``filter``: None: all."""

    kinds: frozenset[str] = frozenset()
    filter: EventFilter | None = None

    @classmethod
    def of(cls, kinds: Iterable[int], source: str) -> Self:
        """As a request has it: EventKinds, and CEL. Raises InvalidExpression (`filter`)."""
        return cls(frozenset(change_of(kind) for kind in kinds), _shared(source))

    @property
    def everything(self) -> bool:
        """Whether every event is shown."""
        return not self.kinds and self.filter is None

    def may_show(self, kinds: frozenset[str]) -> bool:
        """Whether an event of one of those kinds could be shown."""
        return not self.kinds or not self.kinds.isdisjoint(kinds)

    def matches(self, room: str, event: event_pb2.RoomEvent) -> bool:
        """Whether that event of the room is shown. Raises InvalidExpression where the filter takes too much time."""
        if self.kinds and event.WhichOneof("change") not in self.kinds:
            return False
        return self.filter is None or self.filter.matches(room, event)


def change_of(kind: int) -> str:
    """Name of the field of RoomEvent that an EventKind is. Raises KeyError for none."""
    return event_pb2.RoomEvent.DESCRIPTOR.fields_by_number[kind].name
