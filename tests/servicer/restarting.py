"""Restarts: requests that tests make, and those who subscribe to what is restarted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.publications import DEADLINE_S
from tests.receivers import Receiver, eventually
from tests.track_process import Client
from track.v1 import publication_pb2, quality_pb2
from track.v1 import publication_update_pb2 as pb

KEYFRAME = pb.RESTART_LEVEL_KEYFRAME
RESUBSCRIBE = pb.RESTART_LEVEL_RESUBSCRIBE
REPUBLISH = pb.RESTART_LEVEL_REPUBLISH
REJOIN = pb.RESTART_LEVEL_REJOIN


async def restart(client: Client, known: publication_pb2.Publication, level: Any = 0, **options: Any) -> Any:
    """Restarts it. Waits as long as it takes."""
    request = pb.RestartTrackRequest(room=known.room, publication_id=known.publication_id, level=level, **options)
    return await client.RestartTrack(request, timeout=40)


async def flowing(client: Client, known: publication_pb2.Publication) -> None:
    """Waits until its session sends media: a track may be in the room before its first frame is encoded."""
    request = quality_pb2.GetQualityReportRequest(room=known.room, track_sid=known.track_sid)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            report = (await client.GetQualityReport(request)).report
            if any(sample.bitrate_bps > 0 for sample in report.samples):
                return
            await asyncio.sleep(0.1)


def levels(answer: pb.RestartTrackResponse) -> list[int]:
    """Those that were gone through."""
    return [step.level for step in answer.steps]


async def subscribers(livekit: LiveKitProcess, room: str, sid: str) -> set[str]:
    """Who is sent the track, by LiveKit's own view; hidden watchers left out."""
    found: set[str] = set()
    for entry in await livekit.debug_rooms():
        identities = {each["ID"]: identity for identity, each in entry["Participants"].items()}
        for each in entry["Participants"].values() if entry["Name"] == room else ():
            track = each["UpTrackManager"]["PublishedTracks"].get(sid, {})
            found |= {identities.get(down["SubscriberID"], "") for down in track.get("DownTracks") or []}
    return {identity for identity in found if identity and not identity.startswith("track-watcher")}


async def subscribed(joined: rtc.Room, sid: str) -> None:
    """Subscribes by the client's own choice, and waits for the track."""

    def found() -> Iterable[rtc.RemoteTrackPublication]:
        return [
            each
            for remote in joined.remote_participants.values()
            for each in remote.track_publications.values()
            if each.sid == sid
        ]

    await eventually(found, lambda: f"{sid} is not there")
    for each in found():
        each.set_subscribed(True)
    await eventually(lambda: all(each.track for each in found()), lambda: f"{sid} is not subscribed")


@contextlib.asynccontextmanager
async def silent_receiver(livekit: LiveKitProcess, room: str, identity: str) -> AsyncIterator[Receiver]:
    """A receiver that subscribes to nothing by itself."""
    async with participant(livekit, room, identity, auto_subscribe=False) as joined:
        found = Receiver(joined)
        try:
            yield found
        finally:
            await found.aclose()
