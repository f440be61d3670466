"""Apps of participants, with the companion for Python in them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from livekit import rtc

import track_control
from tests.clients.service import KEY
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import server_info_pb2

CAMERA = pb.PublicationSpec(
    device=pb.DeviceInput(kind=pb.DEVICE_KIND_CAMERA),
    video=pb.VideoOptions(width=320, height=180, frames_per_second=10),
)


@contextlib.asynccontextmanager
async def grey_camera() -> AsyncIterator[rtc.VideoSource]:
    """A source of 320x180 that is fed ten frames a second."""
    source = rtc.VideoSource(320, 180)
    frame = rtc.VideoFrame(320, 180, rtc.VideoBufferType.I420, bytes([128]) * (320 * 180 * 3 // 2))

    async def feed() -> None:
        while True:
            source.capture_frame(frame)
            await asyncio.sleep(0.1)

    feeding = asyncio.create_task(feed())
    try:
        yield source
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


@contextlib.asynccontextmanager
async def attached(
    joined: rtc.Room, public_key: bytes | None = KEY.public.public_key, **options: Any
) -> AsyncIterator[track_control.TrackControl]:
    """The companion in that participant's app, with a camera that is fed."""
    async with grey_camera() as source:
        options = {"devices": {"CAMERA": lambda _: source}, **options}
        companion = track_control.attach_track_control(joined, public_key=public_key, **options)
        try:
            yield companion
        finally:
            await companion.aclose()


async def public_key(client: Client) -> bytes:
    """The service's."""
    info = await client.GetServerInfo(server_info_pb2.GetServerInfoRequest())
    return bytes(info.control_key.public_key)
