"""The videos of a room as the layers see them, each made once. Without I/O."""

from track.v1.track_pb2 import Track
from track_server.subscription.layers.video import Video, video_of


class Videos:
    """Of one room."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Track, Video]] = {}

    def of(self, track: Track) -> Video:
        """The track's; made anew where the message is another one."""
        known = self._known.get(track.sid)
        if known is None or known[0] is not track:
            known = self._known[track.sid] = (track, video_of(track))
        return known[1]

    def forget(self, track_sid: str) -> None:
        """The track is gone."""
        self._known.pop(track_sid, None)
