"""The quality of a room's tracks, for who asks for it once or for a while."""

from collections.abc import Collection, Sequence
from typing import Final

from track.v1.quality_pb2 import GetQualityReportResponse, TrackQualityReport
from track.v1.track_pb2 import FRESHNESS_SOURCE_WATCHED, PARTICIPANT_KIND_INGRESS, TRACK_TYPE_DATA, Track
from track_server.quality.live.assessing import TICK_S, Assessing
from track_server.quality.live.roomassessment import RoomAssessment, unfollowed
from track_server.quality.messages import stamp_of
from track_server.rooms.reading import find_track
from track_server.rooms.room import LiveRoom

REPORT_WINDOW_S: Final = 5.0
"""What GetQualityReport's samples cover, in seconds, and its measurements where nobody says: the stream's default."""

FIRST_WAIT_S: Final = 3.0
"""GetQualityReport waits at most so long, in seconds, for a first measurement: two statistics, a second apart."""

_RECENT_S: Final = 2 * TICK_S
"""A measurement so old, in seconds, still counts as now: the interval, and as much again for the way."""


class Quality:
    """Reports of tracks, from the assessments of their rooms. The caller keeps the room watched meanwhile."""

    def __init__(self, assessing: Assessing) -> None:
        self._assessing = assessing

    def sample(self, room: LiveRoom, track_sids: Collection[str], window_s: float) -> list[TrackQualityReport]:
        """The quality of those of the tracks that are in the room, over the last ``window_s`` seconds, as known now.

        By participant identity and SID. Measured where somebody follows the room: see Assessing.
        """
        found, now = self._of(room), self._assessing.clock.now()
        tracks = [room.model.tracks[sid] for sid in track_sids if sid in room.model.tracks]
        tracks.sort(key=lambda track: (track.participant_identity, track.sid))
        return [found.report(track, [window_s], now) for track in tracks]

    async def report(
        self,
        room: LiveRoom,
        track_sid: str,
        *,
        windows: Sequence[float] = (),
        wait_s: float = FIRST_WAIT_S,
    ) -> GetQualityReportResponse:
        """The quality of one track, now.

        ``windows``: of the measurements, in seconds; REPORT_WINDOW_S without any. Where nothing was measured yet, it
        waits up to ``wait_s`` (at most FIRST_WAIT_S) for it. Raises TrackNotFound.
        """
        find_track(room.model.tracks, track_sid, "track_sid")
        with self._assessing.following(room.name):
            await self._measured(room, track_sid, min(wait_s, FIRST_WAIT_S))
            track = find_track(room.model.tracks, track_sid, "track_sid")
            now = self._assessing.clock.now()
            report = self._of(room).report(track, windows or [REPORT_WINDOW_S], now, span_s=REPORT_WINDOW_S)
        return GetQualityReportResponse(time=stamp_of(now), report=report, freshness=room.freshness())

    async def _measured(self, room: LiveRoom, track_sid: str, wait_s: float) -> None:
        """Returns once there is a recent window of the track's uplink, or it is known that none will come; after
        ``wait_s`` at the latest."""
        track = room.model.tracks[track_sid]
        publisher = room.model.participants.get(track.participant_identity)
        # Whoever sends to an ingress tells nothing.
        told = track.publication_id and (publisher is None or publisher.kind != PARTICIPANT_KIND_INGRESS)
        if told:
            if not track.muted:
                await self._assessing.heard.until(lambda: self._is_measured(room, track), wait_s)
        elif track.type != TRACK_TYPE_DATA and room.freshness().source == FRESHNESS_SOURCE_WATCHED:
            await room.until(
                lambda: track.participant_identity in room.model.qualities or track_sid not in room.model.tracks, wait_s
            )

    def _is_measured(self, room: LiveRoom, track: Track) -> bool:
        now = self._assessing.clock.now()
        return track.sid not in room.model.tracks or self._of(room).measured(track, now, _RECENT_S)

    def _of(self, room: LiveRoom) -> RoomAssessment:
        """Its assessment; where it is followed by nobody, one that knows what the room itself tells."""
        found = self._assessing.of(room.name)
        if found is not None and found.live is room:
            return found
        return unfollowed(room, self._assessing.context)
