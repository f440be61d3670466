"""One run: a profile carried out on a stage, with what was told of it and what is true."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.impairment.machine import Load, Ticks
from bench.impairment.oracle import line_name
from bench.impairment.profiles import Hop, Phase, Planned
from bench.impairment.stage import PUBLISHER, Site, Stage, staged
from bench.impairment.told import Everything, Flow, Told
from bench.impairment.truth import Truth
from track.v1.quality_alert_pb2 import QUALITY_HOP_DOWNLINK, QUALITY_HOP_UPLINK

_MEASURED_S: Final = 30.0
_LATE_S: Final = 6.0
"""So much later at most what a client measured on a dead line arrives."""
_TEARDOWN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Happened:
    """A phase as it was: seconds UTC."""

    phase: Phase
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """``tracks``: SIDs by `sound` and `video`. ``unmeasured``: flows that the service had no numbers of at first."""

    planned: Planned
    happened: Sequence[Happened]
    told: Everything
    truth: Truth
    tracks: dict[str, str]
    subscriber: str
    other: str
    unmeasured: Sequence[str]
    load: Load

    @property
    def begin_s(self) -> float:
        """Of the first phase, seconds UTC."""
        return self.happened[0].begin_s

    @property
    def end_s(self) -> float:
        """Of the last phase, seconds UTC."""
        return self.happened[-1].end_s

    @property
    def impaired(self) -> Sequence[Happened]:
        """Phases in which something ought to be found."""
        return [each for each in self.happened if each.phase.impaired]

    def steady(self, told: Told) -> bool:
        """Whether one phase alone lies in a measurement's window, and the two seconds before it."""
        return any(
            each.begin_s <= told.time_s - told.window_s - 2 and told.time_s <= each.end_s for each in self.happened
        )

    def dead(self, told: Told) -> bool:
        """Whether the line was dead in a measurement's window. libwebrtc's receiver takes a gap of more than 50 packets
        for a restart of the stream, and counts none of them as lost (`kDefaultMaxReorderingThreshold`)."""
        begin_s = told.time_s - told.window_s - _LATE_S
        return any(
            each.phase.bounds.dead and each.begin_s < told.time_s and begin_s < each.end_s for each in self.happened
        )

    def flow(self, kind: str, hop: Hop | None = None) -> Flow | None:
        """That track on the hop that is looked at, or another one; None where there is no such track."""
        if kind not in self.tracks:
            return None
        if (hop or self.planned.hop) is Hop.UPLINK:
            return Flow(self.tracks[kind], QUALITY_HOP_UPLINK, PUBLISHER)
        return Flow(self.tracks[kind], QUALITY_HOP_DOWNLINK, self.subscriber)


async def perform(site: Site, planned: Planned) -> Run:
    """Carries it out. Raises what went wrong, after everything of it was taken down."""
    room = f"impair-{uuid.uuid4().hex[:10]}"
    async with staged(site, room, planned) as stage:
        unmeasured = await _measured(stage, planned)
        before = Ticks.now()
        happened = [await _pass(stage, planned, phase) for phase in planned.profile.phases]
        load = Ticks.now().since(before)
        told = await stage.witness.end(await stage.livekit_said())
    async with asyncio.timeout(_TEARDOWN_S):
        truth = await site.oracle.truth(room)
    return Run(planned, happened, told, truth, stage.tracks, stage.subscriber, stage.other, unmeasured, load)


async def _pass(stage: Stage, planned: Planned, phase: Phase) -> Happened:
    identity = PUBLISHER if planned.hop is Hop.UPLINK else stage.subscriber
    begin_s = await stage.site.relay.change(line_name(stage.room, identity), planned.hop, phase.bounds)
    until_s = asyncio.get_running_loop().time() + phase.seconds
    if phase.impaired:
        await stage.happens(planned.profile.incident, True)
    await asyncio.sleep(until_s - asyncio.get_running_loop().time())
    if phase.impaired:
        await stage.happens(planned.profile.incident, False)
    stage.witness.check()
    return Happened(phase, begin_s, time.time())


async def _measured(stage: Stage, planned: Planned) -> list[str]:
    """Waits until the service measures all flows that are looked at; those that it does not in time."""
    deadline_s = time.monotonic() + _MEASURED_S
    hops = {QUALITY_HOP_UPLINK: PUBLISHER, QUALITY_HOP_DOWNLINK: stage.subscriber}
    while True:
        stage.witness.check()
        missing = [
            f"{kind} {'up' if hop == QUALITY_HOP_UPLINK else 'down'}"
            for kind, sid in stage.tracks.items()
            for hop, identity in hops.items()
            if identity not in stage.witness.measured(sid, hop)
        ]
        if not missing or time.monotonic() > deadline_s:
            return missing
        await asyncio.sleep(0.25)
