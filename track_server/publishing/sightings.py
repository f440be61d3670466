"""What the room has shown of a hosted participant's tracks."""

from typing import Final

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Track

VANISHED_GRACE_S: Final = 2.0
"""LiveKit tells of a track that vanished before the worker tells under which SID it came back."""


class Sightings:
    """Of all its publications. Decides, and does nothing."""

    def __init__(self) -> None:
        self._shown: set[str] = set()
        """SIDs that were in the room."""
        self._vanished_at: dict[str, float] = {}
        self._mutes: dict[str, dict[str, bool]] = {}
        """Of each publication, whether its tracks were muted when they were looked at last, by SID."""

    def shown(self, track_sid: str) -> bool:
        """Whether the track was ever in the room."""
        return track_sid in self._shown

    def vanished(self, publication: Publication, at: float) -> bool:
        """Its track is not there at ``at``, in seconds: whether it has been away for too long, which is said once."""
        if at - self._vanished_at.setdefault(publication.publication_id, at) < VANISHED_GRACE_S:
            return False
        del self._vanished_at[publication.publication_id]
        return True

    def moved(self, publication_id: str) -> None:
        """Its track has another SID now: that the one before was missed says nothing of this one."""
        self._vanished_at.pop(publication_id, None)

    def muted(self, publication: Publication, track: Track, old: Track | None) -> bool:
        """Its track is there, and ``old`` beside it, which it replaces: whether the publication is muted.

        Whoever mutes one of two means the publication; the worker mutes the other one alike, a moment later.
        """
        self._vanished_at.pop(publication.publication_id, None)
        self._shown.add(track.sid)
        before = self._mutes.get(publication.publication_id, {})
        self._mutes[publication.publication_id] = {one.sid: one.muted for one in (old, track) if one is not None}
        if old is None:
            return track.muted
        if before.get(old.sid, publication.muted) != old.muted:
            return old.muted
        return track.muted if before.get(track.sid, track.muted) != track.muted else publication.muted
