"""A LiveKit cluster whose Ingress service a test plays, and requests to publish by it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from livekit import api, rtc
from livekit.protocol import ingress

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room, livekit_api
from tests.redis_process import Redis
from tests.track_process import Client, TrackProcess
from track.v1 import ingress_pb2
from track.v1 import publication_pb2 as pb
from track.v1.ingress_pb2 import IngressType

DEADLINE_S = 45.0
RTMP = pb.PublicationSpec(ingress=ingress_pb2.IngressInput(type=IngressType.INGRESS_TYPE_RTMP))
WHIP = pb.PublicationSpec(ingress=ingress_pb2.IngressInput(type=IngressType.INGRESS_TYPE_WHIP))
BASE_URLS = {"rtmp_base_url": "rtmp://ingress.example/live", "whip_base_url": "https://ingress.example/whip"}


class Cluster:
    """LiveKit with Redis, TrackService in front of it, and a room."""

    def __init__(self, livekit: LiveKitProcess, redis: Redis, track: TrackProcess) -> None:
        self.livekit = livekit
        self.redis = redis
        self.track = track

    async def ingresses(self, room: str = "") -> list[ingress.IngressInfo]:
        """All that LiveKit knows of, into one room or into all."""
        async with livekit_api(self.livekit) as client:
            return list((await client.ingress.list_ingress(api.ListIngressRequest(room_name=room))).items)

    async def until_without(self, room: str) -> None:
        """Waits until there is none into the room."""
        async with asyncio.timeout(DEADLINE_S):
            while await self.ingresses(room):
                await asyncio.sleep(0.05)

    async def report(self, ingress_id: str, status: int, error: str = "") -> None:
        """What Ingress reports, LiveKit keeps there."""
        state = ingress.IngressState(status=ingress.IngressState.Status.Name(status), error=error)
        key = b"{ingress}_state:" + ingress_id.encode()
        assert await self.redis.command(b"SET", key, state.SerializeToString()) == b"+OK"

    @contextlib.asynccontextmanager
    async def sender(self, room: str, identity: str) -> AsyncIterator[rtc.Room]:
        """A participant as Ingress's is."""
        token = api.AccessToken(self.livekit.api_key, self.livekit.api_secret).with_identity(identity)
        grants = api.VideoGrants(room_join=True, room=room, can_publish=True, can_subscribe=False)
        joined = rtc.Room()
        await joined.connect(self.livekit.url, token.with_grants(grants).with_kind("ingress").to_jwt())
        try:
            yield joined
        finally:
            await joined.disconnect()

    @contextlib.asynccontextmanager
    async def admin(self, room: str) -> AsyncIterator[Client]:
        """An admin of the room, which exists."""
        async with (
            existing_room(self.livekit, room),
            self.track.client("admin", room_admin=True, room=room, room_list=True) as client,
        ):
            yield client


async def ask(client: Client, room: str, spec: pb.PublicationSpec, **options: Any) -> pb.PublishTrackResponse:
    request = pb.PublishTrackRequest(room=room, spec=spec, **options)
    answer: pb.PublishTrackResponse = await client.PublishTrack(request, timeout=DEADLINE_S)
    return answer


def url(address: str) -> pb.PublicationSpec:
    return pb.PublicationSpec(ingress=ingress_pb2.IngressInput(type=IngressType.INGRESS_TYPE_URL, url=address))
