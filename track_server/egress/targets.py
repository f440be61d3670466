"""Which tracks can be recorded, and where to. Pure."""

from track.v1.egress_pb2 import EgressOutput
from track.v1.track_pb2 import ENCRYPTION_NONE, ENCRYPTION_UNSPECIFIED, TRACK_TYPE_AUDIO, TRACK_TYPE_DATA, Track
from track_server.errors import EncryptionKeyNeeded, NotForDataTracks, NotSupported


def refuse_unrecordable(track: Track, output: EgressOutput, field: str) -> None:
    """Raises NotForDataTracks, EncryptionKeyNeeded, and NotSupported for pictures to a WebSocket."""
    if track.type == TRACK_TYPE_DATA:
        raise NotForDataTracks("LiveKit Egress records audio and video, no data tracks", field=field)
    if track.encryption not in (ENCRYPTION_UNSPECIFIED, ENCRYPTION_NONE):
        raise EncryptionKeyNeeded(
            "the track is end-to-end encrypted, and LiveKit Egress is given no key here", field=field
        )
    if output.WhichOneof("output") == "websocket_url" and track.type != TRACK_TYPE_AUDIO:
        raise NotSupported("LiveKit Egress sends audio tracks alone to a WebSocket", field="output.websocket_url")
