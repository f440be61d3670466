"""Whether media really flowed: what the viewer received in a span of time, and what must hold of it. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from track.v1.publication_pb2 import Publication
from track_server.demo import programme
from track_server.demo.board import Board
from track_server.demo.programme import FILM_AUDIO, FILM_VIDEO, NAMES, PATTERN, READINGS, TONE, TONE_HZ
from track_server.demo.reception import Reception
from track_server.demo.wording import number, state_word

_FRESH_S: Final = 2.0
"""What flows at the end brought something within so long."""
_READABLE: Final = 0.5
"""Share of the pictures whose clock must be readable: first ones are coarse until the encoder knows the bandwidth."""
_CLOCK_RAN: Final = 0.5
"""Share of the span that the burnt-in clock must have advanced by."""
_TOLERANCE: Final = 0.01
"""How far the tone's frequency may be off, as a share of it: the spectrum resolves 1 Hz."""
_AUDIBLE_DBFS: Final = -50.0
_ARRIVED: Final = 0.5
"""Share of the data frames that must arrive: data tracks may lose some."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Flow:
    """What the viewer received of one publication in a span, over all the SIDs that it had."""

    name: str
    frames: int
    payload_bytes: int
    packets: int | None
    lost: int | None
    clocks_read: int
    clocks_backwards: int
    clock_advanced_s: float
    moved: int
    disordered: int
    latest: Reception | None
    """How it was at the end."""
    span_s: float

    @property
    def frames_per_second(self) -> float:
        """On average."""
        return self.frames / self.span_s

    @property
    def bitrate_bps(self) -> float:
        """On average; payload alone."""
        return 8 * self.payload_bytes / self.span_s

    @property
    def loss_percent(self) -> float | None:
        """Lost of those expected. None where nothing was expected, or nobody counted."""
        expected = (self.packets if self.packets is not None else self.frames) + (self.lost or 0)
        return None if self.lost is None or not expected else 100 * self.lost / expected


def flow(board: Board, name: str, before: Mapping[str, Reception], span_s: float) -> Flow:
    """What came of that publication since ``before`` (by SID), ``span_s`` ago."""
    publication = board.publication(name)
    now = board.receptions(publication) if publication is not None else []
    pairs = [(entry, before.get(entry.sid, Reception(entry.sid, entry.kind))) for entry in now]

    def grown(count: Callable[[Reception], int | None]) -> int | None:
        values = [(count(after), count(base)) for after, base in pairs]
        counted = [after - (base or 0) for after, base in values if after is not None]
        return sum(counted) if counted else None

    clocks = [base.clock_ms for _, base in pairs if base.clock_ms] + [
        after.clock_ms for after, _ in pairs if after.clock_ms
    ]
    return Flow(
        name=name,
        frames=grown(lambda entry: entry.frames) or 0,
        payload_bytes=grown(lambda entry: entry.payload_bytes) or 0,
        packets=grown(lambda entry: entry.packets),
        lost=grown(lambda entry: entry.lost),
        clocks_read=grown(lambda entry: entry.clocks_read) or 0,
        clocks_backwards=grown(lambda entry: entry.clocks_backwards) or 0,
        clock_advanced_s=(max(clocks) - min(clocks)) / 1000 if clocks else 0.0,
        moved=grown(lambda entry: entry.moved) or 0,
        disordered=grown(lambda entry: entry.disordered) or 0,
        latest=now[-1] if now else None,
        span_s=span_s,
    )


def flowing(board: Board) -> bool:
    """Whether every track of the programme brings what it should now."""
    for name in NAMES:
        publication = board.publication(name)
        receptions = board.receptions(publication) if publication is not None else []
        if not receptions or not _brings(name, receptions[-1]):
            return False
    return True


def _brings(name: str, latest: Reception) -> bool:
    if not latest.frames:
        return False
    match name:
        case programme.PATTERN:
            return latest.clock_ms is not None
        case programme.TONE:
            return _right_tone(latest)
        case programme.FILM_AUDIO:
            return _audible(latest)
        case _:
            return True


def checks(board: Board, flows: Mapping[str, Flow], now_s: float) -> list[Check]:
    """All that must hold at the end of the span, ``now_s`` (seconds since 1970 UTC)."""
    found = [_check(board.publication(name), flows[name], now_s) for name in NAMES]
    without = [name for name in NAMES if not _reported(board, board.publication(name))]
    reports = Check(
        "quality reports",
        bool(board.reports_received) and not without,
        f"{board.reports_received} reports"
        + (f"; nothing measured of {', '.join(without)}" if without else ", every track measured"),
    )
    published = board.kinds["track_published"]
    events = Check("events", published >= len(NAMES), f"{published} track_published for {len(NAMES)} tracks")
    return [*found, reports, events, *(Check("no failure", False, problem) for problem in board.problems)]


def _check(publication: Publication | None, got: Flow, now_s: float) -> Check:
    if publication is None:
        return Check(got.name, False, "not published")
    latest = got.latest
    if latest is None or not got.frames:
        problem = f": {publication.problem.message}" if publication.HasField("problem") else ""
        return Check(got.name, False, f"nothing was received; the publication is {state_word(publication)}{problem}")
    silent_s = now_s - (latest.last_frame_time or 0)
    holds, detail = _CONTENT[got.name](got, latest)
    if silent_s > _FRESH_S:
        return Check(got.name, False, f"{detail}; nothing since {silent_s:.1f} s")
    return Check(got.name, holds, detail)


def _pattern(got: Flow, latest: Reception) -> tuple[bool, str]:
    holds = (
        got.clocks_read >= _READABLE * got.frames
        and got.clock_advanced_s >= _CLOCK_RAN * got.span_s
        and not got.clocks_backwards
    )
    return holds, (
        f"{got.frames} pictures, clock readable in {got.clocks_read}, advanced {got.clock_advanced_s:.1f} s"
        f" in {got.span_s:.1f} s" + (f", {got.clocks_backwards} times backwards" if got.clocks_backwards else "")
    )


def _tone(got: Flow, latest: Reception) -> tuple[bool, str]:
    heard = number(latest.frequency_hz, 0, " Hz")
    return _right_tone(latest), f"dominant frequency {heard}, {TONE_HZ:.0f} Hz sent, level {_level(latest)}"


def _picture(got: Flow, latest: Reception) -> tuple[bool, str]:
    return got.moved > 0, f"{got.frames} pictures, {got.moved} of them moved"


def _sound(got: Flow, latest: Reception) -> tuple[bool, str]:
    return _audible(latest), f"{got.frames} frames of 10 ms, level {_level(latest)}"


def _readings(got: Flow, latest: Reception) -> tuple[bool, str]:
    lost = got.lost or 0
    holds = not got.disordered and got.frames >= _ARRIVED * (got.frames + lost)
    order = f"{got.disordered} out of order" if got.disordered else "in order"
    return holds, f"{got.frames} frames, {order}, {lost} lost"


_CONTENT: Final[Mapping[str, Callable[[Flow, Reception], tuple[bool, str]]]] = {
    PATTERN: _pattern,
    TONE: _tone,
    FILM_VIDEO: _picture,
    FILM_AUDIO: _sound,
    READINGS: _readings,
}


def _right_tone(latest: Reception) -> bool:
    heard = latest.frequency_hz
    return _audible(latest) and heard is not None and abs(heard - TONE_HZ) <= _TOLERANCE * TONE_HZ


def _audible(latest: Reception) -> bool:
    return latest.level_dbfs is not None and latest.level_dbfs >= _AUDIBLE_DBFS


def _level(latest: Reception) -> str:
    return "silence" if latest.level_dbfs is None else f"{latest.level_dbfs:.0f} dBFS"


def _reported(board: Board, publication: Publication | None) -> bool:
    return publication is not None and any(board.reports_measured[entry.track_sid] for entry in publication.lineage)
