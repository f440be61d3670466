"""How much packets are lost in company. Pure.

Ten packets lost one by one are ten pieces of evidence; ten lost in two bursts are hardly more than two. The ratio of
the variance of losses from one reading to the next to what chance alone would make (an index of dispersion) tells by
how much to discount them.
"""

from typing import Final

from track_server.quality.core.measuring.losses import Packets

MOST: Final = 16.0
"""The most that is discounted."""

_FOLLOW: Final = 0.003
"""How fast it follows: half of it in 230 readings. A loss that begins on a line that was sound is believed at once, and
learned to be of bursts by the time that chance would end or repeat its alert."""

_PRIOR: Final = 0.01
"""The share of packets that is taken to be lost one by one, until more is known."""

_TAIL: Final = 1.4
"""The index is raised to this power: sums of few long bursts stray further than their variance tells. Set by replay."""

_CLIP: Final = 0.3
"""A change of the share by more is counted as one by so much: a single outage makes no line of bursts."""


class Clumping:
    """Owner of the estimate for one flow. Differences of neighbours are taken, so that a step in the loss counts
    once."""

    def __init__(self) -> None:
        self._last: Packets | None = None
        self._variance = 0.0
        """Of the share lost, times the packets of a reading."""
        self._chance = 0.0
        """What it would be, were they lost one by one."""

    @property
    def factor(self) -> float:
        """1 (one by one) to MOST: so many lost packets make one piece of evidence."""
        index = (self._variance + _PRIOR) / (self._chance + _PRIOR)
        return min(MOST, index**_TAIL) if index > 1.0 else 1.0

    def add(self, packets: Packets) -> None:
        """Takes what was told since the last time."""
        last, self._last = self._last, packets
        if last is None or last.expected <= 0 or not 0.5 <= packets.expected / last.expected <= 2.0:
            return
        share = min(1.0, max(0.0, packets.lost / packets.expected))
        change = min(_CLIP, abs(share - min(1.0, max(0.0, last.lost / last.expected))))
        self._variance += _FOLLOW * (packets.expected * change * change / 2 - self._variance)
        self._chance += _FOLLOW * (share * (1 - share) - self._chance)
