"""What the demo publishes, through TrackService."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from track.v1.publication_pb2 import (
    DataInput,
    FileInput,
    Publication,
    PublicationSpec,
    PublishTrackRequest,
    TestPatternInput,
    ToneInput,
    VideoOptions,
)
from track.v1.track_pb2 import TrackType
from track.v1.track_service_pb2_grpc import TrackServiceAsyncStub
from track_server.demo.film import FILE_NAME
from track_server.demo.service import ROOM

TONE_HZ: Final = 440.0
PATTERN: Final = "test-pattern"
TONE: Final = "tone"
FILM_VIDEO: Final = "film-video"
FILM_AUDIO: Final = "film-audio"
READINGS: Final = "readings"
NAMES: Final = (PATTERN, TONE, FILM_VIDEO, FILM_AUDIO, READINGS)
"""The tracks, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Item:
    """One publication: who publishes it, and what."""

    identity: str
    spec: PublicationSpec


def programme() -> Sequence[Item]:
    """The publications of the demo. Names are unique; audio and video of the film share a participant, and so a clock."""
    return (
        Item(
            "camera",
            PublicationSpec(
                name=PATTERN,
                test_pattern=TestPatternInput(),
                video=VideoOptions(width=1280, height=720, frames_per_second=30, simulcast=True),
            ),
        ),
        Item("siren", PublicationSpec(name=TONE, tone=ToneInput(frequency_hz=TONE_HZ))),
        Item("cinema", _film(FILM_VIDEO, TrackType.TRACK_TYPE_VIDEO)),
        Item("cinema", _film(FILM_AUDIO, TrackType.TRACK_TYPE_AUDIO)),
        Item("sensor", PublicationSpec(name=READINGS, data=DataInput(frames_per_second=20, frame_bytes=256))),
    )


def _film(name: str, kind: TrackType.ValueType) -> PublicationSpec:
    return PublicationSpec(name=name, file=FileInput(uri=FILE_NAME, type=kind, loop=True))


async def publish(stub: TrackServiceAsyncStub, item: Item, wait_s: float) -> Publication:
    """Publish one; it may not be live yet after ``wait_s``. Raises grpc.aio.AioRpcError."""
    spec = PublicationSpec()
    spec.CopyFrom(item.spec)
    json_format.ParseDict({"demo": True, "by": item.identity}, spec.metadata)
    request = PublishTrackRequest(
        room=ROOM, participant_identity=item.identity, create_room=True, spec=spec, request_id=f"demo-{spec.name}"
    )
    answer = await stub.PublishTrack(request, timeout=wait_s)
    return answer.publication


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Status, reason and text of a failed call, in one line."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has what it reads
    reasons: list[str] = []
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reasons.append(info.reason)
    return " ".join([error.code().name, *reasons, error.details() or ""]).strip()
