"""Filters and conditions as predicates."""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import Message

from track.v1 import event_pb2
from track_server.cel.costs import refuse_costly
from track_server.cel.environment import compile_bool
from track_server.cel.tree import checked
from track_server.errors import InvalidExpression

Predicate = Callable[[Message], bool]
Condition = Callable[[Mapping[str, Message | str]], bool | None]
EventPredicate = Callable[[str, event_pb2.RoomEvent], bool]
"""Of a room's name and an event of it."""

_BUDGET_S: Final = 0.25


@lru_cache(maxsize=1024)
def compile_filter(source: str, variable: str, field: str = "filter") -> Predicate | None:
    """The predicate of ``source`` over one ``variable``; None for the empty filter, which matches everything.

    The predicate is False where the evaluation fails (a missing key, an exhausted budget). Raises InvalidExpression
    with the position where the expression does not compile or is no bool; ``field``: the request's field with it.
    """
    if not source.strip():
        return None
    refuse_costly(source, field)
    whole = checked(source, (variable,), field).whole()

    def matches(message: Message) -> bool:
        return whole.evaluate({variable: message}) is True

    return matches


@lru_cache(maxsize=1024)
def compile_event_filter(source: str, field: str = "filter") -> EventPredicate | None:
    """`compile_filter` over `event` and `room`, the name of its room."""
    if not source.strip():
        return None
    refuse_costly(source, field)
    whole = checked(source, ("event", "room"), field).whole()
    return lambda room, event: whole.evaluate({"event": event, "room": room}) is True


def in_time(matches: Predicate | None, field: str = "filter") -> Predicate:
    """The predicate for one call: it raises InvalidExpression once it has taken a quarter of a second in all.

    It is evaluated on the event loop, and everybody waits meanwhile.
    """
    if matches is None:
        return lambda message: True
    left_s = _BUDGET_S

    def timed(message: Message) -> bool:
        nonlocal left_s
        begun = time.perf_counter()
        found = matches(message)
        left_s -= time.perf_counter() - begun
        if left_s < 0:
            raise InvalidExpression(f"the {field} takes too long", field=field)
        return found

    return timed


def compile_condition(source: str, variables: tuple[str, ...], field: str) -> Condition:
    """The condition ``source`` over ``variables``, all of which its argument must have.

    It gives None where the evaluation fails (a missing key, an exhausted budget) or ends in no bool. Raises
    InvalidExpression as `compile_filter` does, for the empty expression too.
    """
    compiled = compile_bool(source, variables, field)

    def holds(values: Mapping[str, Message | str]) -> bool | None:
        try:
            # An error of the evaluation is a value, of type ERROR and with its text.
            value: Any = compiled.eval(data=values).value()
        except RuntimeError:  # the budget is exhausted
            return None
        return value if isinstance(value, bool) else None

    return holds
