"""How much is going on at once, per key. Pure."""

from collections.abc import Hashable


class Counts:
    """Up to ``most`` at once for each key. Only keys with something going on are kept."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def of(self, key: Hashable) -> int:
        """How many there are now."""
        return self._counts.get(key, 0)

    def enter(self, key: Hashable) -> bool:
        """Counts one more, to be ended with `leave`; False where there are as many as may be."""
        count = self._counts.get(key, 0)
        if count >= self.most:
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, key: Hashable) -> None:
        """Counts one less."""
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]
