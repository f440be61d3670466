"""Small media files, made by the tests that play them."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

RATE = 44_100


def write_clip(path: Path, seconds: float = 2.0, *, video: bool = True, audio: bool = True, fps: int = 15) -> Path:
    """A clip of 160x120: dark and silent in its first half, bright with a tone of 1 kHz in the second."""
    with av.open(str(path), "w") as clip:
        x264 = {"preset": "ultrafast", "g": str(fps)}
        pictures = clip.add_stream("libx264", rate=fps, options=x264) if video else None
        sound = clip.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=RATE) if audio else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 160, 120, "yuv420p"
            for number in range(int(seconds * fps)):
                picture = np.full((180, 160), 128, dtype=np.uint8)
                picture[:120] = 200 if number >= seconds * fps / 2 else 40
                frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                clip.mux(pictures.encode(frame))
            clip.mux(pictures.encode())
        if sound is not None:
            times = np.arange(int(seconds * RATE)) / RATE
            samples = np.where(times >= seconds / 2, np.sin(2 * np.pi * 1000 * times) * 12_000, 0).astype(np.int16)
            for begin in range(0, len(samples), 1024):
                piece = samples[None, begin : begin + 1024]
                block = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = RATE, begin, Fraction(1, RATE)
                clip.mux(sound.encode(block))
            clip.mux(sound.encode())
    return path


def write_sound(path: Path, *channels: npt.NDArray[np.float64]) -> Path:
    """A WAV file at 44.1 kHz with those channels, -1 to 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.stack(channels, axis=1) * 32767).astype("<i2").tobytes())
    return path
