"""The level KEYFRAME: LiveKit asks the publisher for a keyframe of each layer, and its session counts them."""

from typing import Final

from track.v1 import publication_pb2
from track.v1.publication_pb2 import Evidence
from track_server.errors import LiveKitUnavailable
from track_server.publishing.meters import Meter
from track_server.rooms.keyframes import LAYERS
from track_server.rooms.reading import find_track
from track_server.rooms.room import LiveRoom

_FIRST_STATS_S: Final = 1.5
_LAYER_S: Final = 1.0


async def send_keyframe(live: LiveRoom, track_sid: str, meter: Meter) -> "Evidence.ValueType":
    """Returns where it was seen: HOSTED_SESSION once every layer that is sent has one; unspecified where one has none.

    Raises LiveKitUnavailable while nobody is connected who could ask, TrackNotFound.
    """
    track = find_track(live.model.tracks, track_sid, "publication_id")
    await meter.until(lambda: bool(meter.keyframes) and meter.sent[0] == track_sid, _FIRST_STATS_S)
    before = meter.keyframes

    def fresh() -> int:
        return sum(1 for ssrc, count in meter.keyframes.items() if ssrc in before and count > before[ssrc])

    # A video of one layer has it whichever is asked for.
    for layer in LAYERS[: max(1, len(before))]:
        known, keyframes = fresh(), live.keyframes
        if keyframes is None:
            raise LiveKitUnavailable("the room is not followed at this moment, so nobody can ask for a keyframe")
        async with keyframes.asking(track, layer):
            # Layers that nobody receives are not sent, and have none.
            await meter.until(lambda known=known: fresh() > known or 0 < len(before) <= fresh(), _LAYER_S)  # type: ignore[misc]
        if 0 < len(before) <= fresh():
            break
    seen = 0 < len(before) <= fresh()
    return publication_pb2.EVIDENCE_HOSTED_SESSION if seen else publication_pb2.EVIDENCE_UNSPECIFIED
