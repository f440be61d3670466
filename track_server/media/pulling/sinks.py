"""What becomes of the frames: parts of a container, or messages frame by frame. Blocks, where it says so."""

from dataclasses import dataclass, replace
from typing import Final, Protocol

from track.media.v1.media_service_pb2 import PullDesired
from track.v1.pull_pb2 import PullChunk, PulledVideoFrame
from track.v1.push_pb2 import DataFrame, PcmFrame
from track.v1.track_pb2 import TRACK_TYPE_VIDEO, VIDEO_QUALITY_UNSPECIFIED
from track_server.media.pulling.containers import Container, create_container
from track_server.media.pulling.pictures import Picture, Scaler, plain, upright
from track_server.media.pulling.response import Response, response

_FIRST_PICTURE_US: Final = 1_000_000
"""Sound waits so long for the first picture, whose size the container has to know."""
_SOME_SIZE: Final = (1280, 720)
"""Of pictures, where neither the track nor a picture in time tells."""
_SHAPE: Final = 0.05
"""By which share the shapes of two sizes may differ and still be the same."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Signed 16 bit, 48 kHz, channels interleaved. ``missing``: samples that are missing before it."""

    samples: bytes
    position_us: int
    missing: int


@dataclass(frozen=True, slots=True)
class Payload:
    """Of a data track."""

    data: bytes
    position_us: int


Item = Picture | Sound | Payload


class Sink(Protocol):
    """Takes frames in order."""

    def blocks(self, item: Item) -> bool:
        """Whether the item takes so long that it is not to be taken on the event loop."""

    def take(self, item: Item) -> Response | None:
        """What is sent for it; None: nothing yet."""

    def close(self) -> Response | None:
        """What is sent at the end."""


class Frames:
    """Each frame is a message."""

    def __init__(self, desired: PullDesired) -> None:
        wanted = desired.frames
        self._size = (wanted.width, wanted.height) if wanted.width else None
        self._scaler = Scaler()

    def blocks(self, item: Item) -> bool:
        """See Sink."""
        return isinstance(item, Picture) and not self._untouched(item)

    def take(self, item: Item) -> Response | None:
        """See Sink."""
        match item:
            case Picture():
                return self._picture(item)
            case Sound():
                return response("pcm", PcmFrame(timestamp_us=item.position_us), item.samples)
            case Payload():
                return response("data", DataFrame(), item.data)

    def close(self) -> Response | None:
        """See Sink."""
        return None

    def _untouched(self, picture: Picture) -> bool:
        return plain(picture) and self._size in (None, (picture.width, picture.height))

    def _picture(self, picture: Picture) -> Response:
        data: bytes | bytearray | memoryview
        if self._untouched(picture):
            data, (width, height) = picture.data, (picture.width, picture.height)
        elif self._size is None:
            data, (width, height) = upright(picture).tobytes(), picture.size
        else:
            width, height = self._size
            data = self._scaler.frame(picture, self._size).to_ndarray().tobytes()
        return response("video", PulledVideoFrame(timestamp_us=picture.position_us, width=width, height=height), data)


class Chunks:
    """Frames go into a container, whose bytes are the messages."""

    def __init__(self, desired: PullDesired) -> None:
        self._kind = desired.container
        self._pictures = desired.type == TRACK_TYPE_VIDEO
        self._channels = 0 if self._pictures and not desired.audio_track_sid else desired.channels
        self._declared = (desired.width, desired.height)
        self._chosen = desired.quality != VIDEO_QUALITY_UNSPECIFIED
        self._duration_us = desired.max_duration_us
        self._container: Container | None = None
        self._waiting: list[Sound] = []

    def blocks(self, item: Item) -> bool:
        """See Sink. Sound takes a fraction of a millisecond, which handing it to a thread takes as well."""
        return isinstance(item, Picture) or (self._container is None and not isinstance(item, Payload))

    def take(self, item: Item) -> Response | None:
        """See Sink."""
        match item:
            case Picture():
                container = self._container or self._open(fitting_size(item.size, self._declared, chosen=self._chosen))
                return _chunk(self._caught_up(container) + container.picture(item))
            case Sound() if self._container is None and self._pictures and item.position_us < _FIRST_PICTURE_US:
                self._waiting.append(item)
            case Sound():
                container = self._container or self._open(self._declared if all(self._declared) else _SOME_SIZE)
                return _chunk(
                    self._caught_up(container) + container.sound(item.samples, item.position_us, item.missing)
                )
            case Payload():
                pass
        return None

    def close(self) -> Response | None:
        """See Sink."""
        container = self._container
        if container is None:
            if not self._waiting and self._pictures:
                return None
            container = self._open(self._declared if all(self._declared) else _SOME_SIZE)
        return _chunk(self._caught_up(container) + container.close())

    def _open(self, size: tuple[int, int]) -> Container:
        self._container = create_container(
            self._kind, self._channels, size if self._pictures else None, self._duration_us
        )
        return self._container

    def _caught_up(self, container: Container) -> bytes:
        waiting, self._waiting = self._waiting, []
        return b"".join(container.sound(item.samples, item.position_us, item.missing) for item in waiting)


def fitting_size(first: tuple[int, int], declared: tuple[int, int], *, chosen: bool = False) -> tuple[int, int]:
    """Size of the pictures in a container: the declared one where the first is a smaller one of its shape, as the lower
    layers of simulcast are, be it turned; else that of the first. Even.

    ``chosen``: the declared size is that of a layer that was chosen: the first pictures may be of a larger one.
    """
    width, height = sorted(declared) if first[0] < first[1] else sorted(declared, reverse=True)
    if height == 0 or (width < first[0] and not chosen):
        return first
    same = abs(first[0] * height / (first[1] * width) - 1) < _SHAPE
    return (width & ~1, height & ~1) if same else first


def cut(sound: Sound, samples: int, channels: int) -> Sound:
    """The first so many samples of it."""
    return replace(sound, samples=sound.samples[: samples * 2 * channels])


def _chunk(data: bytes) -> Response | None:
    return response("chunk", PullChunk(), data) if data else None


def create_sink(desired: PullDesired) -> Sink:
    """As what is wanted."""
    return Frames(desired) if desired.HasField("frames") else Chunks(desired)
