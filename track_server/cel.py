"""Filters and rules: CEL over the contract's messages (cel-expr-python), compiled once, checked against their types."""

import math
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from cel_expr_python import cel
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from track.permission.v1 import permission_service_pb2
from track.v1 import audit_pb2, egress_pb2, event_pb2, publication_pb2, track_pb2
from track_server.errors import InvalidExpression

Predicate = Callable[[Message], bool]
Condition = Callable[[Mapping[str, Message | str]], bool | None]
EventPredicate = Callable[[str, event_pb2.RoomEvent], bool]
"""Of a room's name and an event of it."""

CONTAINER: Final = "track.v1"
VARIABLES: Final = {
    "track": track_pb2.Track.DESCRIPTOR.full_name,
    "publication": publication_pb2.Publication.DESCRIPTOR.full_name,
    "participant": track_pb2.Participant.DESCRIPTOR.full_name,
    "entry": audit_pb2.AuditEntry.DESCRIPTOR.full_name,
    "egress": egress_pb2.TrackEgress.DESCRIPTOR.full_name,
    "event": event_pb2.RoomEvent.DESCRIPTOR.full_name,
    "check": permission_service_pb2.CheckPermissionRequest.DESCRIPTOR.full_name,
    "issue": permission_service_pb2.IssueTrackTokenRequest.DESCRIPTOR.full_name,
}
"""What an expression may speak of, and its type."""
TEXTS: Final = frozenset({"room"})
"""Likewise: names that are strings."""

# `ERROR: <input>:LINE:COLUMN: what is wrong`, then a picture of the place.
_FAULT: Final = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)")

# Native code cannot be interrupted, and compiles a pattern each time that it is evaluated: 0.02 ms for a plain one,
# 10 ms for one that counts high (`(x{1,31}){1,31}`), times 10,000 where it stands in a macro.
_MATCHES: Final = re.compile(r"\bmatches\b")
_CHEAP_MATCHES: Final = re.compile(
    r"""\.\s*matches\s*\(\s*(?:r?"(?P<a>[^"'\\\n]*)"|r?'(?P<b>[^"'\\\n]*)'|r"(?P<c>[^"'\n]*)"|r'(?P<d>[^"'\n]*)')\s*\)"""
)
_MACRO: Final = re.compile(r"\b(?:all|exists|exists_one|map|filter)\s*\(")
_CLASS_OF_MANY: Final = re.compile(r"\\[pPQ]")
_COUNT: Final = re.compile(r"\{(\d*),?(\d*)\}")
# How many times, how long, and how often repeated: without a macro and with one.
_CHEAP: Final = (8, 200, 100)
_CHEAP_IN_MACROS: Final = (2, 64, 1)
# Macros go through 10,000 elements at most, each time through what stands in them: 0.1 s for as long a text as this.
_MACROS_LENGTH: Final = 512
_BUDGET_S: Final = 0.25


@lru_cache(maxsize=1024)
def compile_filter(source: str, variable: str, field: str = "filter") -> Predicate | None:
    """The predicate of ``source`` over one ``variable``; None for the empty filter, which matches everything.

    The predicate is False where the evaluation fails (a missing key, an exhausted budget). Raises InvalidExpression
    with the position where the expression does not compile or is no bool; ``field``: the request's field with it.
    """
    if not source.strip():
        return None
    _refuse_costly(source, field)
    condition = compile_condition(source, (variable,), field)

    def matches(message: Message) -> bool:
        return condition({variable: message}) is True

    return matches


@lru_cache(maxsize=1024)
def compile_event_filter(source: str, field: str = "filter") -> EventPredicate | None:
    """`compile_filter` over `event` and `room`, the name of its room."""
    if not source.strip():
        return None
    _refuse_costly(source, field)
    condition = compile_condition(source, ("event", "room"), field)
    return lambda room, event: condition({"event": event, "room": room}) is True


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


def _refuse_costly(source: str, field: str) -> None:
    """Raises InvalidExpression where one evaluation of a stranger's expression may take too long: several macros in a
    long text, or a pattern of `matches` that is long, counts high or is no literal.

    By the text: what cannot be told for sure is refused.
    """
    macros = len(_MACRO.findall(source))
    if macros > 1 and len(source) > _MACROS_LENGTH:
        raise InvalidExpression(
            f"the {field.rpartition('.')[2]} may take too long: with more than one macro it may have {_MACROS_LENGTH}"
            " characters",
            field=field,
        )
    found = len(_MATCHES.findall(source))
    if not found:
        return
    times, length, repeated = _CHEAP_IN_MACROS if macros else _CHEAP
    patterns = ["".join(filter(None, call.groups())) for call in _CHEAP_MATCHES.finditer(source)]
    if (
        found != len(patterns)
        or found > times
        or any(len(pattern) > length or _repetitions(pattern) > repeated for pattern in patterns)
    ):
        name = field.rpartition(".")[2]
        raise InvalidExpression(
            f"the {name} may take too long: `matches` takes a literal of up to {length} characters that counts up to"
            f" {repeated}, {times} times",
            field=field,
        )


def _repetitions(pattern: str) -> float:
    """How often a part of the pattern is repeated at most: the product of all that it counts."""
    if _CLASS_OF_MANY.search(pattern):
        return math.inf
    return math.prod(max(int(number or 1) for number in counts) for counts in _COUNT.findall(pattern))


def compile_condition(source: str, variables: tuple[str, ...], field: str) -> Condition:
    """The condition ``source`` over ``variables``, all of which its argument must have.

    It gives None where the evaluation fails (a missing key, an exhausted budget) or ends in no bool. Raises
    InvalidExpression as `compile_filter` does, for the empty expression too.
    """
    name = field.rpartition(".")[2]
    try:
        compiled = _environment(variables).compile(source)
    except RuntimeError as error:
        raise _located(str(error), name, field) from error
    if compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise InvalidExpression(
            f"the {name} must be a bool, but is {compiled.return_type().name()}",
            field=field,
            metadata={"line": "1", "column": "1"},
        )

    def holds(values: Mapping[str, Message | str]) -> bool | None:
        try:
            # An error of the evaluation is a value, of type ERROR and with its text.
            value: Any = compiled.eval(data=values).value()
        except RuntimeError:  # the budget is exhausted
            return None
        return value if isinstance(value, bool) else None

    return holds


@lru_cache(maxsize=64)
def _environment(variables: tuple[str, ...]) -> cel.Env:
    return cel.NewEnv(
        descriptor_pool.Default(),
        variables={
            variable: cel.Type.STRING if variable in TEXTS else cel.Type(VARIABLES[variable]) for variable in variables
        },
        container=CONTAINER,
    )


def _located(text: str, name: str, field: str) -> InvalidExpression:
    fault = _FAULT.search(text)
    if fault is None:
        return InvalidExpression(f"the {name} does not compile", field=field)
    line, column, what = fault[1], int(fault[2]), fault[3].removesuffix(" [INVALID_ARGUMENT]")
    return InvalidExpression(
        f"the {name} does not compile: line {line}, column {column}: {what}",
        field=field,
        metadata={"line": line, "column": str(column)},
    )
