"""How long nothing arrived at a receiver, by every reading's own time. Pure.

A client whose downlink is dead tells of it late: its readings come in one burst once the line is back. The newest of
them says that all is well; those before it say that it was not.
"""

from collections.abc import Sequence

from track_server.quality.core.measuring.reading import Reading, Source


class Gaps:
    """Owner of the longest gap told since it was taken last."""

    def __init__(self) -> None:
        self._told: dict[Source, tuple[float, float]] = {}
        """When each source told last, and when its last packet had come then; both on its own clock."""
        self._came: set[Source] = set()
        """Where media has come since it was expected: before that there is nothing to interrupt."""
        self._longest_s: float | None = None

    def add(self, readings: Sequence[Reading]) -> None:
        """Takes the readings of one source at one moment, of a receiver."""
        packet_s = max((each.last_packet_s for each in readings if each.last_packet_s is not None), default=None)
        if packet_s is None:
            return
        source, time_s = readings[0].source, readings[0].time_s
        before = self._told.get(source)
        if before is not None and time_s <= before[0]:
            return
        self._told[source] = time_s, packet_s
        if before is not None and packet_s > before[1]:
            self._came.add(source)
        if source in self._came:
            self._longest_s = max(self._longest_s or 0.0, time_s - packet_s)

    def end(self) -> None:
        """What is expected changed: what came before says nothing of it."""
        self._told.clear()
        self._came.clear()
        self._longest_s = None

    def take(self) -> float | None:
        """The longest since this was called last; None where none was told."""
        longest_s, self._longest_s = self._longest_s, None
        return longest_s
