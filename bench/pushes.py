"""Encoded video through PushMedia against LiveKit's SDK alone: what each takes of a processor."""

from typing import TYPE_CHECKING, Final

from grpc import aio

from bench.figures import Figure
from bench.processes import Helper
from bench.side_by_side import side_by_side
from bench.stand import Stand
from track.v1 import media_frame_pb2
from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceStub

if TYPE_CHECKING:
    from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub

_TRACKS: Final = 4


async def measure(stand: Stand) -> list[Figure]:
    """Both sides send at the same time, each into a room of its own, and are measured over the same windows."""
    everywhere = stand.server_cpus | stand.client_cpus
    mine, peers = await stand.rooms(2)
    async with (
        stand.track_service({}, cpus=everywhere) as track,
        Helper("bench.encoded_peer", cpus=everywhere) as sdk,
        Helper("bench.push_client", cpus=everywhere) as caller,
        aio.insecure_channel(track.address) as channel,
    ):
        stub: TrackServiceAsyncStub = TrackServiceStub(channel)
        token = stand.token("bench", room=mine, room_admin=True)
        publications = [await _publish(stub, mine, token) for _ in range(_TRACKS)]
        await caller.ask("push", address=track.address, token=token, room=mine, publications=publications)
        peer_token = stand.token("peer", room=peers, room_join=True)
        await sdk.ask("publish", url=stand.livekit.url, token=peer_token, tracks=_TRACKS)
        sides = await side_by_side(track.pid, caller, sdk, stand.effort.rounds)
    what = (
        f"{_TRACKS} tracks of VP8 720p30, 1.9 Mbit/s, sent in real time by each side at once, each into a room of its"
        " own without subscribers; processor time of the server, its media worker and their children together, against"
        " that of one process that hands the same access units to the SDK; for a thousand access units that the track"
        " took, as PushStats and `capture_frame` tell"
    )
    return [sides.figure("PushMedia encoded", what)]


async def _publish(stub: "TrackServiceAsyncStub", room: str, token: str) -> str:
    """All as one participant, as the peer does; the id of the publication."""
    request = pb.PublishTrackRequest(
        room=room,
        participant_identity="bench",
        spec=pb.PublicationSpec(
            push=pb.PushInput(encoded_video=media_frame_pb2.EncodedVideoFormat()),
            video=pb.VideoOptions(width=1280, height=720, frames_per_second=30, max_bitrate_bps=1_900_000),
        ),
    )
    answer = await stub.PublishTrack(request, metadata=(("authorization", f"Bearer {token}"),), timeout=20)
    publication_id: str = answer.publication.publication_id
    return publication_id
