"""How long a command may take."""

import asyncio
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the event loop's clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """``seconds`` from now."""
        return cls(asyncio.get_running_loop().time() + seconds)

    def remaining_s(self) -> float:
        """Seconds left; never below 0."""
        return max(0.0, self.at - asyncio.get_running_loop().time())
