"""Keeps a focus from fluttering: what rises does so within 200 ms, what falls does so after 2 s. Pure; the clock comes
from outside.

A track's level, as it is ranked, goes through two steps. A rise is taken when the level was higher for RISE_S without a
break, so that a blip and a burst of changes are nothing. Then the highest level of the last FALL_S is what shows.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

RISE_S: Final = 0.1
"""The contract says 200 ms from LiveKit's word to ours; the rest is for carrying it out."""
FALL_S: Final = 2.0
"""As the contract says."""


@dataclass(slots=True)
class _Track:
    """Levels of one track, 0: not in focus."""

    ranked: int = 0
    taken: int = 0
    rising: float | None = None
    """Since when it is ranked above what was taken."""
    held: list[tuple[float, int]] = field(default_factory=list)
    """Until when what it had before still shows, and that level: the later, the lower."""
    shown: int = 0
    since: float = 0.0
    """Since when that shows."""

    @property
    def due(self) -> float | None:
        """When it changes by itself."""
        times = [self.rising + RISE_S] if self.rising is not None else []
        return min(times + [until for until, _ in self.held[:1]], default=None)

    def rank(self, level: int, now: float, *, at_once: bool) -> None:
        self.advance(now)
        if level > self.taken and not at_once:
            self.rising = now if self.rising is None else self.rising
        else:
            self.rising = None
            if level < self.taken:
                self._hold(now + FALL_S)
            self.taken = level
        self.ranked = level
        self._settle(now)

    def advance(self, now: float) -> None:
        if self.rising is not None and now >= self.rising + RISE_S:
            self.taken, self.rising = self.ranked, None
        self._settle(now)

    def _hold(self, until: float) -> None:
        while self.held and self.held[-1][1] <= self.taken:
            self.held.pop()
        self.held.append((until, self.taken))

    def _settle(self, now: float) -> None:
        self.held = [(until, level) for until, level in self.held if until > now and level > self.taken]
        shown = self.held[0][1] if self.held else self.taken
        if shown != self.shown:
            self.shown, self.since = shown, now


class Debounce:
    """Of one viewer. Times are in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    def copy(self) -> "Debounce":
        """One that has come to the same, and goes on by itself."""
        other = Debounce()
        for sid, track in self._tracks.items():
            other._tracks[sid] = replace(track, held=list(track.held))
        return other

    def rank(self, levels: Mapping[str, int], there: Container[str], now: float, *, at_once: bool = False) -> None:
        """Takes the levels by SID, above 0, as they are now; all others have none. ``there``: tracks that exist: the
        rest go out at once. ``at_once``: what rises does not wait."""
        self.forget([sid for sid in self._tracks if sid not in there])
        for sid in levels:
            self._tracks.setdefault(sid, _Track())
        for sid, track in self._tracks.items():
            track.rank(levels.get(sid, 0), now, at_once=at_once)
        self._drop_idle()

    def forget(self, sids: Iterable[str]) -> None:
        """Those are out, at once."""
        for sid in sids:
            self._tracks.pop(sid, None)

    def shown(self, now: float) -> dict[str, int]:
        """The levels that show, above 0, the highest first; of equal ones the one first that came to it last."""
        for track in self._tracks.values():
            track.advance(now)
        self._drop_idle()
        shown = [(sid, track) for sid, track in self._tracks.items() if track.shown]
        shown.sort(key=lambda each: (-each[1].shown, -each[1].since, each[0]))
        return {sid: track.shown for sid, track in shown}

    def due(self) -> float | None:
        """When ``shown`` is another one next, where nothing is ranked before; None: not by itself."""
        return min((due for track in self._tracks.values() if (due := track.due) is not None), default=None)

    def _drop_idle(self) -> None:
        self.forget([sid for sid, track in self._tracks.items() if not (track.ranked or track.shown)])
