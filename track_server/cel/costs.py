"""Expressions whose evaluation may take too long: it cannot be interrupted, and everybody waits meanwhile."""

import math
import re
from typing import Final

from track_server.errors import InvalidExpression

# Native code cannot be interrupted, and compiles a pattern each time that it is evaluated: 0.02 ms for a plain one,
# 10 ms for one that counts high (`(x{1,31}){1,31}`), times 10,000 where it stands in a macro.
_MATCHES: Final = re.compile(r"\bmatches\b")
_CHEAP_MATCHES: Final = re.compile(
    r"""\.\s*matches\s*\(\s*(?:r?"(?P<a>[^"'\\\n]*)"|r?'(?P<b>[^"'\\\n]*)'|r"(?P<c>[^"'\n]*)"|r'(?P<d>[^"'\n]*)')\s*\)"""
)
_MACRO: Final = re.compile(r"\b(?:all|exists|exists_one|map|filter)(?:\s|//[^\n]*\n)*\(")
_CLASS_OF_MANY: Final = re.compile(r"\\[pPQ]")
_COUNT: Final = re.compile(r"\{(\d*),?(\d*)\}")
# How many times, how long, and how often repeated: without a macro and with one.
_CHEAP: Final = (8, 200, 100)
_CHEAP_IN_MACROS: Final = (2, 64, 1)
# Macros go through 10,000 elements at most, each time through what stands in them: 0.1 s for as long a text as this.
_MACROS_LENGTH: Final = 512


def refuse_costly(source: str, field: str) -> None:
    """Raises InvalidExpression where one evaluation of a stranger's expression may take too long: several macros in a
    long text, or a pattern of `matches` that is long, counts high or is no literal.

    By the text: what cannot be told for sure is refused.
    """
    macros = macros_in(source)
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


def macros_in(source: str) -> int:
    """How many macros that go through elements are in the text, at most."""
    return len(_MACRO.findall(source))


def _repetitions(pattern: str) -> float:
    """How often a part of the pattern is repeated at most: the product of all that it counts."""
    if _CLASS_OF_MANY.search(pattern):
        return math.inf
    return math.prod(max(int(number or 1) for number in counts) for counts in _COUNT.findall(pattern))
