"""All that the demo knows at a moment, as TrackService and the viewer told it. The screen, the lines and the summary
are drawn from it; it is changed here only."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from track.v1.event_pb2 import RoomEvent, RoomSnapshot, WatchEventsResponse
from track.v1.publication_pb2 import Publication
from track.v1.quality_pb2 import StreamQualityReportsResponse, TrackQualityReport
from track.v1.server_info_pb2 import GetServerInfoResponse
from track.v1.track_pb2 import Track, TrackType
from track_server.demo.programme import NAMES
from track_server.demo.reception import Reception
from track_server.demo.viewing import VIEWER
from track_server.demo.wording import describe, measured
from track_server.durations import seconds_of

_LINES: Final = 500


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event, as it is shown."""

    time_s: float
    """Seconds since 1970 UTC."""
    kind: str
    """The name of the change in the contract, or `snapshot`, or `subscribed`."""
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One track as it is shown: of the room, or of a publication that has none there."""

    name: str
    identity: str
    track: Track | None
    publication: Publication | None
    reception: Reception | None
    report: TrackQualityReport | None


class Board:
    """The state of the demo."""

    def __init__(self) -> None:
        self.info = GetServerInfoResponse()
        self.problems: list[str] = []
        """What failed, a sentence each."""
        self.subscribed: dict[str, str] = {}
        """What became of the viewer's subscription, by SID: its stage and evidence, or the reason."""
        self.lines: deque[EventLine] = deque(maxlen=_LINES)
        """The latest events."""
        self.lines_ever = 0
        self.kinds: Counter[str] = Counter()
        """Events by kind."""
        self.viewer_heard_s = time.monotonic()
        """When the viewer told last what it receives, in seconds of the monotonic clock."""
        self.reports_received = 0
        self.reports_measured: Counter[str] = Counter()
        """By SID: reports with at least one number in them."""
        self._tracks: dict[str, Track] = {}
        self._publications: dict[str, Publication] = {}
        self._receptions: dict[str, Reception] = {}
        self._reports: dict[str, TrackQualityReport] = {}

    # What is told

    def hear_event(self, message: WatchEventsResponse) -> None:
        """A message of WatchEvents."""
        if message.HasField("snapshot"):
            self._restart(message.snapshot)
            self.note("snapshot", describe(message.snapshot))
            return
        event = message.event
        self._apply(event)
        kind = event.WhichOneof("change") or "unknown"
        self.kinds[kind] += 1
        self._add(seconds_of(event.time), kind, describe(event))

    def hear_reports(self, message: StreamQualityReportsResponse) -> None:
        """A message of StreamQualityReports."""
        self.reports_received += 1
        self._reports = {report.track_sid: report for report in message.reports}
        self.reports_measured.update(report.track_sid for report in message.reports if _measured(report))

    def hear_viewer(self, receptions: Sequence[Reception]) -> None:
        """What the viewer receives."""
        self.viewer_heard_s = time.monotonic()
        self._receptions = {reception.sid: reception for reception in receptions}

    def hear_publication(self, publication: Publication) -> None:
        """The answer of PublishTrack; what WatchEvents has told since counts more."""
        self._publications.setdefault(publication.publication_id, publication)

    def note(self, kind: str, text: str) -> None:
        """Something that the demo itself saw or did."""
        self._add(time.time(), kind, text)

    # What is known

    def rows(self) -> list[Row]:
        """The demo's tracks in the order of its programme, then others by publisher and SID."""
        tracks = dict(self._tracks)
        rows: list[Row] = []
        for name in NAMES:
            publication = self.publication(name)
            if publication is not None:
                track = tracks.pop(publication.track_sid, None)
                rows.append(self._row(name, publication.participant_identity, track, publication))
        others = sorted(tracks.values(), key=lambda track: (track.participant_identity, track.sid))
        return rows + [self._row(track.name, track.participant_identity, track, None) for track in others]

    def publication(self, name: str) -> Publication | None:
        """The demo's publication of that name."""
        found = (entry for entry in self._publications.values() if entry.spec.name == name)
        return next(found, None)

    def all_receptions(self) -> dict[str, Reception]:
        """What the viewer received of every track, by SID."""
        return dict(self._receptions)

    def receptions(self, publication: Publication) -> list[Reception]:
        """What the viewer received of all the tracks that it had, oldest first."""
        sids = [entry.track_sid for entry in publication.lineage]
        return [self._receptions[sid] for sid in sids if sid in self._receptions]

    def name_of(self, track_sid: str) -> str:
        """A track's publisher and name, or its SID where it is not in the room."""
        track = self._tracks.get(track_sid)
        return f"{track.participant_identity}/{track.name}" if track is not None else track_sid

    def to_subscribe(self) -> list[str]:
        """Media tracks that the viewer was not subscribed to yet."""
        return [
            track.sid
            for track in self._tracks.values()
            if track.type != TrackType.TRACK_TYPE_DATA
            and track.participant_identity != VIEWER
            and track.sid not in self.subscribed
        ]

    # Inside

    def _row(self, name: str, identity: str, track: Track | None, publication: Publication | None) -> Row:
        sid = track.sid if track is not None else ""
        reception = self._receptions.get(sid)
        if reception is None and publication is not None and publication.type == TrackType.TRACK_TYPE_DATA:
            # Where the publisher of a data track comes back, the viewer's SDK goes on under the first SID.
            reception = next(reversed(self.receptions(publication)), None)
        return Row(name, identity, track, publication, reception, self._reports.get(sid))

    def _restart(self, snapshot: RoomSnapshot) -> None:
        self._tracks = {track.sid: track for track in snapshot.tracks}
        for publication in snapshot.publications:
            self._publications[publication.publication_id] = publication

    def _apply(self, event: RoomEvent) -> None:
        match event.WhichOneof("change"):
            case "track_published" | "track_muted" | "track_unmuted" | "track_updated" as change:
                track: Track = getattr(event, change)
                self._tracks[track.sid] = track
            case "track_unpublished":
                self._tracks.pop(event.track_unpublished.sid, None)
                self.subscribed.pop(event.track_unpublished.sid, None)
            case "publication_moved":
                self._publications[event.publication_moved.publication_id] = event.publication_moved
            case _:
                pass

    def _add(self, time_s: float, kind: str, text: str) -> None:
        self.lines.append(EventLine(time_s, kind, text))
        self.lines_ever += 1


_NUMBERS: Final = ("loss_percent", "jitter_ms", "rtt_ms", "bitrate_bps", "frames_per_second", "score")


def _measured(report: TrackQualityReport) -> bool:
    return any(measured(sample, name) is not None for sample in report.samples for name in _NUMBERS)
