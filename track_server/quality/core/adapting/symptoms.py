"""Calm, bad, worse: what a line's numbers say about its next step. Pure.

Each rests on so many packets and on a difference beyond chance; nothing measured is never calm.
"""

from typing import Final

from track_server.quality.core.adapting.measure import BURST, LEAST_WHOLE, Measure, Verdict, compared

CALM_LOSS: Final = 0.025
"""Up to this share of packets it is calm: what the detector goes off at (2 %), and half a point for chance."""

BAD_LOSS: Final = 0.05
"""From this share on another step down is due: what the detector goes on at."""

LEAST_LOST: Final = 4.0
"""So many packets, at least, speak for bad or worse."""

SAME_RTT: Final = 0.9
"""A round trip that fell to less than this of what it was is falling."""

WORSE_RTT: Final = 1.3
WORSE_RTT_MS: Final = 40.0
"""A round trip is worse from so many times what it was on, and by so much at least."""

SURE_PACKETS: Final = 25.0
"""Fewer say nothing yet about the time after a step."""


def calm(recent: Measure) -> bool:
    """Whether next to nothing was lost in a time in which something was measured."""
    return recent.seconds > 0 and recent.packets >= SURE_PACKETS and recent.loss <= CALM_LOSS


def bad(before: Measure, since: Measure) -> bool:
    """Whether the trouble goes on after a step: loss or a round trip, whichever it is."""
    if since.packets >= SURE_PACKETS and since.lost >= LEAST_LOST and since.loss >= BAD_LOSS:
        return True
    first, last = before.mean_rtt_ms, since.mean_rtt_ms
    if since.packets >= SURE_PACKETS and before.loss >= BAD_LOSS:
        return False
    return first is not None and last is not None and last >= SAME_RTT * first


def worse(before: Measure, since: Measure) -> bool:
    """Whether a probe did harm."""
    if since.lost >= LEAST_LOST and since.packets >= SURE_PACKETS:
        least = min(LEAST_WHOLE, since.packets, before.packets)
        changed = compared(before.lost, before.packets, since.lost, since.packets, least=least, burst=BURST)
        if changed is Verdict.WORSE:
            return True
    first, last = before.mean_rtt_ms, since.mean_rtt_ms
    if first is None or last is None or since.rtts < 2:
        return False
    return last > max(first * WORSE_RTT, first + WORSE_RTT_MS)
