"""`python -m chaos`: runs for a while, and writes what happened to chaos/results.json."""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from chaos.run import long, short

_RESULTS: Final = Path(__file__).with_name("results.json")


def main() -> int:
    """The command; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="chaos", description="Streams of events while everything is killed and cut.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--short", action="store_true", help="each fault once, whatever --seconds says")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        begun = time.monotonic()
        work = (
            short(arguments.seed, Path(directory))
            if arguments.short
            else long(arguments.seed, arguments.seconds, Path(directory))
        )
        figures = runner.run(work)
        took = time.monotonic() - begun
    result = {
        "seed": arguments.seed,
        "seconds": round(took),
        "happened": dict(sorted(figures.counted.items())),
        "findings": figures.findings,
    }
    arguments.results.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 1 if figures.findings else 0


if __name__ == "__main__":
    sys.exit(main())
