"""Audio options: completed, and held against the input. Pure."""

from typing import Final

from track.v1.publication_pb2 import PublicationSpec
from track_server.access.bounds import Bounds
from track_server.errors import InvalidOptions

DEFAULT_BITRATE_BPS: Final = 48_000
DEFAULT_STEREO_BITRATE_BPS: Final = 96_000

_PROCESSED: Final = ("noise_suppression", "echo_cancellation", "auto_gain_control")


def complete_audio(spec: PublicationSpec, bounds: Bounds) -> None:
    """Fills in the defaults of ``spec.audio``. Raises InvalidOptions."""
    audio, kind = spec.audio, spec.WhichOneof("input")
    if audio.stereo and audio.red:
        raise InvalidOptions("stereo is not sent with RED", field="spec.audio.red")
    for name in _PROCESSED:
        if kind in ("file", "push"):
            setattr(audio, name, getattr(audio, name))
        elif getattr(audio, name) and kind != "device":
            raise InvalidOptions(f"{name} is for files, pushed sound and devices", field=f"spec.audio.{name}")
    default = DEFAULT_STEREO_BITRATE_BPS if audio.stereo else DEFAULT_BITRATE_BPS
    audio.max_bitrate_bps = audio.max_bitrate_bps or min(default, bounds.max_bitrate_bps or default)
    if not audio.HasField("dtx"):
        audio.dtx = True
    if not audio.HasField("red"):
        audio.red = not audio.stereo
