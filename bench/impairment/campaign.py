"""All runs in random order, several at a time, within a bound of time."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from bench.impairment import film
from bench.impairment.judgement import Judgement, judge
from bench.impairment.machine import udp_drops
from bench.impairment.oracle import Oracle
from bench.impairment.profiles import Planned
from bench.impairment.relaying import RelayProcess
from bench.impairment.run import Run, perform
from bench.impairment.stage import FILM, FPS, HEIGHT, WIDTH, Site, public_key
from bench.stand import UNLIMITED
from tests.clients.browser.chromium import Chromium
from tests.impairment.relay import behind
from tests.livekit_process import LiveKitProcess, tool
from tests.track_process import TrackProcess

log = structlog.get_logger(__name__)

_STAGING_S: Final = 25.0
"""What bringing a room up and taking it down takes, with others beside it."""
_APART_S: Final = 2.0
"""Between the begins of two rooms: bringing up is what needs the processor."""


@dataclass(slots=True)
class Outcome:
    """``skipped``: names of runs for which there was no time; ``failed``: of those that broke, with why."""

    judged: list[Judgement] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    own: list[dict[str, float]] = field(default_factory=list)
    """What the relay added itself, after each run."""
    dropped: int = 0
    """Datagrams that the kernel dropped beside the relay's count."""


@contextlib.asynccontextmanager
async def site(directory: Path, seed: int, *, browser: bool) -> AsyncIterator[Site]:
    """LiveKit behind the relay, the service, and a browser."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        relay = await enter(RelayProcess(directory, seed))
        livekit = await enter(LiveKitProcess(tool("livekit-server"), directory / "livekit", behind(relay)))
        settings = {f"TRACK_{name.upper()}": str(value) for name, value in UNLIMITED.items()}
        settings |= {"TRACK_ROOM_LINGER_SECONDS": "5", "TRACK_MEDIA_DIR": str(directory)}
        await asyncio.to_thread(film.write, directory / FILM, WIDTH, HEIGHT, FPS)
        track = await enter(TrackProcess(livekit, directory / "track", settings))
        oracle = await enter(Oracle(livekit, relay))
        chromium = await enter(Chromium(directory)) if browser else None
        async with track.client("bench", room_list=True) as client:
            key = await public_key(client)
        yield Site(livekit, track, relay, oracle, chromium, key)


async def campaign(
    here: Site,
    plans: Sequence[Planned],
    *,
    at_once: int,
    until_s: float,
    seed: int,
    done: Callable[[Run, Judgement], None] = lambda *_: None,
) -> Outcome:
    """Carries them out until ``until_s`` (monotonic seconds): a run that would end later is skipped, and named.

    ``done``: told of each.
    """
    order = list(plans)
    random.Random(seed).shuffle(order)
    broken: list[Planned] = []
    outcome = Outcome()
    places = asyncio.Semaphore(at_once)
    drops = udp_drops(here.relay.port)

    async def carry_out(planned: Planned, again: bool) -> None:
        before = udp_drops(here.relay.port)
        try:
            run = await perform(here, planned)
        except Exception as error:
            # One that breaks must not take the others along: it is tried once more, and then it is named.
            log.exception("run_failed", run=planned.name, again=again)
            if again:
                outcome.failed.append(f"{planned.name}: {error!r}"[:300])
            else:
                broken.append(planned)
            return
        finally:
            places.release()
        own = await here.relay.own()
        outcome.own.append(own)
        judgement = judge(run, 2 * own.get("late_p50_ms", 0.0))
        judgement.beside = udp_drops(here.relay.port) - before
        outcome.judged.append(judgement)
        done(run, judgement)

    async def carry_all_out(queue: Sequence[Planned], again: bool) -> None:
        async with asyncio.TaskGroup() as group:
            for planned in queue:
                await places.acquire()
                if time.monotonic() + planned.profile.seconds + _STAGING_S > until_s:
                    outcome.skipped.append(planned.name)
                    places.release()
                    continue
                group.create_task(carry_out(planned, again))
                await asyncio.sleep(_APART_S)

    await carry_all_out(order, False)
    await carry_all_out(broken, True)
    outcome.dropped = udp_drops(here.relay.port) - drops
    return outcome
