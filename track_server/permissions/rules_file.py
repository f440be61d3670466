"""The rules file: TOML, one `[[rule]]` after the other. docs/permissions.md describes every key."""

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from track.v1.access_pb2 import Permission
from track.v1.publication_pb2 import VideoCodec
from track.v1.track_pb2 import TrackSource
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.cel import Condition, compile_condition
from track_server.errors import InvalidExpression
from track_server.permissions.rules import DEFAULT_LIFETIME_S, PERMISSIONS, Rule, RuleSet

_OBLIGATIONS: Final = (
    "max_bitrate_bps",
    "max_width",
    "max_height",
    "max_frames_per_second",
    "sources",
    "codecs",
    "max_tracks",
)
KEYS: Final = ("name", "permissions", "when", "effect", "reason", "lifetime", *_OBLIGATIONS)
_EFFECTS: Final = ("allow", "deny")
# What obligations are heard for: publishing, and tokens to publish with.
_PUBLISHING: Final = frozenset({Permission.PERMISSION_PUBLISH, Permission.PERMISSION_CREATE_TOKEN})

_LIFETIME: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)")
_UNITS_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_LONGEST_S: Final = 24 * 3600.0
_MAX_TEXT: Final = 500
_MAX_CONDITION: Final = 16_384
_INT32: Final = 2**31 - 1
_ALWAYS: Final = "true"


class RulesError(ValueError):
    """The rules cannot be taken; ``sentences``: what is wrong, each with the name of its rule."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__("\n".join(self.sentences))


def parse(raw: bytes) -> RuleSet:
    """The rules of a file's contents. Raises RulesError with all that is wrong.

    A file without rules is wrong too: more likely it is just being written than meant to deny everything.
    """
    try:
        document = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise RulesError([f"the file is no UTF-8 text at byte {error.start}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise RulesError([f"the file is no TOML: {error}"]) from error
    except RecursionError as error:
        raise RulesError(["the file is nested too deeply"]) from error
    faults = [f"there is no key {key!r} here: the file is a list of [[rule]]" for key in document if key != "rule"]
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RulesError([*faults, "rules are written as [[rule]], with two brackets"])
    if not tables:
        raise RulesError([*faults, "the file has no [[rule]]: to deny everything, write one that does"])
    rules: list[Rule] = []
    for number, table in enumerate(tables, 1):
        reading = _Reading(table, number)
        rule = reading.rule()
        faults += reading.faults
        if rule is not None:
            faults += _contradictions(rule, rules)
            rules.append(rule)
    if faults:
        raise RulesError(faults)
    return RuleSet(rules)


def _contradictions(rule: Rule, before: list[Rule]) -> list[str]:
    faults = []
    if any(other.name == rule.name for other in before):
        faults.append(f"rule {rule.name!r}: another rule has the same name")
    for other in before:
        # Where the condition fails, a rule that denies matches and one that allows does not.
        same = other.when == rule.when and (rule.allows or not other.allows)
        if (same or other.when == _ALWAYS) and other.permissions >= rule.permissions:
            faults.append(f"rule {rule.name!r}: it never decides, because rule {other.name!r} before it always does")
            break
    return faults


class _Reading:
    """One table on its way to a rule. ``faults``: what was found wrong so far."""

    def __init__(self, table: Mapping[str, Any], number: int) -> None:
        self._table = table
        name = table.get("name")
        self._called = f"rule {name!r}" if isinstance(name, str) and name else f"rule number {number}"
        self.faults: list[str] = []

    def rule(self) -> Rule | None:
        """The rule; None where something is wrong with it."""
        for key in self._table:
            if key not in KEYS:
                self._wrong(f"there is no key {key!r}; there are {', '.join(KEYS)}")
        name = self._text("name", required=True)
        permissions = self._permissions()
        when = self._text("when", required=True, longest=_MAX_CONDITION).strip()
        condition = self._condition(when) if when else None
        effect = self._text("effect") or "allow"
        if effect not in _EFFECTS:
            self._wrong(f"effect must be 'allow' or 'deny', and is {effect!r}")
        reason = self._text("reason")
        lifetime_s = self._lifetime()
        obligations = self._obligations()
        if obligations != UNBOUNDED:
            if effect == "deny":
                self._wrong("a rule that denies has no obligations: leave out " + self._given_obligations())
            elif permissions and not permissions & _PUBLISHING:
                self._wrong(
                    f"{self._given_obligations()} would have no effect: its permissions have neither PUBLISH nor"
                    " CREATE_TOKEN"
                )
        if self.faults or condition is None:
            return None
        return Rule(name, permissions, when, condition, effect == "allow", reason, lifetime_s, obligations)

    def _wrong(self, what: str) -> None:
        self.faults.append(f"{self._called}: {what}")

    def _text(self, key: str, *, required: bool = False, longest: int = _MAX_TEXT) -> str:
        value = self._table.get(key, "")
        if not isinstance(value, str):
            self._wrong(f"{key} must be text in quotes, and is {value!r}")
            return ""
        if len(value) > longest:
            self._wrong(f"{key} is longer than {longest} characters")
        if required and not value.strip():
            hint = '; for a rule that always matches write "true"' if key == "when" else ""
            self._wrong(f"{key} is missing{hint}")
        return value

    def _condition(self, when: str) -> Condition | None:
        try:
            return compile_condition(when, ("check", "issue"), "condition")
        except InvalidExpression as error:
            self._wrong(error.message)
            return None

    def _permissions(self) -> frozenset["Permission.ValueType"]:
        if "permissions" not in self._table:
            return PERMISSIONS
        found = self._names("permissions", Permission.items(), "PERMISSION_")
        return frozenset(Permission.ValueType(number) for number in found)

    def _lifetime(self) -> float:
        if "lifetime" not in self._table:
            return DEFAULT_LIFETIME_S
        value = self._table["lifetime"]
        match = _LIFETIME.fullmatch(value) if isinstance(value, str) else None
        seconds = float(match[1]) * _UNITS_S[match[2]] if match else math.inf
        if seconds > _LONGEST_S:
            self._wrong(f"lifetime must be a span up to 24h such as '30s', '5m' or '0s' (not kept), and is {value!r}")
            return DEFAULT_LIFETIME_S
        return seconds

    def _obligations(self) -> Bounds:
        sources = self._names("sources", TrackSource.items(), "TRACK_SOURCE_")
        codecs = self._names("codecs", VideoCodec.items(), "VIDEO_CODEC_")
        return Bounds(
            max_bitrate_bps=self._count("max_bitrate_bps"),
            max_width=self._count("max_width"),
            max_height=self._count("max_height"),
            max_frames_per_second=self._rate("max_frames_per_second"),
            sources=frozenset(TrackSource.ValueType(number) for number in sources) or None,
            codecs=frozenset(VideoCodec.ValueType(number) for number in codecs) or None,
            max_tracks=self._count("max_tracks"),
        )

    def _given_obligations(self) -> str:
        return ", ".join(key for key in _OBLIGATIONS if key in self._table)

    def _count(self, key: str) -> int | None:
        value = self._table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _INT32:
            self._wrong(f"{key} must be a whole number from 1 to {_INT32}, and is {value!r}")
            return None
        return value

    def _rate(self, key: str) -> float | None:
        value = self._table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            self._wrong(f"{key} must be a number above 0, and is {value!r}")
            return None
        return float(value)

    def _names(self, key: str, known: Iterable[tuple[str, int]], prefix: str) -> list[int]:
        """The values of names that are written without ``prefix``; UNSPECIFIED is none."""
        if key not in self._table:
            return []
        numbers = {name.removeprefix(prefix): number for name, number in known if number != 0}
        given = self._table[key]
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            self._wrong(f"{key} must be a list of names such as [{next(iter(numbers))!r}], and is {given!r}")
            return []
        if not given:
            self._wrong(f"{key} is empty: leave it out, or name some")
        for name in dict.fromkeys(given):
            if name not in numbers:
                self._wrong(f"{key}: there is no {name!r}; there are {', '.join(numbers)}")
            elif given.count(name) > 1:
                self._wrong(f"{key}: {name!r} is there more than once")
        return [numbers[name] for name in given if name in numbers]
