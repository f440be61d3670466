"""What was told against what was: pure functions over the relay's log and the service's words.

Each gives plain numbers, so that a judge can be shown to fail: a report that is wrong must make them worse.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.impairment.told import Flow, LiveKitLevel, Told, ToldAlert
from bench.impairment.truth import Line, Stream, lost
from track.v1.quality_alert_pb2 import QUALITY_HOP_UPLINK
from track.v1.quality_pb2 import QualityShare

RTT_ABSOLUTE_MS: Final = 5.0
RTT_SHARE: Final = 0.05
RTX_BYTES: Final = 2
SETTLED_S: Final = 8.0
"""After a change of the line so long, a round trip that was measured before it is not held against it: it is the way of
a sender report and of the receiver report that answers it, and libwebrtc sends those of sound every 2.5 to 7.5 s."""
LATE_S: Final = 0.005
"""Where the relay itself, which has little to do, came later than this to its work meanwhile, so did all others, and
what the machine added to the round trip is not known."""
_SLACK: Final = 0.2
"""A window that is so much shorter or longer than asked, as a share, is still that window."""


@dataclass(frozen=True, slots=True)
class Error:
    """One comparison. ``told``, ``true``: in the same unit."""

    time_s: float
    told: float
    true: float

    @property
    def size(self) -> float:
        """How far it is off."""
        return abs(self.told - self.true)


@dataclass(frozen=True, slots=True)
class Find:
    """One impaired phase on one flow: how long until an alert was learnt of, and after healing until none was on.

    ``found_s``: None: never before the next phase. ``cleared_s``: None: not found, or still on when the next one began.
    ``already``: one was on when it began, so that there was nothing to find.
    """

    flow: Flow
    begin_s: float
    found_s: float | None
    cleared_s: float | None
    already: bool = False


def loss_errors(told: Iterable[Told], streams: Sequence[Stream], window_s: float) -> tuple[list[Error], list[Error]]:
    """Loss before repair against the relay's count over the same span: in percentage points, and in packets.

    Of measurements over about ``window_s`` alone. Where loss after repair alone is told, as of sound, that is it.
    """
    points, packets = [], []
    for each in told:
        share = _loss(each)
        if share is None or not _about(each.window_s, window_s):
            continue
        begin_s, end_s = each.span(share.age.ToNanoseconds() * 1e-9)
        truth = lost(streams, begin_s, end_s)
        if not truth.whole:
            continue
        points.append(Error(each.time_s, share.percent, truth.percent))
        packets.append(Error(each.time_s, share.part, float(truth.part)))
    return points, packets


def rtt_errors(told: Iterable[Told], line: Line, own_ms: float) -> tuple[list[Error], int]:
    """Round trips in milliseconds, where the relay knows them, and how many it does not because the machine was late.
    ``own_ms``: what the relay itself adds."""
    found, late = [], 0
    for each in told:
        if not each.measurement.HasField("rtt_ms"):
            continue
        number = each.measurement.rtt_ms
        at_s = each.time_s - number.age.ToNanoseconds() * 1e-9
        if not line.settled(at_s - SETTLED_S, at_s):
            continue
        if line.late_s(at_s - SETTLED_S, at_s) > LATE_S:
            late += 1
        else:
            found.append(Error(at_s, number.value, line.rtt_ms(at_s) + own_ms))
    return found, late


def beyond_bound(error: Error) -> float:
    """A round trip's error as a share of what is allowed: 5 ms or 5 %, whichever is more."""
    return error.size / max(RTT_ABSOLUTE_MS, RTT_SHARE * error.true)


def bitrate_errors(
    told: Iterable[Told], streams: Sequence[Stream], window_s: float, repairs: Sequence[Stream] = ()
) -> list[Error]:
    """Payload in bits per second over about ``window_s``: what was sent on an uplink, each packet once, or what came.

    ``repairs``: streams of retransmissions (RTX): what came so is media that came, less the two bytes of its old number
    (RFC 4588, 4).
    """
    found = []
    for each in told:
        if not each.measurement.HasField("bitrate_bps") or not _about(each.window_s, window_s):
            continue
        number = each.measurement.bitrate_bps
        begin_s, end_s = each.span(number.age.ToNanoseconds() * 1e-9)
        passed_only = each.flow.hop != QUALITY_HOP_UPLINK
        carried = sum(stream.payload(begin_s, end_s, passed_only=passed_only) for stream in streams)
        if passed_only:
            carried += sum(stream.payload(begin_s, end_s, passed_only=True, less=RTX_BYTES) for stream in repairs)
        if carried:
            found.append(Error(each.time_s, number.value, 8 * carried / (end_s - begin_s)))
    return found


def frame_errors(told: Iterable[Told], streams: Sequence[Stream], window_s: float) -> list[Error]:
    """Frames per second over about ``window_s``, of the stream that carries most: as for bit rates."""
    found = []
    for each in told:
        if not each.measurement.HasField("frames_per_second") or not _about(each.window_s, window_s):
            continue
        number = each.measurement.frames_per_second
        begin_s, end_s = each.span(number.age.ToNanoseconds() * 1e-9)
        passed_only = each.flow.hop != QUALITY_HOP_UPLINK
        largest = max(streams, key=lambda stream: stream.payload(begin_s, end_s, passed_only=passed_only), default=None)
        if largest is None or not (frames := largest.frames(begin_s, end_s, passed_only=passed_only)):
            continue
        found.append(Error(each.time_s, number.value, frames / (end_s - begin_s)))
    return found


def find(
    alerts: Iterable[ToldAlert], flow: Flow, kinds: Collection[int], begin_s: float, end_s: float, until_s: float
) -> Find:
    """How an impaired phase from ``begin_s`` to ``end_s`` was told on ``flow``; the next one begins at ``until_s``."""
    on_flow = [alert for alert in alerts if alert.flow == flow and alert.kind in kinds]
    if any(alert.on_s < begin_s and (alert.off_s is None or alert.off_s > begin_s) for alert in on_flow):
        return Find(flow, begin_s, None, None, already=True)
    of_it = [alert for alert in on_flow if begin_s <= alert.on_s < until_s]
    if not of_it:
        return Find(flow, begin_s, None, None)
    ends = [alert.off_s for alert in of_it]
    cleared = None if any(end is None or end > until_s for end in ends) else max(end for end in ends if end is not None)
    return Find(
        flow,
        begin_s,
        min(alert.on_s for alert in of_it) - begin_s,
        None if cleared is None else max(0.0, cleared - end_s),
    )


def false_alarms(alerts: Iterable[ToldAlert], right: Collection[int]) -> list[ToldAlert]:
    """Those of kinds that nothing speaks for."""
    return [alert for alert in alerts if alert.kind not in right]


def right_causes(alerts: Iterable[ToldAlert], kinds: Collection[int], faults: Collection[int]) -> tuple[int, int]:
    """Alerts of those kinds whose last told fault is one of ``faults``, of all of those kinds."""
    causes = [alert.fault in faults for alert in alerts if alert.kind in kinds]
    return sum(causes), len(causes)


def alert_changes(alerts: Iterable[ToldAlert], begin_s: float, end_s: float) -> int:
    """Alerts that went on or off in between."""
    moments = [moment for alert in alerts for moment in (alert.on_s, alert.off_s) if moment is not None]
    return sum(1 for moment in moments if begin_s < moment <= end_s)


def livekit_changes(levels: Iterable[LiveKitLevel], identity: str, begin_s: float, end_s: float) -> int:
    """How often LiveKit told another level of a participant in between. The first of all is no change."""
    changes, before = 0, None
    for each in sorted(levels, key=lambda level: level.time_s):
        if each.identity != identity or each.time_s > end_s:
            continue
        if before is not None and each.level != before and each.time_s > begin_s:
            changes += 1
        before = each.level
    return changes


def livekit_said(levels: Iterable[LiveKitLevel], identity: str, begin_s: float, end_s: float) -> set[int]:
    """All levels that LiveKit held it to have in between."""
    told = sorted((each for each in levels if each.identity == identity), key=lambda level: level.time_s)
    at_begin = [each.level for each in told if each.time_s <= begin_s][-1:]
    return {*at_begin, *(each.level for each in told if begin_s < each.time_s <= end_s)}


def _loss(told: Told) -> QualityShare | None:
    for name in ("loss_before_repair", "loss_after_repair"):
        if told.measurement.HasField(name):
            share: QualityShare = getattr(told.measurement, name)
            return share
    return None


def _about(window_s: float, asked_s: float) -> bool:
    return abs(window_s - asked_s) <= _SLACK * asked_s
