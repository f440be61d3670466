"""What the machine was at meanwhile: figures of a busy one say less."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_STAT: Final = Path("/proc/stat")
_UDP: Final = Path("/proc/net/udp")
_IDLE: Final = (3, 4)
_STEAL: Final = 7
_COUNTED: Final = 8
_DROPS: Final = 12


@dataclass(frozen=True, slots=True)
class Ticks:
    """Processor time since boot, over all cores, in ticks."""

    all: int
    idle: int
    steal: int

    @classmethod
    def now(cls, text: str | None = None) -> Self:
        """By the first line of /proc/stat (user nice system idle iowait irq softirq steal)."""
        line = (_STAT.read_text() if text is None else text).split("\n", 1)[0]
        ticks = [int(word) for word in line.split()[1 : 1 + _COUNTED]]
        return cls(sum(ticks), sum(ticks[each] for each in _IDLE), ticks[_STEAL])

    def since(self, before: "Ticks") -> "Load":
        """What was between the two."""
        whole = max(1, self.all - before.all)
        return Load(
            round((self.steal - before.steal) / whole, 4),
            round(1 - (self.idle - before.idle + self.steal - before.steal) / whole, 4),
            round(os.getloadavg()[0], 2),
        )


@dataclass(frozen=True, slots=True)
class Load:
    """``steal``, ``busy``: shares of all cores' time, 0 to 1: taken by other machines, and used here. ``load``: of one
    minute, at the end."""

    steal: float
    busy: float
    load: float


def udp_drops(port: int, text: str | None = None) -> int:
    """Datagrams that the kernel dropped because nobody read them in time, of sockets bound to that port, so far: what
    is lost beside the relay's count."""
    lines = (_UDP.read_text() if text is None else text).splitlines()[1:]
    found = [line.split() for line in lines]
    return sum(int(words[_DROPS]) for words in found if int(words[1].split(":")[1], 16) == port)
