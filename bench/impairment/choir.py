"""Many sound tracks on a line that nothing is done to, and nothing beside them: where any alert is a false one."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Final, Self

from bench.impairment.judgement import Judgement
from bench.impairment.machine import Ticks, udp_drops
from bench.impairment.stage import BROUGHT_UP_S, COMPANION, SUBSCRIBER, Site, existing, join
from bench.impairment.told import Everything, Flow, ToldAlert
from bench.impairment.witness import Witness
from bench.processes import Helper
from track.v1 import publication_pb2 as pb
from track.v1.quality_alert_pb2 import QUALITY_ALERT_KIND_CPU, QualityAlertKind, QualityHop

VOICES: Final = 12
_SINGERS: Final = 3
_EVERY_S: Final = 5
_PIECE_S: Final = 20.0
"""Where the kernel drops a datagram, so much of it is left out, and not the whole."""


async def choir(site: Site, seconds: float, voices: int = VOICES) -> list[Judgement]:
    """So many hosted tones, received by one client with the companion, for so long."""
    room = f"choir-{uuid.uuid4().hex[:10]}"
    async with (
        existing(site, room),
        site.track.client("bench", room_admin=True, room=room) as admin,
        Helper("bench.impairment.peer", path=COMPANION) as peer,
    ):
        witness = Witness(admin, room, every_s=_EVERY_S, windows_s=(_EVERY_S,), record=False)
        try:
            sids = []
            for number in range(voices):
                request = pb.PublishTrackRequest(
                    room=room,
                    spec=pb.PublicationSpec(tone=pb.ToneInput(frequency_hz=200 + 40 * number)),
                    participant_identity=f"singer-{number % _SINGERS}",
                )
                sids.append((await admin.PublishTrack(request, timeout=BROUGHT_UP_S)).publication.track_sid)
            await join(site, room, peer, SUBSCRIBER, receive=True)
            for sid in sids:
                await site.oracle.until_received(room, sid, SUBSCRIBER, BROUGHT_UP_S)
            witness.begin()
            marks = [Mark.now(site)]
            while (left_s := marks[0].time_s + seconds - marks[-1].time_s) > 0:
                await asyncio.sleep(min(_PIECE_S, left_s))
                marks.append(Mark.now(site))
            witness.check()
            told = await witness.end([])
        finally:
            await witness.aclose()
    async with asyncio.timeout(BROUGHT_UP_S):
        await site.oracle.truth(room)
    return judged_by_pieces(told, voices, marks)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment. ``ticks``: the machine's; ``drops``: datagrams that the kernel has dropped by then."""

    time_s: float
    ticks: Ticks
    drops: int

    @classmethod
    def now(cls, site: Site) -> Self:
        """Now."""
        return cls(time.time(), Ticks.now(), udp_drops(site.relay.port))


def judged_by_pieces(told: Everything, voices: int, marks: Sequence[Mark]) -> list[Judgement]:
    """All alerts of it are false, and time counts in which a flow was measured. Pieces between two ``marks`` in which
    the kernel dropped nothing are one judgement, and the others one with what it dropped; nothing is judged of a piece
    after one of those, whose alerts may be of before."""
    load = marks[-1].ticks.since(marks[0].ticks)
    found: dict[bool, Judgement] = {}
    spoiled = False
    for begin, end in pairwise(marks):
        drops = end.drops - begin.drops
        spoiled_before, spoiled = spoiled, drops > 0
        name = f"choir of {voices} sound tracks"
        sound = not (spoiled or spoiled_before)
        judged = found.setdefault(sound, Judgement(name, "clean", "both", False, asdict(load), 0.0))
        judged.seconds += end.time_s - begin.time_s
        judged.beside += drops
        measured: dict[Flow, list[float]] = {}
        for each in told.reports:
            if begin.time_s < each.time_s <= end.time_s:
                measured.setdefault(each.flow, [begin.time_s]).append(each.time_s)
        judged.clean_s += sum(max(times) - min(times) for times in measured.values())
        alerts = [each for each in told.alerts if begin.time_s < each.on_s <= end.time_s]
        wrong = [each for each in alerts if each.kind != QUALITY_ALERT_KIND_CPU]
        judged.cpu += len(alerts) - len(wrong)
        judged.false += [_said(each) for each in wrong]
    return list(found.values())


def _said(alert: ToldAlert) -> str:
    kind = QualityAlertKind.Name(alert.kind).removeprefix("QUALITY_ALERT_KIND_").lower()  # type: ignore[arg-type]
    hop = QualityHop.Name(alert.flow.hop).removeprefix("QUALITY_HOP_").lower()  # type: ignore[arg-type]
    return f"{kind} {hop} of the choir"
