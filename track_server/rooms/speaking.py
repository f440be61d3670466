"""Who speaks in a room, and who spoke last, as LiveKit tells it. No I/O, no clock of its own.

LiveKit (livekit-server 1.11.0 and 1.13.5) tells a participant who speaks of those publishers to whose tracks it is
subscribed, to any of them, also with its media turned off: the watcher's subscription for quality will do. Only
microphones (by source) count. It looks every 400 ms, and tells a level when that is another than before: of somebody
whose level is the same ever since the watcher came, nothing is told.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PAUSE_S: Final = 2.0
"""Who is silent for less has not stopped: it goes on with what it began."""
# Beyond the most that anybody may ask for, who left and comes back keeps its place for a while.
_KEPT: Final = 100


@dataclass(slots=True)
class _Voice:
    """``began``, ``ended``: of the last time that it spoke. While it speaks, ``ended`` says nothing."""

    speaks: bool
    began: float
    ended: float
    level: float


class Speaking:
    """Of one room. Times are in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._voices: dict[str, _Voice] = {}
        self._order: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """Identities of all that spoke: who speaks now, the one that began last first; then the others, the one that
        stopped last first. Also of participants that have left."""
        return self._order

    def hear(self, levels: Iterable[tuple[str, float]], now: float) -> bool:
        """Takes new levels, 0 to 1 by identity, 0: silent. Says whether the order is another one now."""
        for identity, level in levels:
            voice = self._voices.get(identity)
            if level > 0:
                if voice is None:
                    self._voices[identity] = _Voice(True, now, now, level)
                elif not voice.speaks:
                    if now - voice.ended >= PAUSE_S:
                        voice.began, voice.level = now, level
                    voice.speaks = True
            elif voice is not None and voice.speaks:
                voice.speaks, voice.ended = False, now
        return self._sort()

    def hush(self, now: float, identity: str | None = None) -> bool:
        """Nothing more is heard of that one, or (None) of anybody. Says whether the order is another one now."""
        return self.hear([(who, 0.0) for who in self._voices if identity in (None, who)], now)

    def _sort(self) -> bool:
        # Of those that begin at once, the loudest first.
        ranked = sorted(
            self._voices.items(),
            key=lambda each: (
                not each[1].speaks,
                -(each[1].began if each[1].speaks else each[1].ended),
                -each[1].began,
                -each[1].level,
                each[0],
            ),
        )
        self._voices = dict(ranked[:_KEPT])
        before, self._order = self._order, tuple(self._voices)
        return before != self._order
