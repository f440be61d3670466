"""What is seen of how a video is received, against what is decided."""

from typing import Final

from track.control.v1.control_pb2 import ReceivedVideo
from track_server.rooms.downtracks import Pair
from track_server.subscription.controller.fitting import Fit
from track_server.subscription.controller.means import Connection, Means
from track_server.subscription.layers.decision import layer_at
from track_server.subscription.layers.video import OFF

_LARGER: Final = 1.1


def shows(means: Means, connection: Connection, track_sid: str, fit: Fit) -> bool:
    """Whether LiveKit's debug view, or else the companion, shows that it is received so."""
    copies = means.subscriptions.shown(connection.live)
    if copies is not None:
        copy = copies.get(Pair(connection.participant_sid, track_sid))
        return _sent(fit, copy.layer if copy is not None else None, bound=copy is not None)
    video = means.states.received(connection.live.name, connection.identity).get(track_sid)
    return video is not None and _decoded(fit, video)


def visible(means: Means, connection: Connection, track_sid: str) -> bool:
    """Whether anybody sees what is received of the track."""
    received = means.states.received(connection.live.name, connection.identity)
    return means.subscriptions.shown(connection.live) is not None or track_sid in received


def _sent(fit: Fit, layer: int | None, *, bound: bool) -> bool:
    """Whether LiveKit's debug view shows it. ``layer``: spatial, None while nothing is sent; ``bound``: subscribed."""
    if fit.quality == OFF:
        return layer is None
    top = fit.ceiling.video.spatial_layer(fit.quality)
    return bound and layer is not None and top is not None and layer <= top


def _decoded(fit: Fit, video: ReceivedVideo) -> bool:
    """Whether what the companion decodes shows it."""
    layer = layer_at(fit.ceiling, fit.level)
    if layer is None:
        return video.HasField("frames_per_second") and video.frames_per_second == 0
    if not layer.height or not video.HasField("height"):
        return False
    # A picture may stand upright, and be a little larger than declared for the codec's sake.
    return min(video.width, video.height) <= min(layer.width or layer.height, layer.height) * _LARGER
