"""All runs together: the issue's figures, with what they rest on. Pure.

Profiles on which thresholds were set (``tuned``) count for no figure about alerts; what was measured counts of all.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from bench.figures import Figure, at_least, at_most, told
from bench.impairment.judgement import Judgement
from bench.rounds import percentile

_ERRORS: Final = ("loss_60", "loss_5", "rtt", "bitrate", "frames")
_P95: Final = 0.95
_LATENCIES: Final[Sequence[tuple[str, str, tuple[float | None, float | None]]]] = (
    ("loss", "loss of 10 % found", (5.0, 7.0)),
    ("bursts", "loss of 10 % in bursts of 5 found", (None, None)),
    ("stall", "stall or blackout found", (None, 6.0)),
)
"""What is found, and how soon its median and p95 are to be; None: only told."""
_NEVER_S: Final = 1000.0
"""What was never found, or never cleared, counts as this long: it is in no percentile by being left out."""


def figures(judged: Sequence[Judgement], note: str) -> list[Figure]:
    """``note``: of the machine and the whole, for each of them.

    Runs in which the kernel dropped datagrams count for nothing: what happened in them is not known.
    """
    known = [each for each in judged if not each.beside]
    if len(known) < len(judged):
        note = f"{len(judged) - len(known)} runs left out, in which the machine lost datagrams itself; {note}"
    others = [each for each in known if not each.tuned]
    return [
        *_measured(known, note),
        *_alerts(others, note),
        *_replayed(others, note),
        *_beside(known, note),
    ]


def row(judgement: Judgement) -> dict[str, Any]:
    """One run for the file: of errors their count, median, p95 and worst."""
    told = asdict(judgement)
    for name in _ERRORS:
        errors = told[name]
        told[name] = {"count": len(errors)} | (
            {
                "p50": round(percentile(errors, 0.5), 4),
                "p95": round(percentile(errors, _P95), 4),
                "worst": round(max(errors), 4),
            }
            if errors
            else {}
        )
    for find in told["finds"]:
        for name in ("begin_s", "found_s", "cleared_s"):
            find[name] = None if find[name] is None else round(find[name], 2)
    return told


def _measured(judged: Sequence[Judgement], note: str) -> list[Figure]:
    loss_60 = [error for each in judged for error in each.loss_60]
    loss_5 = [error for each in judged for error in each.loss_5]
    rtt = [error for each in judged for error in each.rtt]
    bitrate = [error for each in judged for error in each.bitrate]
    frames = [error for each in judged for error in each.frames]
    late = sum(each.rtt_late for each in judged)
    trips = f"against the relay's delay, whichever is more; {late} more not judged, as the machine itself was late then"
    found = []
    for name, errors, unit, goal, what in (
        ("packets lost over 60 s, off by, p95", loss_60, "points", 0.2, "against the relay's count of the same 60 s"),
        ("packets lost over 5 s, off by, p95", loss_5, "packets", 2.0, "against the relay's count of the same 5 s"),
        ("round trip, off by, p95", rtt, "of 5 ms or 5 %", 1.0, trips),
        ("bit rate over 5 s, off by, p95", bitrate, "ratio", 0.03, "against the payload that the relay saw"),
        ("frames over 5 s, off by, p95", frames, "fps", 1.0, "against the RTP timestamps that the relay saw"),
    ):
        if errors:
            spread = f"p50 {percentile(errors, 0.5):.3g}, worst {max(errors):.3g} of {len(errors)} comparisons"
            found.append(at_most(name, percentile(errors, _P95), unit, goal, f"{what}; {spread}; {note}"))
    return found


def _alerts(others: Sequence[Judgement], note: str) -> list[Figure]:
    found: list[Figure] = []
    for latency, name, goals in _LATENCIES:
        finds = [find for each in others if each.latency == latency for find in each.finds if not find.already]
        if not finds:
            continue
        took = [_NEVER_S if find.found_s is None else find.found_s for find in finds]
        missed = sum(1 for find in finds if find.found_s is None)
        what = (
            f"from the relay's change to when a reader of WatchEvents learnt of it; {len(finds)} times on one flow,"
            f" {missed} never found (counted as {_NEVER_S:g} s); worst {max(took):.3g} s; {note}"
        )
        for share, goal in zip((0.5, _P95), goals, strict=True):
            title, value = f"{name}, p{100 * share:g}", percentile(took, share)
            found.append(told(title, value, "s", what) if goal is None else at_most(title, value, "s", goal, what))
        cleared = [_NEVER_S if each.cleared_s is None else each.cleared_s for each in finds if each.found_s is not None]
        if cleared:
            what = f"from the line's healing to the end of the last alert; {len(cleared)} times; {note}"
            name = f"{name.removesuffix(' found')}, cleared after healing, p95"
            if latency == "stall":
                found.append(at_most(name, percentile(cleared, _P95), "s", 15.0, what))
            else:
                found.append(told(name, percentile(cleared, _P95), "s", what))
    hours = sum(each.clean_s for each in others) / 3600
    false = [alarm for each in others for alarm in each.false]
    if hours:
        what = (
            f"{hours:.2f} track-hours of lines that nothing was done to; beside them {sum(each.cpu for each in others)}"
            f" CPU alerts; {'; '.join(false[:5]) or 'no other'}; {note}"
        )
        found.append(at_most("false alarms on clean links", len(false), "alerts", 0, what))
    right, whole = (sum(each.causes[part] for each in others) for part in (0, 1))
    if whole:
        wrong = [each for one in others for each in one.wrong_causes][:5]
        what = f"{right} of {whole} alerts of impaired runs, as told last; wrong: {'; '.join(wrong) or 'none'}; {note}"
        found.append(at_least("right cause", right / whole, "ratio", 0.9, what))
    return found


def _replayed(others: Sequence[Judgement], note: str) -> list[Figure]:
    found = []
    for border, name, goal in ((False, "off", 1.0), (True, "on", 4.0)):
        hours = [count for each in others if each.border is border for count in each.replayed]
        if hours:
            profiles = sorted({each.profile for each in others if each.border is border and each.replayed})
            what = (
                f"{len(hours)} hours of recorded readings replayed, worst {max(hours)}: {', '.join(profiles)}; {note}"
            )
            title = f"alert changes an hour at constant impairment, {name} a threshold"
            found.append(at_most(title, sum(hours) / len(hours), "changes an hour", goal, what))
    return found


def _beside(judged: Sequence[Judgement], note: str) -> list[Figure]:
    """LiveKit's own level on the same runs."""
    compared = [each for each in judged if each.livekit_changes is not None and each.constant_s > 0]
    if not compared:
        return []
    hours = sum(each.constant_s for each in compared) / 3600
    theirs = sum(each.livekit_changes or 0 for each in compared) / hours
    ours = sum(each.own_changes or 0 for each in compared) / hours
    alerts = sum(each.constant_changes or 0 for each in compared) / hours
    what = f"{len(compared)} runs at constant impairment, {hours:.2f} hours, from ten seconds after its begin; {note}"
    return [
        told("LiveKit's ConnectionQuality at constant impairment", theirs, "changes an hour", what),
        told("our level of sound on the same", ours, "changes an hour", what),
        told("our alerts of sound on the same", alerts, "changes an hour", what),
    ]
