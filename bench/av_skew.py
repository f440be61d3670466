"""Picture and sound of a file, at a subscriber with the official SDK: how far they are apart."""

import asyncio
from typing import Final

from grpc import aio

from bench.figures import Figure, at_most, told
from bench.publications import ms
from bench.rounds import spread
from bench.stand import Stand
from tests.media.clips import write_clip
from tests.media.skew import MAX_SKEW_S, skews
from tests.media.viewer import viewer
from track.v1 import publication_pb2 as pb
from track.v1.track_pb2 import TrackType
from track.v1.track_service_pb2_grpc import TrackServiceStub

_SETTLE: Final = 3
"""Rounds that are left out: the receiver's buffers settle."""


async def measure(stand: Stand) -> list[Figure]:
    """A clip of two seconds, over and over; one subscriber, in this process."""
    folder = stand.directory / "media"
    folder.mkdir()
    write_clip(folder / "clip.mp4")
    count = stand.effort.skews
    everywhere = stand.server_cpus | stand.client_cpus
    async with (
        stand.track_service({"TRACK_MEDIA_DIR": str(folder)}, cpus=everywhere) as track,
        aio.insecure_channel(track.address) as channel,
    ):
        stub, room = TrackServiceStub(channel), await stand.room()
        metadata = (("authorization", f"Bearer {stand.token('bench', room=room, room_admin=True)}"),)

        async def publish(kind: TrackType.ValueType) -> str:
            file = pb.FileInput(uri="clip.mp4", type=kind, loop=True)
            request = pb.PublishTrackRequest(room=room, participant_identity="film", spec=pb.PublicationSpec(file=file))
            answer = await stub.PublishTrack(request, metadata=metadata, timeout=30)
            return answer.publication.track_sid

        kinds = (TrackType.TRACK_TYPE_VIDEO, TrackType.TRACK_TYPE_AUDIO)
        video_sid, audio_sid = await asyncio.gather(*map(publish, kinds))
        found: list[float] = []
        async with viewer(stand.livekit, room) as seen:
            async for skew_s in skews(seen, video_sid=video_sid, audio_sid=audio_sid):
                found.append(skew_s)
                if len(found) == count + _SETTLE:
                    break
    settled = found[_SETTLE:]
    apart = [abs(each) for each in settled]
    note = (
        f"a clip of 2 s with H.264 and AAC, looped; {count} rounds after {_SETTLE} to settle; where the tone begins and"
        " the picture becomes bright, as an SDK subscriber on the same machine hands them out; the sound after the"
        f" picture by ms {spread(ms(settled))}"
    )
    return [
        told("A/V skew of a file at an SDK subscriber, median", spread(apart).median * 1e3, "ms", note),
        at_most("A/V skew of a file at an SDK subscriber, worst", max(apart) * 1e3, "ms", MAX_SKEW_S * 1e3, note),
    ]
