"""The far end of an echo: what loudspeakers in the room play, mixed for each sound that it is taken out of. Pure."""

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from track_server.media.inputs.tone import SAMPLE_RATE

STEP_SAMPLES: Final = SAMPLE_RATE // 100
"""Samples of 10 ms, in which WebRTC's echo canceller takes both ends."""
_MOST: Final = 25
"""Steps of a track that wait at most: the queue of a source, which sets the pace of pushed sound, is 20 of them."""
_SPARE: Final = 2
"""Steps that may wait all the time, for the two ends come at moments of their own. Each makes the echo come sooner than
it did by as much, and one that comes sooner than what it is an echo of is not taken out."""
_LOOK: Final = 200
"""Steps after which it is seen how many waited all the time."""
_LEAST, _HIGHEST = -(2**15), 2**15 - 1

Step = npt.NDArray[np.int16]


class FarEnd:
    """What is heard of one room. Sound is 48 kHz, signed 16 bit, native order, one channel, in steps of 10 ms."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    @contextlib.contextmanager
    def listening(self) -> "Iterator[Listener]":
        """One who takes the mix for the span of the block."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def heard(self, track_sid: str, samples: bytes | bytearray | memoryview) -> None:
        """A step of a track came."""
        step = np.frombuffer(samples, dtype=np.int16)
        for listener in self._listeners:
            listener.put(track_sid, step)

    def gone(self, track_sid: str) -> None:
        """No more of a track comes: what waits is played."""
        for listener in self._listeners:
            listener.end(track_sid)


class Listener:
    """Takes a step of the mix for each step of the near end: so both keep their distance, however they come."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Waiting] = {}

    def put(self, track_sid: str, step: Step) -> None:
        """A step of a track came."""
        if track_sid not in self._tracks:
            self._tracks[track_sid] = _Waiting()
        self._tracks[track_sid].put(step)

    def end(self, track_sid: str) -> None:
        """No more of a track comes."""
        self._tracks.pop(track_sid, None)

    def take(self) -> bytes:
        """The next step of the mix; silence where nothing waits."""
        steps = [step for waiting in self._tracks.values() if (step := waiting.take()) is not None]
        if len(steps) == 1:
            return steps[0].tobytes()
        total = np.zeros(STEP_SAMPLES, dtype=np.int32)
        for step in steps:
            total += step
        mix: bytes = total.clip(_LEAST, _HIGHEST).astype(np.int16).tobytes()
        return mix


class _Waiting:
    """Steps of one track. As few wait as can be."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque(maxlen=_MOST)
        self._left = 0
        """How many waited when one was taken last."""
        self._overrun = False
        self._least = _MOST
        self._taken = 0

    def put(self, step: Step) -> None:
        self._overrun = self._overrun or len(self._steps) == _MOST
        self._steps.append(step)

    def take(self) -> Step | None:
        if self._overrun:
            # The near end paused: it goes on as far from it as it was.
            self._drop(len(self._steps) - 1 - self._left)
            self._overrun = False
        step = self._steps.popleft() if self._steps else None
        self._left = len(self._steps)
        self._least = min(self._least, self._left)
        self._taken += 1
        if self._taken == _LOOK:
            if self._least > _SPARE:
                self._drop(self._least - 1)
            self._taken, self._least = 0, _MOST
        return step

    def _drop(self, steps: int) -> None:
        for _ in range(steps):
            self._steps.popleft()
