"""What is done to a line, and what of it ought to be told: one entry a profile. Pure.

Thresholds of the detectors were set on synthetic links and on the profiles with ``tuned``; figures are judged on all
others alone. A change of thresholds is to be tried on the tuned ones first, by `track-server replay`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.impairment.line import Bounds
from track.v1 import quality_alert_pb2 as qa

FREE: Final = Bounds()


class Incident(StrEnum):
    """What happens beside the line."""

    NONE = ""
    STOPPED = "stopped"
    """The publisher's process is stopped (SIGSTOP): nothing comes any more, and nobody says goodbye."""
    MUTED = "muted"
    """The publisher mutes its microphone and camera."""
    SILENCE = "silence"
    """A microphone that hears nothing, with DTX: next to no packets."""
    STILL = "still"
    """A shared screen that does not move: next to no packets."""
    LAYER = "layer"
    """The subscriber asks for another layer."""
    RECONNECT = "reconnect"
    """The subscriber connects anew, all of it."""


class Hop(StrEnum):
    """Which one is impaired."""

    UPLINK = "uplink"
    DOWNLINK = "downlink"


BOTH: Final = (Hop.UPLINK, Hop.DOWNLINK)


@dataclass(frozen=True, slots=True)
class Phase:
    """So many seconds under these bounds. ``impaired``: whether something ought to be found in it."""

    seconds: float
    bounds: Bounds = FREE
    impaired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One course of events. It begins and ends with `CALM_S` of a clean line.

    ``finds``: any of these alerts says it, and one of them ought to be there in each impaired phase; empty: none has
    to. ``may``: alerts that are right as well. ``constant``: one condition throughout, on which levels and alerts are
    to stay put; ``border``: it lies on a detector's threshold. ``incident``: happens in each impaired phase. ``hops``:
    where it is done, one run for each.
    """

    name: str
    phases: tuple[Phase, ...]
    finds: frozenset[int] = frozenset()
    may: frozenset[int] = frozenset()
    constant: bool = False
    border: bool = False
    tuned: bool = False
    incident: Incident = Incident.NONE
    hops: tuple[Hop, ...] = BOTH
    latency: str = ""
    """Its finds count for that figure: `loss`, `bursts` or `stall`."""

    @property
    def seconds(self) -> float:
        """How long it lasts, calm included."""
        return sum(phase.seconds for phase in self.phases)


CALM_S: Final = 10.0
BORDERS: Final = (2, 5, 10)
"""Percent of loss at which an alert goes on or off."""
LOSS: Final = frozenset({qa.QUALITY_ALERT_KIND_NETWORK_LOSS, qa.QUALITY_ALERT_KIND_SEVERE_LOSS})
HEARD: Final = frozenset({qa.QUALITY_ALERT_KIND_BAD_AUDIO})
LATE: Final = frozenset({qa.QUALITY_ALERT_KIND_DELAY, qa.QUALITY_ALERT_KIND_CONGESTION})
NARROW: Final = LATE | {qa.QUALITY_ALERT_KIND_LOW_BANDWIDTH}
GONE: Final = frozenset({qa.QUALITY_ALERT_KIND_STALLED, qa.QUALITY_ALERT_KIND_INTERRUPTED})
FROZEN: Final = frozenset({qa.QUALITY_ALERT_KIND_STUCK_DECODER})
FLAPPING: Final = frozenset({qa.QUALITY_ALERT_KIND_FLAPPING})
AFTER_GONE: Final = LOSS | HEARD | NARROW | FROZEN | FLAPPING


def _once(bounds: Bounds, seconds: float, after_s: float) -> tuple[Phase, ...]:
    return Phase(CALM_S), Phase(seconds, bounds, True), Phase(after_s)


def _often(bounds: Bounds, seconds: float, after_s: float, times: int) -> tuple[Phase, ...]:
    return (Phase(CALM_S), *(Phase(seconds, bounds, True), Phase(after_s)) * times)


def _loss(
    percent: float, *, burst: float | None = None, latency: str = "", tuned: bool = False, hops: tuple[Hop, ...] = BOTH
) -> Profile:
    """Constant for as long as a window of 60 s takes, and then long enough to see its end, where that is judged."""
    bounds = Bounds(loss=percent / 100, burst=burst)
    name = f"loss {percent:g} %" + (f" in bursts of {burst:g}" if burst else "")
    # From a few percent on either side of a threshold the alert may be on or off, and is judged by its changes alone.
    found = percent >= 8
    may = LOSS | HEARD | NARROW | FROZEN | FLAPPING if percent > 1 else frozenset()
    return Profile(
        name=name,
        phases=_once(bounds, 64, 24 if latency else 6),
        finds=LOSS | HEARD if found else frozenset(),
        may=may,
        constant=True,
        border=percent in BORDERS,
        tuned=tuned,
        latency=latency,
        hops=hops,
    )


def _delays(*delays_ms: int) -> Profile:
    """One after the other, on one line."""
    steps = tuple(Phase(18, Bounds(delay_s=each / 1000), each >= 200) for each in delays_ms)
    return Profile(
        name=f"delay {'/'.join(map(str, delays_ms))} ms",
        phases=(Phase(CALM_S), *steps, Phase(16)),
        may=LATE | FLAPPING,
    )


def _narrow(*rates_kbps: int) -> Profile:
    """Steps down in bandwidth, with a router's queue."""
    steps = tuple(
        Phase(18, Bounds(rate_bps=1000 * each, queue_bytes=max(8_000, 125 * each // 3)), each < 200)
        for each in rates_kbps
    )
    may = LOSS | HEARD | NARROW | GONE | FROZEN | FLAPPING
    return Profile(
        name=f"bandwidth {'/'.join(map(str, rates_kbps))} kbit/s",
        phases=(Phase(CALM_S), *steps, Phase(24)),
        finds=LOSS | HEARD | NARROW,
        may=may,
    )


def _incident(incident: Incident, seconds: float, after_s: float, times: int, **rest: object) -> Profile:
    return Profile(
        name=_NAMES[incident],
        phases=_often(FREE, seconds, after_s, times),
        incident=incident,
        hops=(Hop.DOWNLINK,) if incident in (Incident.LAYER, Incident.RECONNECT) else (Hop.UPLINK,),
        **rest,  # type: ignore[arg-type]  # as named
    )


_NAMES: Final = {
    Incident.STOPPED: "publisher stopped",
    Incident.MUTED: "device muted",
    Incident.SILENCE: "silence with DTX",
    Incident.STILL: "static screen",
    Incident.LAYER: "layer switch",
    Incident.RECONNECT: "reconnect",
}
_OF_CLIENTS: Final = frozenset({Incident.STOPPED, Incident.MUTED, Incident.SILENCE, Incident.STILL})
_DEAD: Final = Bounds(dead=True)

PROFILES: Final[Sequence[Profile]] = (
    Profile(name="clean", phases=(Phase(70),), constant=True),
    _loss(1),
    _loss(2),
    _loss(5),
    _loss(10, latency="loss"),
    _loss(20),
    _loss(3, burst=3, tuned=True, hops=(Hop.UPLINK,)),
    _loss(15, tuned=True, hops=(Hop.DOWNLINK,)),
    _loss(5, burst=2),
    _loss(10, burst=5, latency="bursts"),
    Profile(
        name="loss 10 %, again and again",
        phases=_often(Bounds(loss=0.1), 14, 24, 4),
        finds=LOSS | HEARD,
        may=LOSS | HEARD | NARROW | FROZEN | FLAPPING,
        latency="loss",
    ),
    _delays(50, 100, 200, 300),
    Profile(
        name="jitter 40 ms, in order",
        phases=_once(Bounds(jitter_s=0.04), 30, 12),
        may=HEARD | FLAPPING,
    ),
    _narrow(400, 120),
    Profile(
        name="blackouts of 3 s",
        phases=_often(_DEAD, 3, 22, 4),
        finds=GONE,
        may=GONE | AFTER_GONE,
        latency="stall",
    ),
    Profile(
        name="stalls of 9 s",
        phases=_often(_DEAD, 9, 24, 3),
        finds=GONE,
        may=GONE | AFTER_GONE,
        latency="stall",
    ),
    _incident(Incident.STOPPED, 9, 24, 2, finds=GONE, may=GONE | AFTER_GONE, latency="stall"),
    _incident(Incident.MUTED, 12, 12, 2),
    _incident(Incident.SILENCE, 45, 8, 1, may=frozenset({qa.QUALITY_ALERT_KIND_SILENT_SOURCE})),
    _incident(Incident.STILL, 40, 8, 1),
    # Five changes of level within a minute would be FLAPPING, and rightly so, whoever asked for them.
    _incident(Incident.LAYER, 14, 14, 2),
    _incident(Incident.RECONNECT, 12, 14, 2, may=GONE),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One run. ``subscriber``: who receives over the line that is looked at: `pull`, `rtc` or `browser`.
    ``client_publishes``: the publisher is a client with the companion, and not hosted."""

    profile: Profile
    hop: Hop
    subscriber: str
    repeat: int
    client_publishes: bool = False

    @property
    def name(self) -> str:
        """For people."""
        publisher = "client" if self.client_publishes else "hosted"
        return f"{self.profile.name}, {self.hop}, {publisher} to {self.subscriber}, {self.repeat + 1}"


SUBSCRIBERS: Final = ("pull", "rtc", "browser")


def planned(profiles: Sequence[Profile], repeats: int) -> Iterator[Planned]:
    """Each profile at each of its hops, so often; kinds of subscribers in turn, and each third publisher a client."""
    turn = 0
    for repeat in range(repeats):
        for profile in profiles:
            for hop in profile.hops:
                yield Planned(profile, hop, _subscriber(profile, turn), repeat, _client_publishes(profile, turn))
                turn += 1


def _client_publishes(profile: Profile, turn: int) -> bool:
    if profile.incident in _OF_CLIENTS:
        return True
    return turn // 2 % 3 == 1 and profile.incident is not Incident.LAYER


def _subscriber(profile: Profile, turn: int) -> str:
    if profile.incident is Incident.RECONNECT:
        return "browser"
    if profile.incident is Incident.LAYER:
        return "rtc"
    return SUBSCRIBERS[turn % len(SUBSCRIBERS)]
