"""`python -m bench.impairment`: real media over a bad line, and what the service told of it; `make impair`."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
import uvloop
from rich.console import Console

from bench.figures import Figure, show
from bench.impairment.adaptation import Adapted, compared
from bench.impairment.adaptation import figures as adaptation_figures
from bench.impairment.campaign import Outcome, campaign, site
from bench.impairment.choir import choir
from bench.impairment.judgement import Judgement
from bench.impairment.machine import Ticks
from bench.impairment.page import page
from bench.impairment.profiles import PROFILES, Planned, planned
from bench.impairment.run import Run
from bench.impairment.summary import figures, row
from bench.processes import HelperFailedError
from tests.clients.browser.chromium import BrowserMissingError
from tests.livekit_process import ToolMissingError

_FOLDER: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = _FOLDER / "impairment.json"
_ONLY: Final = "profiles whose name has one of these words, with commas between; also `adaptation` and `choir`"
ADAPTATION: Final = "adaptation"
CHOIR: Final = "choir"
COURSES: Final = 6
"""With a policy, and as many without, for each repeat."""
COURSES_AT_ONCE: Final = 3
"""At most: each encodes a larger video in three layers."""
ADAPTATION_S: Final = 480.0
"""Kept for them."""
CHOIR_S: Final = 360.0
"""How long it sings: with its 24 flows 2.4 track-hours."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.impairment", description=__doc__)
    parser.add_argument("--minutes", type=float, default=50.0, help="no run begins that would end later; default 50")
    parser.add_argument("--repeats", type=int, default=1, help="of each profile; default 1")
    parser.add_argument("--only", default="", help=_ONLY)
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 2, help="rooms at a time; default: one a core")
    parser.add_argument("--seed", type=int, default=1, help="of the order, and of what is dropped; default 1")
    parser.add_argument("--out", type=Path, help="default: bench/impairment.json and .html, of the whole alone")
    return parser.parse_args()


async def _measure(
    asked: argparse.Namespace, console: Console
) -> tuple[list[Figure], Outcome, dict[str, object], list[Adapted]]:
    words = [word.strip() for word in asked.only.split(",") if word.strip()]
    chosen = [each for each in PROFILES if not words or any(word in each.name for word in words)]

    plans = list(planned(chosen, asked.repeats))
    begun, before = time.monotonic(), Ticks.now()
    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, it still ends what it started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def done(run: Run, judged: Judgement) -> None:
        console.print(f"{time.monotonic() - begun:5.0f} s  {judged.name}: {'; '.join(judged.alerts) or 'no alerts'}")

    until_s = begun + 60 * asked.minutes
    narrow = not words or any(word in ADAPTATION for word in words)
    adapted: list[Adapted] = []
    with tempfile.TemporaryDirectory(prefix="impairment-") as folder:
        async with site(Path(folder), asked.seed, browser=narrow or _browser(plans)) as here:
            sung = await choir(here, CHOIR_S) if not words or CHOIR in words else []
            outcome = await campaign(
                here,
                plans,
                at_once=asked.at_once,
                until_s=until_s - (ADAPTATION_S if narrow else 0),
                seed=asked.seed,
                done=done,
            )
            if narrow:
                at_once = min(asked.at_once, COURSES_AT_ONCE)
                adapted, failed = await compared(here, COURSES * asked.repeats, at_once, until_s, asked.seed)
                outcome.failed += failed
        outcome.judged += sung
    load = Ticks.now().since(before)
    machine = {
        "cores": os.cpu_count(),
        **asdict(load),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "relay_late_p99_ms": round(max((each.get("late_p99_ms", 0.0) for each in outcome.own), default=0.0), 2),
        "dropped_beside_the_relay": outcome.dropped + sum(int(each.get("unsent", 0)) for each in outcome.own[-1:]),
    }
    note = (
        f"{len(outcome.judged)} runs, {asked.at_once} rooms at a time, {load.busy:.0%} of {os.cpu_count()} cores,"
        f" {load.steal:.1%} stolen"
    )
    found = [*figures(outcome.judged, note), *adaptation_figures(adapted, asked.seed, note)]
    return found, outcome, machine, adapted


def _browser(plans: list[Planned]) -> bool:
    return any(each.subscriber == "browser" for each in plans)


def _write(
    path: Path,
    found: list[Figure],
    outcome: Outcome,
    machine: dict[str, object],
    seed: int,
    adapted: list[Adapted],
) -> None:
    document = {
        "figures": [asdict(figure) for figure in found],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": machine,
        "skipped": outcome.skipped,
        "failed": outcome.failed,
        "courses": [asdict(each) for each in adapted],
        "runs": [row(each) for each in sorted(outcome.judged, key=lambda each: each.name)],
    }
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    path.with_suffix(".html").write_text(page(document))


def main() -> int:
    """1 where a run broke."""
    asked = _arguments()
    asked.out = asked.out and asked.out.resolve()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ],
    )
    console = Console(stderr=True)
    # Processes of ours import as we do, wherever we were started.
    os.chdir(_FOLDER.parent)
    try:
        found, outcome, machine, adapted = uvloop.run(_measure(asked, console))
    except (ToolMissingError, BrowserMissingError, HelperFailedError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    out = asked.out or (None if asked.only else RESULTS)
    if out is None:
        console.print("A part: bench/impairment.json stays as it was; --out keeps this one elsewhere.")
    else:
        _write(out, found, outcome, machine, asked.seed, adapted)
    show(found, Console(width=None if sys.stdout.isatty() else 160))
    for name in outcome.failed:
        console.print(f"failed: {name}")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
