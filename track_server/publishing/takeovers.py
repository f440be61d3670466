"""Which track of a publication takes over from which, and which changes the tracks of a session are to take over."""

import time
from dataclasses import dataclass

from track.media.v1 import media_service_pb2 as media
from track.v1 import error_pb2
from track_server.publishing.retries import Retries


@dataclass(slots=True)
class Takeover:
    """One track on its way to take over from another one of the same publication."""

    attempt: int
    """Of the new track."""
    before: int
    """Of the old one."""
    old_sid: str
    graceful: bool
    """The old track stays until ``released``, and where the new one fails."""
    unattended: bool = False
    """Nobody waits for it: the old track goes as soon as the new one is published."""
    released: bool = False
    new_sid: str = ""
    """Once it is published."""
    gone: bool = False
    """The old one is, so the worker says."""
    over: bool = False
    """It is nothing to wait for any more: the publication has ended, or its worker was lost, or another try began."""
    problem: error_pb2.Problem | None = None
    """Why the new one failed, where the old one is still there."""
    gap_ms: float | None = None
    """For how long nothing was sent; None: not measured."""

    @property
    def keeps(self) -> bool:
        """Whether both are to be there."""
        return self.graceful and not self.released


class Takeovers:
    """Those of one session, by publication id. ``retries`` has the numbers of the attempts."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._active: dict[str, Takeover] = {}
        self._changes: dict[str, int] = {}
        self._unmuted_us: dict[str, int] = {}
        self._changed: dict[str, int] = {}
        """The latest change that the worker has told of."""

    def find(self, publication_id: str) -> Takeover | None:
        """The one under way."""
        return self._active.get(publication_id)

    def begin(self, publication_id: str, old_sid: str, *, graceful: bool) -> Takeover:
        """Another attempt, which takes over. The worker is to be told."""
        self.end(publication_id)
        before = self._retries.number(publication_id)
        takeover = Takeover(self._retries.next(publication_id), before, old_sid, graceful)
        self._active[publication_id] = takeover
        return takeover

    def give_up(self, publication_id: str) -> Takeover | None:
        """The new one failed, and the old one is what is wanted again. The worker is to be told."""
        takeover = self.end(publication_id)
        if takeover is not None:
            self._retries.back_to(publication_id, takeover.before)
        return takeover

    def end(self, publication_id: str) -> Takeover | None:
        """It is over, one way or the other; returns what was."""
        takeover = self._active.pop(publication_id, None)
        if takeover is not None:
            takeover.over = True
        return takeover

    def published(self, report: media.HostedTrackReport) -> Takeover | None:
        """The takeover whose new track it is about."""
        takeover = self.find(report.publication_id)
        if takeover is None or report.attempt != takeover.attempt:
            return None
        takeover.new_sid = report.track_sid
        if report.HasField("gap_ms"):
            takeover.gap_ms = report.gap_ms
        # Also where both are to be there: of data tracks of one name the old one goes first.
        takeover.gone = not report.previous_track_sid
        return takeover

    # What the track there does as it is.

    def unmute(self, publication_id: str) -> None:
        """The worker is to be told to unmute the track itself, where LiveKit's API may not."""
        self._unmuted_us[publication_id] = time.time_ns() // 1000

    def unmute_time_us(self, publication_id: str) -> int:
        """When the worker was to be told so last, in microseconds since 1970; 0: never."""
        return self._unmuted_us.get(publication_id, 0)

    def change(self, publication_id: str) -> int:
        """The change that the worker is told."""
        return self._changes.get(publication_id, 0)

    def begin_change(self, publication_id: str) -> int:
        """One more change. The worker is to be told."""
        self._changes[publication_id] = self.change(publication_id) + 1
        return self._changes[publication_id]

    def has_changed(self, publication_id: str, change: int) -> bool:
        """Whether the worker has made that change."""
        return self._changed.get(publication_id, 0) >= change

    def heard(self, report: media.HostedTrackReport) -> None:
        """Takes what the worker tells of changes; it may be further than a server that came back."""
        publication_id = report.publication_id
        self._changes[publication_id] = max(self.change(publication_id), report.change)
        self._changed[publication_id] = max(self._changed.get(publication_id, 0), report.change)

    def forget(self, publication_id: str) -> None:
        """The publication is over."""
        self.end(publication_id)
        self._changes.pop(publication_id, None)
        self._changed.pop(publication_id, None)
