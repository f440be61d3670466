"""The numbers of one stream, or one track on one hop, over one window: each with its source and age. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

from track_server.quality.core.measuring.reading import TRUST, Limitation, Source

MAX_AGE_S: Final = 15.0
"""A source that has said nothing for longer than this, in seconds, tells nothing more: the gap that ends a window."""

FRESH_S: Final = 3.0
"""A number older than this, in seconds, does not stand for now beside a fresher one of less trust: two of what comes
each second, and one that was missed."""

_RANK: Final = {source: rank for rank, source in enumerate(TRUST)}


class Number(NamedTuple):
    """A measured number. ``age_s``: seconds since it was true, 0 or more."""

    value: float
    source: Source
    age_s: float


class Share(NamedTuple):
    """So many of so many. ``whole`` is above 0; ``part`` is 0 to ``whole``."""

    part: float
    whole: float
    source: Source
    age_s: float

    @property
    def percent(self) -> float:
        """0 to 100."""
        return 100.0 * self.part / self.whole


# Never changed once it is made; not frozen, which would make the making five times as dear.
@dataclass(slots=True, kw_only=True)
class Sample:
    """What was measured. None: it was not, which is never 0.

    ``rid``, ``ssrc``: of one stream; empty and None for a whole track. ``window_s``: the span that rates and shares
    cover. ``loss_before``, ``loss_after``: packets, of repair. ``frozen``: seconds of seconds, with a freeze that is
    still going on; ``freezing_s``: how long that one has lasted. ``concealed``: samples, silence left out.
    ``buffer_ms``: time in the jitter buffer. ``stalled_s``: since anything arrived at the receiving end. ``gap_s``: the
    latest gap in what did arrive, see Stream. ``stuck_s``: since a frame, while packets come.
    ``resent_per_second``: packets of one stream that were retransmitted. ``limitation``: what holds the encoder back.
    ``cpu_limited``, ``bandwidth_limited``: 1 where that does, else 0. ``cpu_load``: of the client's machine, 0 to 1.
    ``sfu_score``: LiveKit's, 1 to 5. The rest as in the contract.
    """

    rid: str = ""
    ssrc: int | None = None
    window_s: float | None = None
    sends: bool | None = None
    limitation: Limitation | None = None
    resent_per_second: float | None = None
    loss_before: Share | None = None
    loss_after: Share | None = None
    jitter_ms: Number | None = None
    rtt_ms: Number | None = None
    bitrate_bps: Number | None = None
    frames_per_second: Number | None = None
    width: Number | None = None
    height: Number | None = None
    frozen: Share | None = None
    freezing_s: Number | None = None
    concealed: Share | None = None
    buffer_ms: Number | None = None
    stalled_s: Number | None = None
    gap_s: Number | None = None
    stuck_s: Number | None = None
    cpu_limited: Number | None = None
    bandwidth_limited: Number | None = None
    cpu_load: Number | None = None
    audio_level: Number | None = None
    brightness: Number | None = None
    sfu_score: Number | None = None


_MEASURED: Final = tuple(
    field.name
    for field in fields(Sample)
    if field.name not in ("rid", "ssrc", "window_s", "sends", "limitation", "resent_per_second")
)


def merged(samples: Sequence[Sample]) -> Sample:
    """One of several sources': each number of the most trusted source that has it of late, else the freshest.

    ``samples``: one or more of the same stream or track, over the same span asked for. Window and identity are those of
    the most trusted one that has a window.
    """
    if len(samples) == 1:
        return samples[0]
    chosen: dict[str, Number | Share] = {}
    for name in _MEASURED:
        found: list[Number | Share] = [value for sample in samples if (value := getattr(sample, name)) is not None]
        if found:
            chosen[name] = min(found, key=_preference)
    first = next((sample for sample in samples if sample.window_s is not None), samples[0])
    return Sample(
        rid=first.rid,
        ssrc=first.ssrc,
        window_s=first.window_s,
        sends=first.sends,
        limitation=first.limitation,
        **chosen,  # type: ignore[arg-type]  # named by the fields themselves
    )


def _preference(value: Number | Share) -> tuple[bool, float, float]:
    old = value.age_s > FRESH_S
    return (old, value.age_s if old else _RANK[value.source], value.age_s)
