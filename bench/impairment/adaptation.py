"""What a quality policy does for a subscriber whose downlink gets narrow, against none.

A page in Chromium receives sound and a video of three layers over a line that becomes narrow and heals. What is counted
is the browser's own: samples of sound that it made up, and the width of the picture that it decodes.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog

from bench.figures import Figure, at_most, told
from bench.impairment.machine import Ticks
from bench.impairment.oracle import line_name
from bench.impairment.profiles import FREE, Hop
from bench.impairment.stage import BROUGHT_UP_S, COMPANION, PUBLISHER, SUBSCRIBER, Site, existing, join
from bench.impairment.told import seconds as told_seconds
from bench.processes import Helper
from bench.rounds import percentile
from tests.clients.browser.chromium import Page
from tests.impairment.line import Bounds
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import quality_policy_pb2 as qp

log = structlog.get_logger(__name__)

NARROW: Final = Bounds(rate_bps=150_000, queue_packets=30)
"""Room for the sound (about 115 kbit/s with RED and headers), and not for the lowest layer of the video beside it with
what is sent again of it. LiveKit, which by its default never takes all of a video away, goes on with that layer. A
queue that counts packets drops sound as it drops video; one that counts bytes would spare its small packets."""
FULL: Final = 960
"""Width of the video. LiveKit's SDK makes three layers of it, and one of anything of up to 360 lines."""
NARROW_S: Final = 50.0
OBSERVED_S: Final = 75.0
ALLOWED: Final = (qp.QUALITY_ACTION_KIND_VIDEO_OFF,)
"""By the policy: sound comes first, and video goes at once. All else as by default."""
_CALM_S: Final = 8.0
_LEAST_FULL_S: Final = 3.0
_TURNS: Final = 3
"""So many steps up that were taken back freeze a line, by the policy's default."""
_POLL_S: Final = 0.5
_RESAMPLED: Final = 10_000
# Keeps the page's connections, which livekit-client makes, so that their own statistics can be read.
_KEEP: Final = """
globalThis.connections = [];
globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); connections.push(this); }
};
undefined
"""
_COUNTED: Final = """
(async () => {
  const found = { concealed: 0, total: 0, width: 0, frames: 0 };
  for (const connection of connections) {
    if (connection.connectionState === "closed") continue;
    for (const stat of (await connection.getStats()).values()) {
      if (stat.type !== "inbound-rtp") continue;
      if (stat.kind === "audio") {
        found.concealed += stat.concealedSamples - stat.silentConcealedSamples;
        found.total += stat.totalSamplesReceived;
      } else {
        found.frames += stat.framesDecoded ?? 0;
        found.width = Math.max(found.width, stat.frameWidth ?? 0);
      }
    }
  }
  return found;
})()
"""


@dataclass(frozen=True, slots=True)
class Adapted:
    """One course. ``policy``: whether there was one. ``concealed``: share of the sound that was made up while the line
    was narrow. ``full_s``: from its healing until the full layer was decoded again and stayed; None: never. ``moves``:
    what adaptation did, in order; ``frozen``: it took back so many steps up that it kept still."""

    policy: bool
    concealed: float
    full_s: float | None
    moves: list[str]
    frozen: bool
    load: dict[str, float]
    narrow_width: int = 0
    """Of the picture that was decoded last while it was narrow."""


async def adapted(site: Site, *, policy: bool) -> Adapted:
    """Carries one course out."""
    assert site.chromium is not None
    room = f"adapt-{uuid.uuid4().hex[:10]}"
    async with (
        existing(site, room),
        site.track.client("bench", room_admin=True, room=room) as admin,
        site.chromium.page() as page,
        Helper("bench.impairment.peer", path=COMPANION) as publisher,
    ):
        sids = await _publish(site, admin, room, publisher)
        await page.evaluate(_KEEP)
        await page.call("join", site.livekit.url, site.token(room, SUBSCRIBER))
        await page.call("attach", {"publicKey": site.public_key})
        for sid in sids:
            await site.oracle.until_received(room, sid, SUBSCRIBER, BROUGHT_UP_S)
        if policy:
            wanted = qp.QualityPolicy(allowed_actions=ALLOWED)
            await admin.SetQualityPolicy(qp.SetQualityPolicyRequest(room=room, policy=wanted))
        await _full_at_first(page)
        await asyncio.sleep(_CALM_S)
        before = Ticks.now()
        line = line_name(room, SUBSCRIBER)
        await site.relay.change(line, Hop.DOWNLINK, NARROW)
        begin = await page.evaluate(_COUNTED)
        await asyncio.sleep(NARROW_S)
        end = await page.evaluate(_COUNTED)
        await site.relay.change(line, Hop.DOWNLINK, FREE)
        healed_s = time.time()
        full_s = await _until_full(page)
        load = Ticks.now().since(before)
        moves = await _moves(admin, room, healed_s)
        with contextlib.suppress(RuntimeError):
            await page.call("leave")
    await site.oracle.truth(room)
    share = (end["concealed"] - begin["concealed"]) / max(1, end["total"] - begin["total"])
    turns = sum(1 for move in moves if move.startswith("back"))
    return Adapted(policy, share, full_s, moves, turns >= _TURNS, asdict(load), end["width"])


async def compared(
    site: Site, repeats: int, at_once: int, until_s: float, seed: int
) -> tuple[list[Adapted], list[str]]:
    """So many courses with a policy and as many without, mixed, until ``until_s`` (monotonic); and what broke."""
    order = [True, False] * repeats
    random.Random(seed).shuffle(order)
    places = asyncio.Semaphore(at_once)
    found: list[Adapted] = []
    failed: list[str] = []

    async def one(policy: bool) -> None:
        try:
            found.append(await adapted(site, policy=policy))
        except Exception as error:
            log.exception("course_failed", policy=policy)
            failed.append(f"narrow downlink, {'policy' if policy else 'no policy'}: {error!r}"[:300])
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        for policy in order:
            await places.acquire()
            if time.monotonic() + NARROW_S + OBSERVED_S > until_s:
                places.release()
                break
            group.create_task(one(policy))
    return found, failed


def figures(courses: Sequence[Adapted], seed: int, note: str) -> list[Figure]:
    """Of both."""
    ours = [each.concealed for each in courses if each.policy]
    theirs = [each.concealed for each in courses if not each.policy]
    found: list[Figure] = []
    if len(ours) > 1 and len(theirs) > 1:
        low, high = interval(ours, theirs, seed)
        mean = sum(ours) / len(ours) - sum(theirs) / len(theirs)
        what = (
            f"share of sound that Chromium made up in {NARROW_S:g} s of {NARROW.rate_bps or 0:g} bit/s:"
            f" {_mean(ours):.2%} in {len(ours)} courses with a policy, {_mean(theirs):.2%} in {len(theirs)} without,"
            f" mixed; difference {mean:.2%}, 95 % by bootstrap {low:.2%} to {high:.2%}, all of which is to be below 0;"
            f" {note}"
        )
        name = "concealed audio while video is dropped, against no policy, upper end of the interval"
        made = at_most(name, high, "ratio", 0.0, what)
        found.append(Figure(made.figure, made.value, made.unit, "< 0", high < 0, made.note))
    for policy, name in ((True, "full layer again after healing, p95"), (False, "the same without a policy, p95")):
        took = [each.full_s for each in courses if each.policy is policy and not each.frozen]
        if not took:
            continue
        values = [1000.0 if each is None else each for each in took]
        frozen = [each.full_s for each in courses if each.policy is policy and each.frozen]
        what = (
            f"from the line's healing until Chromium decoded the full layer, and went on; {len(values)} courses;"
            f" {len(frozen)} more that the flap guard froze: {frozen or 'none'}; {note}"
        )
        value = percentile(values, 0.95)
        found.append(at_most(name, value, "s", 45.0, what) if policy else told(name, value, "s", what))
    return found


def interval(ours: Sequence[float], theirs: Sequence[float], seed: int) -> tuple[float, float]:
    """Of the difference of the means, 95 %: by drawing both anew, with replacement (Efron's percentile bootstrap)."""
    draw = random.Random(seed)
    drawn = sorted(
        _mean(draw.choices(ours, k=len(ours))) - _mean(draw.choices(theirs, k=len(theirs))) for _ in range(_RESAMPLED)
    )
    return drawn[int(0.025 * _RESAMPLED)], drawn[int(0.975 * _RESAMPLED)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


async def _publish(site: Site, admin: Client, room: str, publisher: Helper) -> list[str]:
    """A hosted tone, and a camera of LiveKit's SDK that takes the bits that it may."""
    request = pb.PublishTrackRequest(
        room=room, spec=pb.PublicationSpec(tone=pb.ToneInput()), participant_identity="singer"
    )
    sound = (await admin.PublishTrack(request, timeout=BROUGHT_UP_S)).publication.track_sid
    await join(site, room, publisher, PUBLISHER, receive=False)
    video: str = await publisher.ask("camera", width=FULL, height=540, fps=10, layers=True, bitrate_bps=700_000)
    return [sound, video]


async def _full_at_first(page: Page) -> None:
    """Returns once the full layer is decoded. Raises TimeoutError."""
    async with asyncio.timeout(BROUGHT_UP_S):
        while (await page.evaluate(_COUNTED))["width"] < FULL:
            await asyncio.sleep(_POLL_S)


async def _until_full(page: Page) -> float | None:
    """Seconds from now until frames of the full layer come, and have come for a while."""
    begun_s = time.monotonic()
    since_s: float | None = None
    frames = -1
    while time.monotonic() - begun_s < OBSERVED_S:
        await asyncio.sleep(_POLL_S)
        now: dict[str, Any] = await page.evaluate(_COUNTED)
        if now["width"] < FULL or now["frames"] <= frames:
            since_s = None
        elif since_s is None:
            since_s = time.monotonic()
        elif time.monotonic() - since_s >= _LEAST_FULL_S:
            return since_s - begun_s
        frames = now["frames"]
    return None


async def _moves(admin: Client, room: str, healed_s: float) -> list[str]:
    """Oldest first, with the seconds since the line healed."""
    listed = await admin.ListAdaptations(qp.ListAdaptationsRequest(room=room, page_size=1000))
    return [
        f"{qp.QualityMove.Name(each.move).removeprefix('QUALITY_MOVE_').lower()}"
        f" {qp.QualityActionKind.Name(each.kind).removeprefix('QUALITY_ACTION_KIND_').lower()}"
        f" {qp.QualityVerdict.Name(each.verdict).removeprefix('QUALITY_VERDICT_').lower()} at"
        f" {told_seconds(each.time) - healed_s:.0f} s: {each.reason}"
        for each in reversed(listed.actions)
        if not each.held_back
    ]
