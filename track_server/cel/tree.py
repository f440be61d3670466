"""An expression in its parts: what each reads, and their outcome put together.

An `a && b` of which a reads one thing and b another can so be evaluated as two, each as seldom as what it reads
changes. The parts are put together as CEL does it: an error counts only where the other parts leave it open.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cel_expr_python import cel
from google.protobuf.message import Message

from track_server.cel.environment import compile_bool, environment
from track_server.cel.syntax import Path, Syntax, call_of, loops, paths
from track_server.cel.values import at, extent


@dataclass(frozen=True, slots=True)
class Failure:
    """An evaluation failed. ``text``: why, for callers."""

    text: str


EXHAUSTED: Final = Failure("it takes too many steps")
"""Macros go through more elements than are allowed, or in more data."""

_MOST_IN_MACROS: Final = 4096
"""Bytes of each thing that is read beside a macro. It may be looked at as a whole for each of its own elements
(`x.all(y, x == x)`): 0.4 s for as much as this, 30 s for 100 kB."""
_MOST_PARTS: Final = 16
"""Each is compiled with the types of the whole: 230 parts of 4 kB take 0.2 s."""

Outcome: TypeAlias = bool | Failure


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A part that is evaluated as a whole. ``variables``: which it reads, sorted; ``reads``: which paths of them."""

    variables: tuple[str, ...]
    reads: frozenset[Path]
    evaluate: Callable[[Mapping[str, Message | str]], Outcome]


class Logic(enum.Enum):
    """How parts are put together, by the name of CEL's function."""

    AND = "_&&_"
    OR = "_||_"
    NOT = "!_"
    IF = "_?_:_"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Parts put together."""

    logic: Logic
    parts: tuple["Tree", ...]


Tree: TypeAlias = Leaf | Node | Outcome
"""An outcome stands for a part of which it is known."""

_LOGIC: Final = {logic.value: logic for logic in Logic}
_MISSING: Final = "Key not found in map : "


def outcome(tree: Tree, of: Callable[[Leaf], Outcome]) -> Outcome:
    """What the whole comes to, where ``of`` tells what its leaves do."""
    if isinstance(tree, Leaf):
        return of(tree)
    if not isinstance(tree, Node):
        return tree
    parts = tree.parts
    if tree.logic is Logic.NOT:
        found = outcome(parts[0], of)
        return found if isinstance(found, Failure) else not found
    if tree.logic is Logic.IF:
        chosen = outcome(parts[0], of)
        return chosen if isinstance(chosen, Failure) else outcome(parts[1 if chosen else 2], of)
    decisive = tree.logic is Logic.OR
    failure: Failure | None = None
    for part in parts:
        found = outcome(part, of)
        if found is decisive:
            return decisive
        if isinstance(found, Failure) and failure is None:
            failure = found
    return not decisive if failure is None else failure


def simplified(tree: Tree, known: Callable[[Leaf], Outcome | None]) -> Tree:
    """The tree with the outcome of those leaves that is ``known``, and without what that makes superfluous."""
    if isinstance(tree, Leaf):
        found = known(tree)
        return tree if found is None else found
    if not isinstance(tree, Node):
        return tree
    if tree.logic is Logic.IF:
        asked = simplified(tree.parts[0], known)
        if isinstance(asked, bool):
            return simplified(tree.parts[1 if asked else 2], known)
        return asked if isinstance(asked, Failure) else Node(Logic.IF, (asked, *tree.parts[1:]))
    parts = [simplified(part, known) for part in tree.parts]
    if tree.logic is Logic.NOT:
        (part,) = parts
        return not part if isinstance(part, bool) else part if isinstance(part, Failure) else Node(Logic.NOT, (part,))
    decisive = tree.logic is Logic.OR
    if any(part is decisive for part in parts):
        return decisive
    left = [part for part in parts if not isinstance(part, bool)]
    if not left:
        return not decisive
    return left[0] if len(left) == 1 else Node(tree.logic, tuple(left))


def hopeless(tree: Tree) -> bool:
    """Whether it is certainly not true."""
    if isinstance(tree, Node):
        return tree.logic is Logic.AND and any(hopeless(part) for part in tree.parts)
    return not isinstance(tree, Leaf) and tree is not True


class Checked:
    """A compiled condition, taken apart as it is wanted."""

    def __init__(self, source: str, variables: tuple[str, ...], field: str) -> None:
        self._environment = environment(variables)
        self._variables = frozenset(variables)
        self._syntax = Syntax(compile_bool(source, variables, field).serialize())
        self.reads: Final = paths(self._syntax.root, self._variables)
        """Of all that it reads: ("track", "metadata", "role"), or ("track",) where it reads all of it."""

    def tree(self, whole: Callable[[frozenset[Path]], bool]) -> Tree:
        """Its parts: one is a leaf where ``whole`` says so of what it reads, or where it is not put together of others
        by logic. Of more than _MOST_PARTS it is one leaf."""
        root = self._syntax.root
        return self._part(root, whole) if self._count(root, whole) <= _MOST_PARTS else self.whole()

    def whole(self) -> Leaf:
        """All of it, not taken apart."""
        return self._leaf(self._syntax.root, self.reads)

    def _count(self, expression: bytes, whole: Callable[[frozenset[Path]], bool]) -> int:
        """How many leaves it would have."""
        function, arguments = call_of(expression)
        if function not in _LOGIC or whole(paths(expression, self._variables)):
            return 1
        return sum(self._count(argument, whole) for argument in arguments)

    def _part(self, expression: bytes, whole: Callable[[frozenset[Path]], bool]) -> Tree:
        reads = paths(expression, self._variables)
        if not whole(reads):
            function, arguments = call_of(expression)
            if function in _LOGIC:
                return Node(_LOGIC[function], tuple(self._part(argument, whole) for argument in arguments))
        return self._leaf(expression, reads)

    def _leaf(self, expression: bytes, reads: frozenset[Path]) -> Leaf:
        compiled = self._environment.deserialize(self._syntax.alone(expression))
        variables = tuple(sorted({variable for variable, *_ in reads}))
        bounded = reads if loops(expression) else frozenset[Path]()

        def evaluate(values: Mapping[str, Message | str]) -> Outcome:
            for variable, *steps in bounded:
                value = values[variable]
                if extent(at(value, steps) if isinstance(value, Message) else value) > _MOST_IN_MACROS:
                    return EXHAUSTED
            try:
                value = compiled.eval(data={name: values[name] for name in variables})
                found: Any = value.value()
            except RuntimeError:
                return EXHAUSTED
            if isinstance(found, bool):
                return found
            if value.type() == cel.Type.ERROR:
                return Failure(_told(str(found)))
            return Failure(f"it is no bool, but {value.type().name()}")

        return Leaf(variables, reads, evaluate)


def checked(source: str, variables: tuple[str, ...], field: str) -> Checked:
    """The condition ``source`` over ``variables``. Raises InvalidExpression as `compile_condition` does."""
    return Checked(source, variables, field)


def _told(text: str) -> str:
    """What native code says went wrong, without its status code."""
    _, separator, what = text.partition(": ")
    said = what if separator else text
    return f"no key {said.removeprefix(_MISSING)}" if said.startswith(_MISSING) else said
