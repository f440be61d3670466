"""Voice-like sounds, and rooms in which they echo: 48 kHz, one channel, -1 to 1."""

from typing import Final

import numpy as np

from tests.media.sounds import Wave

RATE: Final = 48_000
STEP: Final = RATE // 100
"""Samples of 10 ms."""


def voice(seconds: float, hz: float, seed: int) -> Wave:
    """Voice-like sound at -23 dB of full scale: syllables of wandering pitch and colour, with pauses."""
    chance = np.random.default_rng(seed)
    wave, at = np.zeros(int(seconds * RATE)), 0
    while at < len(wave) - RATE // 10:
        length = min(int(RATE * chance.uniform(0.12, 0.35)), len(wave) - at)
        begin, end = hz * np.exp(chance.normal(0, 0.15, 2))
        pitch = np.linspace(begin, end, length)
        pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) > 0
        spectrum = np.fft.rfft(pulses * 3 + chance.normal(0, 0.02, length), 2 * length)
        frequencies = np.fft.rfftfreq(2 * length, 1 / RATE)
        colour = np.full_like(frequencies, 0.003)
        for low, high, width, gain in ((300, 800, 90, 1), (900, 2300, 140, 0.5), (2300, 3300, 200, 0.25)):
            colour += gain / (1 + ((frequencies - chance.uniform(low, high)) / width) ** 2)
        wave[at : at + length] = np.fft.irfft(spectrum * colour)[:length] * np.hanning(length)
        at += length + int(RATE * max(0, chance.normal(0, 0.1)))
    wave *= 10 ** (-23 / 20) / np.sqrt((wave**2).mean())
    return np.asarray(wave.clip(-0.95, 0.95))


def reflections() -> Wave:
    """How a small room answers to a click: for a tenth of a second, and as loud as that."""
    answer = np.random.default_rng(2).normal(0, 1, RATE // 10) * np.exp(-np.arange(RATE // 10) / RATE / 0.03)
    answer[0] = 3 * np.abs(answer).max()
    return np.asarray(answer / np.sqrt((answer**2).sum()))


def echo(wave: Wave, delay_s: float) -> Wave:
    """What a microphone hears of a loudspeaker in the room that plays it: half as loud, and so much later."""
    later = np.concatenate([np.zeros(round(delay_s * RATE)), wave])[: len(wave)]
    length = len(wave) + RATE // 10
    heard = np.fft.irfft(np.fft.rfft(later, length) * np.fft.rfft(0.5 * reflections(), length), length)
    return np.asarray(heard[: len(wave)])


def pcm(wave: Wave) -> bytes:
    """As signed 16-bit samples."""
    return (wave.clip(-1, 0.9999) * 32768).astype("<i2").tobytes()
