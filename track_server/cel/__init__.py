"""Filters and rules: CEL over the contract's messages (cel-expr-python), compiled once, checked against their types."""

from track_server.cel.costs import refuse_costly
from track_server.cel.environment import CONTAINER, TEXTS, VARIABLES
from track_server.cel.expressions import (
    Condition,
    EventPredicate,
    Predicate,
    compile_condition,
    compile_event_filter,
    compile_filter,
    in_time,
)
from track_server.cel.syntax import Path
from track_server.cel.tree import (
    EXHAUSTED,
    Checked,
    Failure,
    Leaf,
    Outcome,
    Tree,
    checked,
    hopeless,
    outcome,
    simplified,
)
from track_server.cel.values import at

__all__ = [
    "CONTAINER",
    "EXHAUSTED",
    "TEXTS",
    "VARIABLES",
    "Checked",
    "Condition",
    "EventPredicate",
    "Failure",
    "Leaf",
    "Outcome",
    "Path",
    "Predicate",
    "Tree",
    "at",
    "checked",
    "compile_condition",
    "compile_event_filter",
    "compile_filter",
    "hopeless",
    "in_time",
    "outcome",
    "refuse_costly",
    "simplified",
]
