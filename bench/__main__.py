"""`python -m bench`: measures, prints and keeps the figures."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from bench import (
    assessment,
    av_skew,
    blocks,
    commands,
    events,
    gaps,
    grid,
    idle_rooms,
    joins,
    kills,
    list_participants,
    list_tracks,
    metadata,
    modes,
    mutes,
    overload,
    publications,
    pulls,
    pushes,
    reports,
    revocations,
    switches,
    worker_memory,
)
from bench.figures import RESULTS, Figure, show, write
from bench.stand import Effort, Stand, standing
from tests.livekit_process import ToolMissingError

MEASURES: Final[Mapping[str, Callable[[Stand], Awaitable[list[Figure]]]]] = {
    "list_tracks": list_tracks.measure,
    "list_participants": list_participants.measure,
    "idle_rooms": idle_rooms.measure,
    "mutes": mutes.measure,
    "events": events.measure,
    "blocks": blocks.measure,
    "publications": publications.measure,
    "gaps": gaps.measure,
    "pushes": pushes.measure,
    "pulls": pulls.measure,
    "av_skew": av_skew.measure,
    "kills": kills.measure,
    "worker_memory": worker_memory.measure,
    "commands": commands.measure,
    "switches": switches.measure,
    "metadata": metadata.measure,
    "reports": reports.measure,
    "assessment": assessment.measure,
    "modes": modes.measure,
    "revocations": revocations.measure,
    "overload": overload.measure,
    "joins": joins.measure,
    "grid": grid.measure,
}


def main() -> int:
    """The command; returns its exit status: 0 where everything was measured, whether the goals hold or not. A measure
    that breaks is told of, and takes none of the others along."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=MEASURES, help="measure this alone; may be given again")
    parser.add_argument("--quick", action="store_true", help="short and rough, to see that it works")
    given = parser.parse_args()
    console = Console(stderr=False, width=None if sys.stdout.isatty() else 160)
    try:
        names = given.only or list(MEASURES)
        measured = uvloop.run(_measure(names, Effort.quick() if given.quick else Effort.full()))
    except ToolMissingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    show([figure for figures in measured.values() for figure in figures], console)
    if given.quick:
        sys.stderr.write("A quick run: bench/results.json stays as it was.\n")
    else:
        write(measured, list(MEASURES), RESULTS)
    return 0 if measured.keys() == set(names) else 1


async def _measure(names: Sequence[str], effort: Effort) -> dict[str, list[Figure]]:
    measured: dict[str, list[Figure]] = {}
    # Processes of ours import as we do, wherever we were started.
    os.chdir(RESULTS.parent.parent)
    for name in names:
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                # A LiveKit of its own each: no figure sees rooms of another.
                async with standing(Path(directory), effort) as stand:
                    measured[name] = await MEASURES[name](stand)
        except ToolMissingError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is
            sys.stderr.write(f"{name}: broke after {time.monotonic() - begun:.0f} s\n{traceback.format_exc()}")
        else:
            sys.stderr.write(f"{name}: measured in {time.monotonic() - begun:.0f} s\n")
        await asyncio.sleep(0.5)
    return measured


if __name__ == "__main__":
    sys.exit(main())
