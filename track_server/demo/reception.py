"""What the viewer receives of one track: counted frame by frame, told twice a second. Pure."""

import struct
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from track_server.media.inputs.clock import read_clock

Kind = Literal["audio", "video", "data"]
Luma = npt.NDArray[np.uint8]

AUDIO_RATE: Final = 48_000
_NUMBERED: Final = struct.Struct(">QQ")
"""The head of a numbered frame of a data track (DataInput in the contract): number, microseconds since 1970 UTC."""
_WINDOW_S: Final = 2.0
"""Rates cover so long."""
_FREQUENCY_SAMPLES: Final = AUDIO_RATE
"""A second of sound: 1 Hz of resolution."""
_MOVED: Final = 2.0
"""Mean difference of luma, 0 to 255, in the most changed eighth of the picture, from which on it has moved."""
_SILENCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Reception:
    """One track as the viewer receives it. Counts run from the subscription on; what was not measured is None."""

    sid: str
    kind: Kind
    frames: int = 0
    """Decoded pictures, 10 ms of sound, or frames of data."""
    last_frame_time: float | None = None
    """When the newest came, seconds since 1970 UTC."""
    frames_per_second: float | None = None
    bitrate_bps: float | None = None
    payload_bytes: int = 0
    """RTP payload, or payload of data frames."""
    packets: int | None = None
    """RTP packets received; None for data."""
    lost: int | None = None
    """RTP packets lost, after repair; for data: missing frame numbers."""
    latency_ms: float | None = None
    """From painting to here, by the burnt-in clock; for data, from the push to here. The median of 2 s."""
    width: int | None = None
    height: int | None = None
    clocks_read: int = 0
    """Pictures whose burnt-in clock could be read."""
    clock_ms: int | None = None
    """The newest clock, milliseconds since 1970 UTC."""
    clocks_backwards: int = 0
    """Clocks that were earlier than the one before."""
    moved: int = 0
    """Pictures that differ from the one before."""
    frequency_hz: float | None = None
    """The dominant frequency of the last second."""
    level_dbfs: float | None = None
    """Level of the last second, relative to a full-scale sine; None in silence."""
    disordered: int = 0
    """Data frames that were older than the one before, or the same."""

    def encode(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def decode(cls, values: dict[str, Any]) -> Self:
        """The inverse of `encode`."""
        return cls(**values)


class Meter:
    """Counts one track. Times are seconds since 1970 UTC."""

    def __init__(self, sid: str, kind: Kind) -> None:
        self.reception = Reception(sid, kind)
        self._first_time: float | None = None
        self._arrivals: deque[float] = deque()
        self._latencies: deque[tuple[float, float]] = deque()
        self._volumes: deque[tuple[float, int]] = deque()
        self._numbered: tuple[int, int] | None = None
        self._thumbnail: npt.NDArray[np.float64] | None = None
        self._sound: deque[npt.NDArray[np.int16]] = deque()
        self._samples = 0

    def picture(self, time_s: float, luma: Luma) -> None:
        """One decoded picture, by its luma plane."""
        height, width = luma.shape
        self._count(time_s)
        thumbnail = luma[:: max(1, height // 36), :: max(1, width // 64)].astype(np.float64)
        before, self._thumbnail = self._thumbnail, thumbnail
        if before is not None and before.shape == thumbnail.shape:
            difference = np.sort(np.abs(thumbnail - before), axis=None)
            if difference[-difference.size // 8 :].mean() > _MOVED:
                self.reception = replace(self.reception, moved=self.reception.moved + 1)
        clock_ms = read_clock(luma)
        seen = self.reception
        self.reception = replace(seen, width=width, height=height)
        if clock_ms is not None:
            backwards = seen.clock_ms is not None and clock_ms < seen.clock_ms
            self.reception = replace(
                self.reception,
                clocks_read=seen.clocks_read + 1,
                clock_ms=clock_ms,
                clocks_backwards=seen.clocks_backwards + backwards,
            )
            self._latencies.append((time_s, time_s * 1000 - clock_ms))

    def sound(self, time_s: float, samples: npt.NDArray[np.int16]) -> None:
        """A frame of sound, mono at AUDIO_RATE."""
        self._count(time_s)
        self._sound.append(samples)
        self._samples += samples.size
        while self._samples - self._sound[0].size >= _FREQUENCY_SAMPLES:
            self._samples -= self._sound.popleft().size

    def data(self, time_s: float, payload: bytes) -> None:
        """A frame of a data track."""
        self._count(time_s)
        volume = self.reception.payload_bytes + len(payload)
        self._volumes.append((time_s, volume))
        self.reception = replace(self.reception, payload_bytes=volume)
        if len(payload) < _NUMBERED.size:
            return
        number, time_us = _NUMBERED.unpack_from(payload)
        seen, before = self.reception, self._numbered
        self._numbered = (number, time_us)
        if before is None or (number <= before[0] and time_us > before[1]):
            # The first frame; or the publisher came back, and counts from 0 again.
            self.reception = replace(seen, lost=seen.lost or 0)
        else:
            gap = number - before[0] - 1
            self.reception = replace(seen, lost=(seen.lost or 0) + max(0, gap), disordered=seen.disordered + (gap < 0))
        self._latencies.append((time_s, time_s * 1000 - time_us / 1000))

    def transport(self, time_s: float, payload_bytes: int, packets: int, lost: int) -> None:
        """The receiver's RTP statistics; ``payload_bytes`` is counted from the subscription on."""
        self._volumes.append((time_s, payload_bytes))
        self.reception = replace(self.reception, payload_bytes=payload_bytes, packets=packets, lost=max(0, lost))

    def measure(self, time_s: float) -> Reception:
        """What is received now."""
        for row in (self._latencies, self._volumes):
            while row and row[0][0] < time_s - _WINDOW_S:
                row.popleft()
        while self._arrivals and self._arrivals[0] < time_s - _WINDOW_S:
            self._arrivals.popleft()
        frequency_hz, level_dbfs = self._spectrum()
        self.reception = replace(
            self.reception,
            frames_per_second=self._rate(time_s),
            bitrate_bps=self._bitrate(),
            latency_ms=float(np.median([value for _, value in self._latencies])) if self._latencies else None,
            frequency_hz=frequency_hz,
            level_dbfs=level_dbfs,
        )
        return self.reception

    def _count(self, time_s: float) -> None:
        if self._first_time is None:
            self._first_time = time_s
        self._arrivals.append(time_s)
        self.reception = replace(self.reception, frames=self.reception.frames + 1, last_frame_time=time_s)

    def _rate(self, time_s: float) -> float | None:
        if self._first_time is None or time_s - self._first_time < _WINDOW_S / 4:
            return None
        return len(self._arrivals) / min(_WINDOW_S, time_s - self._first_time)

    def _bitrate(self) -> float | None:
        if len(self._volumes) < 2:
            return None
        first, last = self._volumes[0], self._volumes[-1]
        span_s = last[0] - first[0]
        if span_s <= 0:
            return None
        return max(0, 8 * (last[1] - first[1])) / span_s

    def _spectrum(self) -> tuple[float | None, float | None]:
        if self._samples < _FREQUENCY_SAMPLES:
            return None, None
        samples = np.concatenate(self._sound)[-_FREQUENCY_SAMPLES:] / 32768
        power = float(np.mean(samples**2))
        if power < _SILENCE:
            return None, None
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
        # A full-scale sine has a power of 1/2.
        return float(spectrum.argmax() * AUDIO_RATE / samples.size), float(10 * np.log10(2 * power))
