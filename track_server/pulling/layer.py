"""The simulcast layer in which a video is pulled. Pure."""

from track.v1 import track_pb2
from track.v1.pull_pb2 import PullMediaRequest
from track.v1.subscription_pb2 import LayerTermKind
from track_server.errors import InvalidOptions, NotSupported
from track_server.subscription.layers.ceiling import ceiling
from track_server.subscription.layers.terms import settings_term
from track_server.subscription.layers.video import Layer, video_of

_CLIENTS = ("enabled", "frames_per_second", "priority")
"""Settings that only a participant's own client has a use for."""


def refuse_settings(request: PullMediaRequest, kind: track_pb2.TrackType.ValueType) -> None:
    """Raises InvalidOptions for settings that make no sense for a pull, or for a track of that kind."""
    if not request.HasField("settings"):
        return
    for name in _CLIENTS:
        if request.settings.HasField(name):  # type: ignore[arg-type]  # one of its fields
            raise InvalidOptions(f"a pulled track has no {name}", field=f"settings.{name}")
    if kind != track_pb2.TRACK_TYPE_VIDEO:
        raise InvalidOptions("settings are for video, and the track is none", field="settings")


def refuse_missing_layer(request: PullMediaRequest, track: track_pb2.Track) -> None:
    """Raises NotSupported where the publisher does not have the layer, and none may come in its place."""
    if layer_of(request, track) is None:
        raise NotSupported("the publisher does not have that layer, and `fallback` is off", field="settings")


def layer_of(request: PullMediaRequest, track: track_pb2.Track) -> Layer | None:
    """The layer in which that track, a video, is pulled; None: in none, as `fallback` has it."""
    video = video_of(track)
    term = settings_term(LayerTermKind.LAYER_TERM_KIND_MANUAL, video, request.settings)
    found = ceiling(video, [term] if term is not None else [], request.settings.fallback)
    return next((layer for layer in video.layers if layer.quality == found.quality), None)
