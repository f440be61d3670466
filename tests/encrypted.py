"""Publications with end-to-end encryption, and who watches them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from livekit import api, rtc

from tests.livekit_process import LiveKitProcess
from tests.media.viewer import Viewer, luma
from track.v1 import publication_pb2 as pb
from track_server.media.inputs.clock import read_clock

KEY = b"between-us-and-nobody-else"


def encrypted(spec: pb.PublicationSpec, key: bytes = KEY) -> pb.PublicationSpec:
    """The same, encrypted."""
    result = pb.PublicationSpec(encryption=pb.EncryptionOptions(shared_key=key))
    result.MergeFrom(spec)
    return result


@contextlib.asynccontextmanager
async def viewer(livekit: LiveKitProcess, room: str, identity: str, key: bytes | None) -> AsyncIterator[Viewer]:
    """A participant with a key, or without one."""
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity(identity)
    token.with_grants(api.VideoGrants(room_join=True, room=room))
    options = rtc.RoomOptions(auto_subscribe=False)
    if key is not None:
        options.encryption = rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=key))
    joined = rtc.Room()
    seen = Viewer(joined)
    await joined.connect(livekit.url, token.to_jwt(), options)
    try:
        yield seen
    finally:
        await joined.disconnect()


async def clocks(seen: Viewer, sid: str, count: int) -> None:
    """Waits for that many pictures whose clock can be read."""
    async with asyncio.timeout(45), seen.frames(sid) as frames:
        while count:
            _, frame = await frames.get()
            count -= read_clock(luma(frame)) is not None
