"""Filters and rules: CEL over the contract's messages (cel-expr-python), compiled once, checked against their types."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cel_expr_python import cel
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from track.v1 import publication_pb2, track_pb2
from track_server.errors import InvalidExpression

Predicate = Callable[[Message], bool]

CONTAINER: Final = "track.v1"
VARIABLES: Final = {
    "track": track_pb2.Track.DESCRIPTOR.full_name,
    "publication": publication_pb2.Publication.DESCRIPTOR.full_name,
}
"""What an expression may speak of, and its type."""

# `ERROR: <input>:LINE:COLUMN: what is wrong`, then a picture of the place.
_FAULT: Final = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)")


@lru_cache(maxsize=1024)
def compile_filter(source: str, variable: str) -> Predicate | None:
    """The predicate of ``source`` over one ``variable``; None for the empty filter, which matches everything.

    The predicate is False where the evaluation fails (a missing key). Raises InvalidExpression with the position where
    the expression does not compile or is no bool.
    """
    if not source.strip():
        return None
    environment = _environment(variable)
    try:
        compiled = environment.compile(source)
    except RuntimeError as error:
        raise _located(str(error)) from error
    if compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise InvalidExpression(
            f"the filter must be a bool, but is {compiled.return_type().name()}",
            field="filter",
            metadata={"line": "1", "column": "1"},
        )

    def matches(message: Message) -> bool:
        return compiled.eval(data={variable: message}).value() is True

    return matches


@lru_cache(maxsize=len(VARIABLES))
def _environment(variable: str) -> cel.Env:
    return cel.NewEnv(
        descriptor_pool.Default(), variables={variable: cel.Type(VARIABLES[variable])}, container=CONTAINER
    )


def _located(text: str) -> InvalidExpression:
    fault = _FAULT.search(text)
    if fault is None:
        return InvalidExpression("the filter does not compile", field="filter")
    line, column, what = fault[1], int(fault[2]), fault[3].removesuffix(" [INVALID_ARGUMENT]")
    return InvalidExpression(
        f"the filter does not compile: line {line}, column {column}: {what}",
        field="filter",
        metadata={"line": line, "column": str(column)},
    )
