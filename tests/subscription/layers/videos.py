"""Videos as publishers declare them."""

from typing import Final

from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, Layer, Video

QUARTER: Final = Layer(LOW, 320, 180, 160_000)
HALF: Final = Layer(MEDIUM, 640, 360, 450_000)
FULL: Final = Layer(HIGH, 1280, 720, 1_700_000)


def video(*layers: Layer, sent: frozenset[int] | None = None, codec: str = "vp8", muted: bool = False) -> Video:
    """One with those layers, by default 180, 360 and 720 lines."""
    return Video("TR_video", layers or (QUARTER, HALF, FULL), sent, codec, muted)
