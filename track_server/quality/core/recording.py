"""Recorded readings: one JSON object a line, and what a room would have made of them. Pure: lines in, lines out.

| key | what |
|---|---|
| `at` | when it happened, monotonic seconds; never falling |
| `kind` | `begin`, `end`, `readings`, `expect`, `receives`; `tick`, `clock` |
| `flow` | `[track SID, hop, identity]`; not of the last two |
| the rest | by kind: the fields of Subject, Reading, Expected; `layer`; of `clock` `time_s`, seconds since 1970 |

What is not told is left out. From the first `tick` on a room looks at what came at each of them; before, and where
there is none, once a second.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, asdict, fields
from typing import Any, Final, TypeGuard

from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Hop, Limitation, Media, Reading, Source
from track_server.quality.core.scoring.score import Picture
from track_server.quality.core.watch import Subject

_DEFAULTS: Final = {field.name: field.default for field in fields(Reading) if field.default is not MISSING}


LONGEST_GAP_S: Final = 86_400.0
"""Between two lines, in seconds."""

_LARGEST: Final = 2**53
"""No counter or time is larger, in either direction; NaN and infinite numbers are none."""

_KINDS: Final = ("begin", "end", "readings", "expect", "receives", "tick", "clock")
_FLOWLESS: Final = ("tick", "clock")
_FIELDS: Final = frozenset(field.name for field in fields(Reading))
_NEEDED: Final = tuple(field.name for field in fields(Reading) if field.default is MISSING)
_EXPECTED: Final = frozenset(field.name for field in fields(Expected))
_PICTURE: Final = frozenset(field.name for field in fields(Picture))


class BadLine(ValueError):
    """What is wrong with a line."""


class BadRecording(ValueError):
    """A line that is none of ours. ``line``: its number, from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


def readings_line(at_s: float, flow: Flow, readings: Iterable[Reading]) -> str:
    """A line of readings of one source."""
    told = [
        {name: value for name, value in asdict(reading).items() if value != _DEFAULTS.get(name, MISSING)}
        for reading in readings
    ]
    return _line(at_s, "readings", flow, {"readings": told})


def begin_line(at_s: float, flow: Flow, subject: Subject) -> str:
    """A track, or a subscription to it, begins."""
    return _line(at_s, "begin", flow, {"subject": asdict(subject)})


def end_line(at_s: float, flow: Flow) -> str:
    """It ends."""
    return _line(at_s, "end", flow, {})


def expect_line(at_s: float, flow: Flow, expected: Expected) -> str:
    """Whether media ought to come."""
    return _line(at_s, "expect", flow, {"expected": asdict(expected)})


def receives_line(at_s: float, flow: Flow, layer: int | None) -> str:
    """Which layer arrives."""
    return _line(at_s, "receives", flow, {"layer": layer})


def tick_line(at_s: float) -> str:
    """A room looked at all that came."""
    return json.dumps({"at": at_s, "kind": "tick"})


def clock_line(at_s: float, time_s: float) -> str:
    """What time of day it was, in seconds since 1970 UTC."""
    return json.dumps({"at": at_s, "kind": "clock", "time_s": time_s})


def replay(
    lines: Iterable[str],
    assessment: Assessment,
    tick_s: float = 1.0,
    *,
    clock: Callable[[float, float], None] = lambda _at_s, _time_s: None,
) -> Iterator[tuple[float, Assessed]]:
    """What ``assessment`` says at each tick, with the tick's time. Raises BadRecording.

    ``clock``: told what time of day it was at a time of the lines.
    """
    next_s: float | None = None
    last_s = -math.inf
    told = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry, at_s = _entry(line, last_s)
            kind = entry.get("kind")
            if kind == "clock":
                clock(at_s, _number(entry, "time_s"))
            flow = None if kind in _FLOWLESS else _flow(entry)
        except BadLine as error:
            raise BadRecording(number, str(error)) from error
        last_s = at_s
        if next_s is None:
            next_s = at_s + tick_s
        while not told and at_s > next_s:
            yield next_s, assessment.tick(next_s)
            next_s += tick_s
        if kind == "tick":
            told = True
            yield at_s, assessment.tick(at_s)
        elif flow is not None:
            try:
                _apply(entry, flow, assessment)
            except BadLine as error:
                raise BadRecording(number, str(error)) from error
    if next_s is not None and not told:
        yield next_s, assessment.tick(next_s)


def _entry(line: str, last_s: float) -> tuple[dict[str, Any], float]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine("it is no JSON") from error
    if not isinstance(entry, dict):
        raise BadLine("it is no JSON object")
    at_s = _number(entry, "at")
    if at_s < last_s:
        raise BadLine("`at` is before that of the line before")
    if at_s - last_s > LONGEST_GAP_S and last_s != -math.inf:
        raise BadLine("`at` is more than a day after that of the line before")
    if entry.get("kind") not in _KINDS:
        raise BadLine(f"`kind` is none of {', '.join(_KINDS)}")
    return entry, at_s


def _flow(entry: dict[str, Any]) -> Flow:
    match entry.get("flow"):
        case [str(sid), 1 | 2 as hop, str(identity)]:
            return Flow(sid, Hop(hop), identity)
    raise BadLine("`flow` is not a track's SID, 1 (UPLINK) or 2 (DOWNLINK), and an identity")


def _apply(entry: dict[str, Any], flow: Flow, assessment: Assessment) -> None:
    kind = entry["kind"]
    if kind == "begin":
        assessment.begin(flow, _subject(_object(entry, "subject")))
    elif kind == "end":
        assessment.end(flow)
    elif kind == "readings":
        told = entry.get("readings")
        if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
            raise BadLine("`readings` is no list of objects")
        assessment.add(flow, [_reading(each) for each in told])
    elif kind == "expect":
        given = _object(entry, "expected")
        if unknown := given.keys() - _EXPECTED:
            raise BadLine(f"`expected` has no {min(unknown)!r}")
        if not all(value is None or isinstance(value, bool) for value in given.values()):
            raise BadLine("`expected` has what is neither true, false nor null")
        assessment.expect(flow, Expected(**given))
    elif kind == "receives":
        assessment.receives(flow, None if entry.get("layer") is None else int(_number(entry, "layer")))


def _subject(told: dict[str, Any]) -> Subject:
    sid, publisher, media, picture = (told.get(name) for name in ("sid", "publisher", "media", "picture"))
    if not (isinstance(sid, str) and isinstance(publisher, str)):
        raise BadLine("`subject` has no `sid` and `publisher`")
    if media not in (Media.AUDIO, Media.VIDEO) or isinstance(media, bool):
        raise BadLine("`media` is neither 1 (AUDIO) nor 2 (VIDEO)")
    if picture is None:
        return Subject(sid, publisher, Media(media))
    if not isinstance(picture, dict) or picture.keys() - _PICTURE:
        raise BadLine("`picture` is no picture")
    numbers = {name: _number(picture, name) for name in picture}
    try:
        return Subject(sid, publisher, Media(media), Picture(**numbers))  # type: ignore[arg-type]  # counts are whole
    except TypeError as error:
        raise BadLine("`picture` is not whole") from error


def _reading(told: dict[str, Any]) -> Reading:
    values: dict[str, Any] = {}
    for name, value in told.items():
        if name not in _FIELDS:
            raise BadLine(f"a reading has no {name!r}")
        if name == "rid":
            good = isinstance(value, str)
        elif name == "lost_before_repair":
            good = isinstance(value, bool)
        else:
            good = value is None or _is_number(value)
        if not good:
            raise BadLine(f"`{name}` is no such value")
        values[name] = value
    for name in _NEEDED:
        if values.get(name) is None:
            raise BadLine(f"a reading has no `{name}`")
    try:
        values["source"] = Source(values["source"])
        if values.get("limitation") is not None:
            values["limitation"] = Limitation(values["limitation"])
    except ValueError as error:
        raise BadLine(str(error)) from error
    return Reading(**values)


def _object(entry: dict[str, Any], name: str) -> dict[str, Any]:
    found = entry.get(name)
    if not isinstance(found, dict):
        raise BadLine(f"`{name}` is no object")
    return found


def _number(entry: dict[str, Any], name: str) -> float:
    value = entry.get(name)
    if not _is_number(value):
        raise BadLine(f"`{name}` is no number")
    return value


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _line(at_s: float, kind: str, flow: Flow, rest: dict[str, Any]) -> str:
    return json.dumps({"at": at_s, "kind": kind, "flow": [flow.track_sid, flow.hop, flow.identity], **rest})
