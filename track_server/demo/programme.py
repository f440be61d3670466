"""What the demo publishes, through TrackService."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from track.v1.publication_pb2 import (
    DataInput,
    FileInput,
    PublicationSpec,
    TestPatternInput,
    ToneInput,
    VideoOptions,
)
from track.v1.track_pb2 import TrackType
from track_server.demo.film import FILE_NAME

TONE_HZ: Final = 440.0
PATTERN: Final = "pattern"
TONE: Final = "tone"
FILM_VIDEO: Final = "picture"
FILM_AUDIO: Final = "sound"
READINGS: Final = "readings"
NAMES: Final = (PATTERN, TONE, FILM_VIDEO, FILM_AUDIO, READINGS)
"""The tracks, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Item:
    """One publication: who publishes it, and what."""

    identity: str
    spec: PublicationSpec


def programme() -> Sequence[Item]:
    """The publications of the demo. Names are unique; picture and sound of the film share a participant."""
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
