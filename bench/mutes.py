"""From a mute in LiveKit to the event: on WatchEvents, and at a participant with the official SDK."""

import asyncio
import time
from typing import Final

from livekit import api

from bench.figures import Figure, at_most
from bench.processes import Helper
from bench.rounds import percentile, spread
from bench.stand import PARTICIPANTS, Stand

_GOAL_MS: Final = 10.0
_PAUSE_S: Final = 0.02
_DEADLINE_S: Final = 5.0

Seen = dict[tuple[str, bool, int], float]


async def measure(stand: Stand) -> list[Figure]:
    """Mutes and unmutes tracks through LiveKit's API; every one is seen by both observers, each in its own process."""
    async with (
        stand.populated() as (room, sids),
        stand.track_service({"TRACK_MEDIA_WORKERS": "0"}) as track,
        stand.client("bench.peers") as watcher,
        stand.client("bench.sdk") as sdk,
        stand.api() as client,
    ):
        token = stand.token("bench", room=room, room_join=True)
        await watcher.ask("watch", address=track.address, token=token, room=room)
        await sdk.ask("observe", url=stand.livekit.url, token=stand.token("observer", room=room, room_join=True))
        # The microphones: cameras are muted by their publishers.
        microphones = [(f"speaker-{n}", sids[2 * n]) for n in range(PARTICIPANTS)]
        asked: Seen = {}
        for number in range(-2 * len(microphones), stand.effort.events):
            identity, sid = microphones[number % len(microphones)]
            turn = number // len(microphones)
            key = (sid, turn % 2 == 0, turn)
            asked[key] = time.monotonic()
            await client.room.mute_published_track(
                api.MuteRoomTrackRequest(room=room, identity=identity, track_sid=sid, muted=key[1])
            )
            await asyncio.sleep(_PAUSE_S)
        ours, theirs = await _collect(watcher, len(asked)), await _collect(sdk, len(asked))
    return [_figure(asked, _numbered(ours), _numbered(theirs))]


async def _collect(observer: Helper, count: int) -> list[tuple[str, bool, float]]:
    """What the observer has seen, once it has seen ``count`` events."""
    seen: list[tuple[str, bool, float]] = []
    async with asyncio.timeout(_DEADLINE_S):
        while len(seen) < count:
            seen += [(sid, muted, at) for sid, muted, at in await observer.ask("seen")]
            await asyncio.sleep(0.05)
    return seen


def _numbered(seen: list[tuple[str, bool, float]]) -> Seen:
    """Times by SID, muted and turn: every track is muted and unmuted in turn, from turn -2 on."""
    counts: dict[str, int] = {}
    numbered: Seen = {}
    for sid, muted, at in seen:
        turn = counts[sid] = counts.get(sid, -3) + 1
        numbered[sid, muted, turn] = at
    return numbered


def _figure(asked: Seen, ours: Seen, theirs: Seen) -> Figure:
    measured = [key for key in asked if key[2] >= 0]
    mine = [(ours[key] - asked[key]) * 1e3 for key in measured]
    peers = [(theirs[key] - asked[key]) * 1e3 for key in measured]
    later = spread([a - b for a, b in zip(mine, peers, strict=True)])
    p99_mine, p99_peers = percentile(mine, 0.99), percentile(peers, 0.99)
    note = (
        f"{len(measured)} mutes and unmutes through LiveKit's API, each timed from its request to both observers, which"
        " are processes of their own on the clients' core and share the machine's monotonic clock;"
        f" WatchEvents p50 {percentile(mine, 0.5):.2f}, p99 {p99_mine:.2f} ms; SDK p50 {percentile(peers, 0.5):.2f},"
        f" p99 {p99_peers:.2f} ms; WatchEvents later by {later} ms, event by event"
    )
    return at_most(
        "Mute to WatchEvents, p99 beyond that of an SDK participant", p99_mine - p99_peers, "ms", _GOAL_MS, note
    )
