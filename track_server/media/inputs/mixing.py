"""Channels of sound. Pure."""

import numpy as np


def mixed(samples: bytes, channels: int, wanted: int) -> bytes:
    """Signed 16-bit samples of one or two interleaved `channels` in `wanted` ones."""
    if channels == wanted:
        return samples
    values = np.frombuffer(samples, dtype="<i2")
    if wanted == 2:
        return values.repeat(2).tobytes()
    both: bytes = (values.reshape(-1, 2).astype(np.int32).sum(axis=1) // 2).astype("<i2").tobytes()
    return both
