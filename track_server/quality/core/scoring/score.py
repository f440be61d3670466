"""The score of one sample, with what it may truly be. Pure."""

from dataclasses import dataclass
from typing import Final

from track_server.quality.core.intervals import wilson
from track_server.quality.core.measuring.reading import Media
from track_server.quality.core.measuring.sample import MAX_AGE_S, Number, Sample, Share
from track_server.quality.core.scoring.level import Scored
from track_server.quality.core.scoring.picture import picture_index
from track_server.quality.core.scoring.speech import mouth_to_ear_ms, speech_mos

Z: Final = 2.6
"""Standard errors of doubt about a loss: 99 of 100 windows, as an hour has 720 of 5 s."""

LEAST_CLUMPING: Final = 2.0
"""Before more is known, two lost packets make one piece of evidence about a level."""

PICTURE_DOUBT: Final = 0.2
"""Of a video index either way: frames and bits of a window vary by about a tenth with what is shown."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a video ought to be: its size where it is seen, its frame rate, and what its codec makes of a bit.

    0: what it is.
    """

    width: int
    height: int
    frames_per_second: float
    codec_factor: float = 1.0


_AS_IT_IS: Final = Picture(0, 0, 0.0)


def score_of(
    media: Media,
    sample: Sample,
    picture: Picture | None = None,
    *,
    other_rtt_ms: float = 0.0,
    clumping: float = 1.0,
) -> Scored | None:
    """A MOS (sound) or index (video), 1 to 5; None where the numbers that it takes were not measured, or are older
    than MAX_AGE_S.

    ``picture``: what is expected of a video; without it a video is measured against what it is. ``other_rtt_ms``: the
    round trip of the other hop, where it is known. ``clumping``: so many lost packets make one piece of evidence.
    """
    if sample.rtt_ms is None or not _recent(sample.rtt_ms):
        return None
    rtt_ms = sample.rtt_ms.value + other_rtt_ms
    return _speech(sample, rtt_ms, clumping) if media is Media.AUDIO else _picture(sample, rtt_ms, picture)


def loss_range(loss: Share, clumping: float) -> tuple[float, float]:
    """The least and the most percent that the loss may truly be (Wilson's interval of the evidence that is left)."""
    found = wilson(loss.part / loss.whole, loss.whole / max(LEAST_CLUMPING, clumping), Z)
    return 100.0 * found.least, 100.0 * found.most


def _speech(sample: Sample, rtt_ms: float, clumping: float) -> Scored | None:
    loss = sample.loss_after or sample.loss_before
    if loss is None or not _recent(loss):
        return None
    buffer_ms = None if sample.buffer_ms is None else sample.buffer_ms.value
    jitter_ms = None if sample.jitter_ms is None else sample.jitter_ms.value
    delay_ms = mouth_to_ear_ms(rtt_ms, buffer_ms, jitter_ms)
    least, most = loss_range(loss, clumping)
    return Scored(speech_mos(delay_ms, loss.percent), speech_mos(delay_ms, most), speech_mos(delay_ms, least))


def _picture(sample: Sample, rtt_ms: float, picture: Picture | None) -> Scored | None:
    rate, frames = sample.bitrate_bps, sample.frames_per_second
    if rate is None or frames is None or sample.width is None or sample.height is None:
        return None
    if not _recent(rate) or not _recent(frames):
        return None
    expected = picture or _AS_IT_IS
    index = picture_index(
        width=expected.width or sample.width.value,
        height=expected.height or sample.height.value,
        frames_per_second=frames.value,
        expected_frames_per_second=expected.frames_per_second or frames.value,
        bitrate_bps=rate.value,
        codec_factor=expected.codec_factor,
        buffer_ms=0.0 if sample.buffer_ms is None else sample.buffer_ms.value,
        rtt_ms=rtt_ms,
    )
    return Scored(index, max(1.0, index - PICTURE_DOUBT), min(5.0, index + PICTURE_DOUBT))


def _recent(value: Number | Share) -> bool:
    return value.age_s <= MAX_AGE_S
