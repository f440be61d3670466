"""What a subscriber of a grid of nine is sent: with rules, a focus and viewports, against subscribing to everything."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from livekit import api

from bench.figures import Figure, at_least, told
from bench.rounds import spread
from bench.stand import Stand
from tests.clients.browser.chromium import Chromium, Page
from tests.impairment.relay import Relay, behind
from tests.livekit_process import LiveKitProcess, tool
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import server_info_pb2
from track.v1 import subscription_pb2 as sub

_GOAL: Final = 0.6
_OTHERS: Final = 8
_WIDTH: Final = 640
_HEIGHT: Final = 360
_RATE: Final = 15
_LAYERS: Final = ((320, 180, 160_000), (_WIDTH, _HEIGHT, 450_000))
_WAIT_S: Final = 90.0
_OTHERS_S: Final = 30.0
_SETTLE_S: Final = 5.0
_WINDOW_S: Final = 8.0
# Who is what of the eight: one is pinned, one in the audience, four are a strip below the focus and as wide as it, and
# the others are scrolled out of that.
_FOCUS: Final = 0
_AUDIENCE: Final = 1
_AWAY: Final = (2, 3)
_FILM_S: Final = 4
# Each video is of the size that its role has; who is not named is seen small.
_TILES: Final = """
(() => {
  const styles = STYLES;
  for (const video of document.querySelectorAll("video"))
    video.style.cssText = styles[video.id] ?? "width: 160px; height: 90px";
})()
"""
_WIDTHS: Final = """
Object.fromEntries([...document.querySelectorAll("video")].map((video) => [video.id, video.videoWidth]))
"""
_NO_PREVIEW: Final = 'document.querySelectorAll("video").forEach((video) => video.remove())'
_LARGE: Final = f"width: {_WIDTH}px; height: {_HEIGHT}px"
_OUT_OF_SIGHT: Final = "position: absolute; top: 9000px; width: 160px; height: 90px"


async def measure(stand: Stand) -> list[Figure]:
    """The same eight are received twice, as often as there are rounds: by a client as it is, and with the companion.

    What is counted is what passes a relay to that client: everything that it is sent over UDP.
    """
    directory = stand.directory / "grid"
    directory.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        relay = await enter(Relay())
        livekit = await enter(LiveKitProcess(tool("livekit-server"), directory / "livekit", behind(relay)))
        film = await asyncio.to_thread(_film, directory / "film.y4m")
        chromium = await enter(Chromium(directory, f"--use-file-for-fake-video-capture={film}"))
        mine = Stand(livekit, directory, stand.effort)
        everywhere = stand.server_cpus | stand.client_cpus
        track = await enter(mine.track_service({"TRACK_MEDIA_WORKERS": "0"}, cpus=everywhere))
        room = await mine.room()
        admin = await enter(track.client("bench", room_admin=True, room=room))
        key = bytes((await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())).control_key.public_key)
        grid = _Grid(mine, chromium, relay, admin, room, {"publicKey": base64.b64encode(key).decode()})
        sids = [await grid.publish(enter, number) for number in range(_OTHERS)]
        plain: list[float] = []
        ruled: list[float] = []
        for _ in range(max(2, stand.effort.rounds - 2)):
            plain.append(await grid.receive_everything(sids))
            ruled.append(await grid.receive_as_ruled(sids))
    saved = [1 - ours / theirs for ours, theirs in zip(ruled, plain, strict=True)]
    note = (
        f"{_OTHERS} cameras of {_WIDTH}x{_HEIGHT} at {_RATE} fps in two layers, from Chromium to Chromium: the focus is"
        " received in full in both; one is not subscribed by a rule, two are out of sight, four are a strip of 160x90;"
        f" bytes of UDP to the subscriber in {_WINDOW_S:g} s; without rules it had {grid.full} of them in full"
    )
    return [
        at_least("bytes saved in a grid of nine", median(saved), "ratio", _GOAL, f"{note}; {spread(saved)}"),
        told("received of a grid of nine, everything", median(plain), "kbit/s", f"{note}; {spread(plain)}"),
        told("received of a grid of nine, as ruled", median(ruled), "kbit/s", f"{note}; {spread(ruled)}"),
    ]


@dataclass(frozen=True, slots=True)
class _Grid:
    stand: Stand
    chromium: Chromium
    relay: Relay
    admin: Client
    room: str
    key: Mapping[str, str]
    full: list[int] = field(default_factory=list)
    """How many of them a client that subscribes to all had in full, each time."""

    async def publish(self, enter: Any, number: int) -> str:
        """One more page with a camera; the SID of its track."""
        page: Page = await enter(self.chromium.page())
        identity = f"camera-{number}"
        await self._join(page, identity, auto_subscribe=False)
        await page.call("attach", self.key)
        if number == _AUDIENCE:
            async with self.stand.api() as client:
                attributes = {"seat": "audience"}
                await client.room.update_participant(
                    api.UpdateParticipantRequest(room=self.room, identity=identity, attributes=attributes)
                )
        video = pb.VideoOptions(width=_WIDTH, height=_HEIGHT, frames_per_second=_RATE)
        # A busy machine sends fewer frames then, and not without the larger layer.
        video.degradation_preference = pb.DEGRADATION_PREFERENCE_MAINTAIN_RESOLUTION
        for width, height, bitrate_bps in _LAYERS:
            video.layers.add(width=width, height=height, max_bitrate_bps=bitrate_bps)
        spec = pb.PublicationSpec(device=pb.DeviceInput(kind=pb.DEVICE_KIND_CAMERA), video=video)
        request = pb.PublishTrackRequest(room=self.room, participant_identity=identity, spec=spec)
        sid = (await self.admin.PublishTrack(request, timeout=_WAIT_S)).publication.track_sid
        await page.evaluate(_NO_PREVIEW)
        return sid

    async def receive_everything(self, sids: Sequence[str]) -> float:
        """kbit/s to a client that subscribes to all, as LiveKit's does by itself."""
        async with self._viewer() as (page, received):
            await _shown(page, {sids[_FOCUS]: _WIDTH})
            # A machine that cannot encode them all in full sends less of the others: what is saved reads the smaller.
            with contextlib.suppress(TimeoutError):
                await _shown(page, dict.fromkeys(sids, _WIDTH), _OTHERS_S)
            self.full.append(list((await page.evaluate(_WIDTHS)).values()).count(_WIDTH))
            return await received()

    async def receive_as_ruled(self, sids: Sequence[str]) -> float:
        """kbit/s to one with the companion, under the room's rules."""
        rule = sub.SubscriptionRule(
            name="audience",
            condition='publisher.attributes["seat"] == "audience"',
            action=sub.SUBSCRIPTION_ACTION_UNSUBSCRIBE,
        )
        policy = sub.SubscriptionPolicy(rules=[rule])
        await self.admin.SetSubscriptionPolicy(sub.SetSubscriptionPolicyRequest(room=self.room, policy=policy))
        focus = sub.Focus(pinned=[sub.FocusTarget(track_sid=sids[_FOCUS])])
        await self.admin.SetFocus(sub.SetFocusRequest(room=self.room, focus=focus))
        seen = [sid for number, sid in enumerate(sids) if number not in (_AUDIENCE, *_AWAY)]
        small = dict.fromkeys(seen, _LAYERS[0][0]) | {sids[_FOCUS]: _WIDTH}
        styles = dict.fromkeys((sids[number] for number in _AWAY), _OUT_OF_SIGHT) | {sids[_FOCUS]: _LARGE}
        async with self._viewer() as (page, received):
            await page.call("attach", self.key)
            async with asyncio.timeout(_WAIT_S):
                while len(await page.call("videos")) < len(seen):
                    await asyncio.sleep(0.2)
            await page.evaluate(_TILES.replace("STYLES", json.dumps(styles)))
            await _shown(page, small)
            found = await received()
        await self.admin.DeleteSubscriptionPolicy(sub.DeleteSubscriptionPolicyRequest(room=self.room))
        await self.admin.ClearFocus(sub.ClearFocusRequest(room=self.room))
        return found

    @contextlib.asynccontextmanager
    async def _viewer(self) -> AsyncIterator[tuple[Page, Callable[[], Awaitable[float]]]]:
        """A page that joins, and what it is sent from then on: kbit/s over a window."""
        async with self.chromium.page() as page:
            with self.relay.joining() as flows:
                await self._join(page, "viewer", auto_subscribe=True)
                async with asyncio.timeout(_WAIT_S):
                    while not await page.call("videos"):
                        await asyncio.sleep(0.1)

            def total() -> int:
                return sum(flow.down.counts.passed.bytes for flow in flows)

            async def received() -> float:
                await asyncio.sleep(_SETTLE_S)
                loop = asyncio.get_running_loop()
                before, begun = total(), loop.time()
                await asyncio.sleep(_WINDOW_S)
                return (total() - before) * 8 / (loop.time() - begun) / 1000

            yield page, received
            await page.call("leave")

    async def _join(self, page: Page, identity: str, *, auto_subscribe: bool) -> None:
        token = self.stand.token(identity, room=self.room, room_join=True)
        await page.call("join", self.stand.livekit.url, token, {"connect": {"autoSubscribe": auto_subscribe}})


def _film(path: Path) -> Path:
    """What the fake cameras see: texture that moves, and takes the bits that a camera's picture does."""
    texture = np.random.default_rng(7).integers(0, 256, (_HEIGHT // 8 + 16, _WIDTH // 8 + 16), np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    grey = bytes([128]) * (_WIDTH * _HEIGHT // 2)
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{_WIDTH} H{_HEIGHT} F{_RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(_FILM_S * _RATE):
            # There and back, so that it has no cut.
            step = min(number, _FILM_S * _RATE - number)
            file.write(b"FRAME\n" + texture[step : step + _HEIGHT, 2 * step : 2 * step + _WIDTH].tobytes() + grey)
    return path


async def _shown(page: Page, widths: Mapping[str, int], within_s: float = _WAIT_S) -> None:
    """Waits until the videos named are decoded in these widths."""
    found: Mapping[str, int] = {}
    try:
        async with asyncio.timeout(within_s):
            while any(found.get(sid) != width for sid, width in widths.items()):
                await asyncio.sleep(0.3)
                found = await page.evaluate(_WIDTHS)
    except TimeoutError as error:
        raise TimeoutError(f"the videos are still {found}") from error
