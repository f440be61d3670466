"""How often alerts change in an hour of constant impairment: what was recorded in a minute of it, replayed through the
service's own pure core for an hour. Pure.

An hour is put together of pieces of the recording, drawn at random: the differences between two readings that followed
each other, added up, so that losses come in the runs in which they came. No reading is made up.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from track_server.quality.core.assessment import Assessment
from track_server.quality.core.measuring.reading import Flow, Hop, Limitation, Media, Reading, Source
from track_server.quality.core.watch import Subject

HOUR_S: Final = 3600.0
PIECE_S: Final = 15.0
"""Of the recording, at a time."""
SETTLED_S: Final = 60.0
"""Before it changes are the condition's coming."""
_LEAST: Final = 20
"""Readings of which an hour can be made."""
_COUNTERS: Final = (
    "packets", "resent", "nacks", "payload_bytes", "lost", "frames", "freezes_s", "concealed", "samples", "buffer_s",
    "buffered",
)  # fmt: skip
_FIELDS: Final = frozenset(field.name for field in fields(Reading))


@dataclass(frozen=True, slots=True)
class Recorded:
    """One flow of a recording: its readings of one source and one stream, in order."""

    flow: Flow
    subject: Subject
    readings: Sequence[Reading]


def recorded(lines: Iterable[str], flow: tuple[str, int, str], begin_s: float, end_s: float) -> Recorded | None:
    """That flow between two times (seconds UTC); None where there is too little of it, or several streams at a time."""
    wanted = [flow[0], flow[1], flow[2]]
    subject: Subject | None = None
    readings: list[Reading] = []
    for line in lines:
        entry: Mapping[str, Any] = json.loads(line)
        if entry.get("flow") != wanted:
            continue
        if entry["kind"] == "begin":
            told = entry["subject"]
            subject = Subject(told["sid"], told["publisher"], Media(told["media"]))
        elif entry["kind"] == "readings" and len(entry["readings"]) == 1:
            reading = _reading(entry["readings"][0])
            if begin_s <= reading.time_s <= end_s:
                readings.append(reading)
    of_one = [each for each in readings if (each.source, each.ssrc) == (readings[0].source, readings[0].ssrc)]
    if subject is None or len(of_one) < _LEAST:
        return None
    return Recorded(Flow(flow[0], Hop(flow[1]), flow[2]), subject, of_one)


def hour(of: Recorded, seed: int, seconds: float = HOUR_S) -> Iterator[Reading]:
    """So long of it, from 1000 s on."""
    draw = random.Random(seed)
    now = replace(of.readings[0], time_s=1000.0, arrival_s=1000.0, **_at(of.readings[0], 1000.0))
    yield now
    number = len(of.readings)
    piece_s = PIECE_S
    while now.time_s < 1000.0 + seconds:
        if piece_s >= PIECE_S or number >= len(of.readings):
            number, piece_s = draw.randrange(1, len(of.readings)), 0.0
        before, after = of.readings[number - 1], of.readings[number]
        number += 1
        step_s = after.time_s - before.time_s
        if not 0 < step_s < PIECE_S:
            piece_s = PIECE_S
            continue
        piece_s += step_s
        now = _moved(now, before, after, step_s)
        yield now


def changes(of: Recorded, seed: int, seconds: float = HOUR_S) -> int:
    """Alerts that go on or off in such an hour, of all kinds, from `SETTLED_S` on."""
    assessment = Assessment()
    assessment.begin(of.flow, of.subject)
    count = 0
    next_s: float | None = None
    for reading in hour(of, seed, seconds):
        if next_s is None:
            next_s = reading.arrival_s + 1
        while reading.arrival_s > next_s:
            found = assessment.tick(next_s)
            if next_s - 1000.0 > SETTLED_S:
                count += len(found.alerts)
            next_s += 1
        assessment.add(of.flow, [reading])
    return count


def _moved(now: Reading, before: Reading, after: Reading, step_s: float) -> Reading:
    """``now``, as much later and further as ``after`` is than ``before``."""
    time_s = now.time_s + step_s
    counted: dict[str, Any] = {}
    for name in _COUNTERS:
        first, last, base = getattr(before, name), getattr(after, name), getattr(now, name)
        counted[name] = None if first is None or last is None else (base or 0) + last - first
    moved = _at(after, time_s)
    if moved["lost_time_s"] is not None and now.lost_time_s is not None:
        # A report is never older than the one before it, also where two pieces meet.
        moved["lost_time_s"] = max(moved["lost_time_s"], now.lost_time_s)
    return replace(after, time_s=time_s, arrival_s=now.arrival_s + step_s, **counted, **moved)


def _at(reading: Reading, time_s: float) -> dict[str, Any]:
    """Its other times, as far from its own as they were."""
    ahead_s = time_s - reading.time_s
    return {
        name: None if told is None else told + ahead_s
        for name, told in (("lost_time_s", reading.lost_time_s), ("last_packet_s", reading.last_packet_s))
    }


def _reading(told: Mapping[str, Any]) -> Reading:
    known = {name: value for name, value in told.items() if name in _FIELDS}
    known["source"] = Source(known["source"])
    if known.get("limitation") is not None:
        known["limitation"] = Limitation(known["limitation"])
    return Reading(**known)
