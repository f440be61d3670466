"""One restart of a track at a time, and a while between two. No clock of its own, no I/O."""

from track_server.errors import RestartInProgress

_AGAIN_S = 1.0
"""When to try again while a restart is running: how long it takes is not known."""


class Turns:
    """Whose turn it is, by track. ``cooldown_s``: between the end of one restart and the beginning of the next."""

    def __init__(self, cooldown_s: float) -> None:
        self._cooldown_s = cooldown_s
        self._running: set[str] = set()
        self._free_at: dict[str, float] = {}

    def require(self, key: str, now_s: float) -> None:
        """Raises RestartInProgress, with when to try again."""
        if key in self._running:
            raise RestartInProgress("the track is being restarted", retry_delay_s=_AGAIN_S)
        left_s = self._free_at.get(key, now_s) - now_s
        if left_s > 0:
            raise RestartInProgress("the track was restarted a moment ago", retry_delay_s=left_s)

    def begin(self, key: str, now_s: float) -> None:
        """Takes the turn. Raises RestartInProgress."""
        self.require(key, now_s)
        for other in [other for other, free_at in self._free_at.items() if free_at <= now_s]:
            del self._free_at[other]
        self._running.add(key)

    def end(self, key: str, now_s: float, *, begun: bool) -> None:
        """Gives it back. ``begun``: something was done, so that the next one has to wait."""
        self._running.discard(key)
        if begun:
            self._free_at[key] = now_s + self._cooldown_s

    @property
    def cooldown_s(self) -> float:
        """Seconds between the end of one restart and the beginning of the next."""
        return self._cooldown_s
