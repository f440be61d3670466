"""Small media files, made by the tests that play them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

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
            wave = np.where(times >= seconds / 2, np.sin(2 * np.pi * 1000 * times) * 12_000, 0).astype(np.int16)
            for begin in range(0, len(wave), 1024):
                piece = wave[None, begin : begin + 1024]
                block = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = RATE, begin, Fraction(1, RATE)
                clip.mux(sound.encode(block))
            clip.mux(sound.encode())
    return path
