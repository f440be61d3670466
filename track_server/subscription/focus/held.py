"""The focuses of one room and what is in them now, in memory: follows who is there, who speaks, and the time."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.subscription_pb2 import Focus, FocusedTrack
from track.v1.track_pb2 import Track
from track_server.rooms.likeness import Likeness
from track_server.rooms.room import LiveRoom
from track_server.subscription.focus.kept import Kept
from track_server.subscription.focus.ranking import scene_of
from track_server.subscription.focus.view import FocusView
from track_server.subscription.focus.viewers import Viewers

log = structlog.get_logger(__name__)

# What moves who is there, or what a track is.
_MOVES: Final = frozenset({"track_published", "track_unpublished", "track_updated", "participant_left"})


class HeldFocuses:
    """Of one room. ``changed``: told whose view is another one now. ``moved``: told whose focus names another SID, and
    is to be stored. Both must neither wait nor raise. Its methods never wait."""

    def __init__(self, changed: Callable[[set[str]], None], moved: Callable[[str], None]) -> None:
        self.kept: dict[str, Kept] = {}
        """By subscriber; the room's under the empty identity."""
        self._changed = changed
        self._moved = moved
        self._viewers = Viewers()
        self._live: LiveRoom | None = None
        self._due: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None

    def close(self) -> None:
        """Follows nothing any more."""
        for handle in (self._due, self._soon):
            if handle is not None:
                handle.cancel()
        self._due = self._soon = None

    def focus(self, identity: str) -> Focus | None:
        """As it was set, of that subscriber alone. Never to be changed in place."""
        kept = self.kept.get(identity)
        return kept.focus if kept is not None else None

    def view(self, identity: str) -> FocusView | None:
        """What that subscriber sees; None where there is no focus for it."""
        return self._viewers.view(identity, time.monotonic())

    def tracks(self, identity: str) -> list[FocusedTrack]:
        """What is in focus for it, first to last."""
        view = self.view(identity)
        return list(self._viewers.tracks(view)) if view is not None else []

    def put(self, identity: str, kept: Kept) -> set[str]:
        """Sets a focus; what comes into it does so at once. Returns whose view is another one now."""
        now = time.monotonic()
        self.kept[identity] = kept
        changed = self._see(now) | self._viewers.put(identity, kept.focus, now)
        self._wait()
        return changed

    def drop(self, identity: str) -> set[str]:
        """Takes a focus away. Returns whose view is another one now."""
        self.kept.pop(identity, None)
        stays = self._live is not None and identity in self._live.model.participants
        changed = self._viewers.drop(identity, time.monotonic(), stays=stays)
        self._wait()
        return changed

    def look(self, live: LiveRoom) -> None:
        """The room is watched. The first time, all that is in focus comes into it at once."""
        if self._live is not live:
            self._live = live
            for track in list(live.model.tracks.values()):
                # What came while nobody looked is told from what was there before only where there is no other one.
                self._carry(live, track, alike=_alone(live, track))
            self._tell(self._see(time.monotonic(), at_once=True))

    def happened(self, live: LiveRoom, event: event_pb2.RoomEvent) -> None:
        """LiveKit changed something."""
        change = event.WhichOneof("change")
        if change not in _MOVES:
            return
        if change == "participant_left":
            self._viewers.left(event.participant_left.identity)
        elif change == "track_unpublished":
            for track in live.model.tracks_of(event.track_unpublished.participant_identity):
                self._carry(live, track, alike=False)
        elif change is not None:
            self._carry(live, getattr(event, change), alike=change == "track_published")
        self.spoke()

    def spoke(self) -> None:
        """Who spoke last is another one. Looks once for all that comes in one turn of the loop."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        self._soon = None
        self._tell(self._see(time.monotonic()))

    def _time_passed(self) -> None:
        self._tell(self._viewers.pass_time(time.monotonic()))

    def _see(self, now: float, *, at_once: bool = False) -> set[str]:
        if self._live is None:
            return set()
        scene = scene_of(self._live.model.tracks.values(), self._live.speaking.order)
        return self._viewers.see(scene, now, at_once=at_once)

    def _tell(self, changed: set[str]) -> None:
        self._wait()
        if changed:
            self._changed(changed)

    def _wait(self) -> None:
        """For the next change by itself."""
        if self._due is not None:
            self._due.cancel()
        due = self._viewers.due()
        wait_s = max(0.0, due - time.monotonic()) if due is not None else None
        loop = asyncio.get_running_loop()
        self._due = loop.call_later(wait_s, self._time_passed) if wait_s is not None else None

    def _carry(self, live: LiveRoom, track: Track, *, alike: bool) -> None:
        """A track that is named and is published anew, under another SID, stays named.

        ``alike``: that it is like the one that is gone will do; else it must be of the same publication.
        """
        there = live.model.tracks
        for identity, kept in list(self.kept.items()):
            moved = kept.moved(track, there) if kept.gone(there) else None
            if moved is not None and (alike or track.publication_id):
                log.info("focus_carried", room=live.name, identity=identity, track_sid=track.sid)
                self.kept[identity] = moved
                self._viewers.renamed(identity, moved.focus)
                self._moved(identity)


def _alone(live: LiveRoom, track: Track) -> bool:
    alike = Likeness.of(track)
    return [Likeness.of(other) for other in live.model.tracks_of(track.participant_identity)].count(alike) == 1
