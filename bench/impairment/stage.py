"""One room with a publisher, the subscriber that is looked at, and another one beside it, all real."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from livekit import api

from bench.impairment.oracle import Oracle
from bench.impairment.profiles import Incident, Planned
from bench.impairment.relaying import RelayProcess
from bench.impairment.told import LiveKitLevel
from bench.impairment.witness import Witness
from bench.processes import Helper
from tests.clients.browser.chromium import Chromium, Page
from tests.livekit_process import LiveKitProcess
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import pull_pb2, quality_pb2, server_info_pb2

COMPANION: Final = Path(__file__).resolve().parents[2] / "clients" / "python"
PUBLISHER: Final = "publisher"
SUBSCRIBER: Final = "subscriber"
FILM: Final = "film.mp4"
"""In the service's media folder."""
WIDTH: Final = 320
HEIGHT: Final = 180
FPS: Final = 15
BITRATE_BPS: Final = 400_000
"""Of a small picture, so that many rooms fit on a machine, as many packets as a larger one has: about 50 a second."""
BROUGHT_UP_S: Final = 45.0
_PULLED: Final = "track-pull-"
_RTC_LEVELS: Final = (
    quality_pb2.CONNECTION_QUALITY_POOR,
    quality_pb2.CONNECTION_QUALITY_GOOD,
    quality_pb2.CONNECTION_QUALITY_EXCELLENT,
    quality_pb2.CONNECTION_QUALITY_LOST,
)


@dataclass(frozen=True, slots=True)
class Site:
    """What all rooms share."""

    livekit: LiveKitProcess
    track: TrackProcess
    relay: RelayProcess
    oracle: Oracle
    chromium: Chromium | None
    public_key: str

    def token(self, room: str, identity: str) -> str:
        """A participant's, of that room."""
        made = api.AccessToken(self.livekit.api_key, self.livekit.api_secret).with_identity(identity)
        return made.with_grants(api.VideoGrants(room_join=True, room=room)).to_jwt()


@dataclass(slots=True)
class Stage:
    """``tracks``: SIDs by `sound` and `video`. ``subscriber``, ``other``: identities of those who receive."""

    site: Site
    room: str
    admin: Client
    witness: Witness
    tracks: dict[str, str] = field(default_factory=dict)
    subscriber: str = ""
    other: str = ""
    publishing: Helper | None = None
    receiving: Helper | None = None
    page: Page | None = None

    async def happens(self, incident: Incident, begins: bool) -> None:
        """Begins or ends an incident."""
        if incident is Incident.STOPPED:
            assert self.publishing is not None
            self.publishing.pause() if begins else self.publishing.resume()
        elif incident is Incident.MUTED:
            assert self.publishing is not None
            await self.publishing.ask("mute", muted=begins)
        elif incident is Incident.STILL:
            assert self.publishing is not None
            await self.publishing.ask("hold", still=begins)
        elif incident is Incident.LAYER:
            assert self.receiving is not None
            await self.receiving.ask("layer", quality=0 if begins else 2)
        elif incident is Incident.RECONNECT and begins:
            if self.page is not None:
                await self.page.call("scenario", "full-reconnect")
            else:
                assert self.receiving is not None
                await self.receiving.ask("reconnect")

    async def livekit_said(self) -> list[LiveKitLevel]:
        """What LiveKit told the subscriber of connections, where that is one of its SDK's."""
        if self.receiving is None:
            return []
        told = await self.receiving.ask("qualities")
        return [LiveKitLevel(at_s, identity, _RTC_LEVELS[level], SUBSCRIBER) for at_s, identity, level in told]


async def public_key(admin: Client) -> str:
    """The service's, base64."""
    info = await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())
    return base64.b64encode(info.control_key.public_key).decode()


@contextlib.asynccontextmanager
async def staged(site: Site, room: str, planned: Planned) -> AsyncIterator[Stage]:
    """Everything is up, media flows to both subscribers, and the service measures it."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(existing(site, room))
        admin = await stack.enter_async_context(site.track.client("bench", room_admin=True, room=room))
        witness = Witness(admin, room)
        stack.push_async_callback(witness.aclose)
        stage = Stage(site, room, admin, witness)
        incident = planned.profile.incident
        if planned.client_publishes:
            await _client_publishes(stack, stage, incident)
        else:
            await _hosted(stage, layers=incident is Incident.LAYER)
        witness.begin()
        for sid in stage.tracks.values():
            await site.oracle.until_sent(room, sid, BROUGHT_UP_S)
        stage.subscriber = await _subscriber(stack, stage, planned.subscriber)
        stage.other = await _pull(stack, stage)
        yield stage


@contextlib.asynccontextmanager
async def existing(site: Site, room: str) -> AsyncIterator[None]:
    """A room for the span of the block."""
    livekit = site.livekit
    async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as client:
        await client.room.create_room(api.CreateRoomRequest(name=room, empty_timeout=600, departure_timeout=600))
        try:
            yield
        finally:
            with contextlib.suppress(api.TwirpError):
                await client.room.delete_room(api.DeleteRoomRequest(room=room))


async def _hosted(stage: Stage, *, layers: bool) -> None:
    """The media worker publishes a tone and a film, or where there are to be layers a larger test pattern."""
    specs = {"sound": pb.PublicationSpec(tone=pb.ToneInput())}
    if layers:
        # LiveKit's SDK makes three layers of it, and one of up to 360 lines.
        video = pb.VideoOptions(width=960, height=540, frames_per_second=10)
        specs["video"] = pb.PublicationSpec(test_pattern=pb.TestPatternInput(), video=video)
    else:
        video = pb.VideoOptions(width=WIDTH, height=HEIGHT, frames_per_second=FPS, max_bitrate_bps=BITRATE_BPS)
        specs["video"] = pb.PublicationSpec(file=pb.FileInput(uri=FILM, loop=True), video=video)
    for kind, spec in specs.items():
        request = pb.PublishTrackRequest(room=stage.room, spec=spec, participant_identity=PUBLISHER)
        answer = await stage.admin.PublishTrack(request, timeout=BROUGHT_UP_S)
        stage.tracks[kind] = answer.publication.track_sid


async def _client_publishes(stack: contextlib.AsyncExitStack, stage: Stage, incident: Incident) -> None:
    """LiveKit's SDK does, with the companion."""
    peer = stage.publishing = await stack.enter_async_context(Helper("bench.impairment.peer", path=COMPANION))
    await join(stage.site, stage.room, peer, PUBLISHER, receive=False)
    # A stopped process would not end.
    stack.callback(peer.resume)
    if incident is not Incident.STILL:
        stage.tracks["sound"] = await peer.ask("sound", silent=incident is Incident.SILENCE)
    if incident is Incident.STILL:
        stage.tracks["video"] = await peer.ask("screen", width=640, height=360)
    elif incident is not Incident.SILENCE:
        stage.tracks["video"] = await peer.ask(
            "camera", width=WIDTH, height=HEIGHT, fps=FPS, layers=False, bitrate_bps=BITRATE_BPS
        )


async def _subscriber(stack: contextlib.AsyncExitStack, stage: Stage, kind: str) -> str:
    if kind == "pull":
        return await _pull(stack, stage)
    if kind == "rtc":
        peer = stage.receiving = await stack.enter_async_context(Helper("bench.impairment.peer", path=COMPANION))
        await join(stage.site, stage.room, peer, SUBSCRIBER, receive=True)
    else:
        assert stage.site.chromium is not None
        page = stage.page = await stack.enter_async_context(stage.site.chromium.page())
        stack.push_async_callback(page.call, "leave")
        await page.call("join", stage.site.livekit.url, stage.site.token(stage.room, SUBSCRIBER))
        await page.call("attach", {"publicKey": stage.site.public_key})
    await _received(stage, SUBSCRIBER)
    return SUBSCRIBER


async def join(site: Site, room: str, peer: Helper, identity: str, *, receive: bool) -> None:
    """That peer joins, with the companion."""
    token = site.token(room, identity)
    await peer.ask("join", url=site.livekit.url, token=token, public_key=site.public_key, receive=receive)


async def _pull(stack: contextlib.AsyncExitStack, stage: Stage) -> str:
    """PullMedia, hosted; the identity of its participant, which LiveKit alone tells."""
    seen = stage.site.oracle.rooms[stage.room]
    before = {identity for identity in seen.identities if identity.startswith(_PULLED)}
    tracks = stage.tracks
    request = pull_pb2.PullMediaRequest(room=stage.room, track_sid=tracks.get("video", tracks.get("sound", "")))
    request.container = pull_pb2.PULL_CONTAINER_WAV
    if "video" in tracks:
        request.container = pull_pb2.PULL_CONTAINER_MATROSKA
        request.audio_track_sid = tracks.get("sound", "")
    call = stage.admin.PullMedia(request)
    reading = asyncio.create_task(_read(call))
    stack.push_async_callback(_ended, reading)
    async with asyncio.timeout(BROUGHT_UP_S):
        while not (found := {each for each in seen.identities if each.startswith(_PULLED)} - before):
            if reading.done():
                reading.result()
            await asyncio.sleep(0.1)
    (identity,) = found
    await _received(stage, identity)
    return identity


async def _received(stage: Stage, identity: str) -> None:
    for sid in stage.tracks.values():
        await stage.site.oracle.until_received(stage.room, sid, identity, BROUGHT_UP_S)


async def _read(call: Any) -> None:
    async for _ in call:
        pass


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
