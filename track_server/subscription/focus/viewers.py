"""What each subscriber of one room sees in focus. In memory, without I/O; the clock comes from outside."""

from collections.abc import Iterable, Iterator
from typing import Final

from track.v1.subscription_pb2 import Focus, FocusedTrack, SubscriptionSettings
from track.v1.track_pb2 import VIDEO_QUALITY_LOW
from track_server.subscription.focus.debounce import Debounce
from track_server.subscription.focus.ranking import EMPTY, Scene, focused, levels
from track_server.subscription.focus.view import FocusView

_DEFAULT: Final = SubscriptionSettings(quality=VIDEO_QUALITY_LOW)
EVERYBODY: Final = ""
"""Stands for all subscribers that have no focus of their own and publish nothing: they see the same."""


class _Viewer:
    """``others``: as in the view."""

    def __init__(self, debounce: Debounce, others: SubscriptionSettings) -> None:
        self.debounce = debounce
        self.view = FocusView({}, others)

    def look(self, now: float, others: SubscriptionSettings) -> bool:
        """Says whether the view is another one now."""
        view = FocusView({sid: focused(level) for sid, level in self.debounce.shown(now).items()}, others)
        same = list(view.tracks.items()) == list(self.view.tracks.items()) and others == self.view.others
        if not same:
            self.view = view
        return not same


class Viewers:
    """Of one room. ``focuses``: by subscriber, and EVERYBODY's; they are changed by ``put`` and ``drop`` alone."""

    def __init__(self) -> None:
        self.focuses: dict[str, Focus] = {}
        self._scene = EMPTY
        self._viewers: dict[str, _Viewer] = {}

    def put(self, identity: str, focus: Focus, now: float) -> set[str]:
        """Sets that focus; what comes into it does so at once. Returns whose view is another one now."""
        self._viewer(identity, now)
        self.focuses[identity] = focus
        self._viewer(identity, now)
        return self._rank(self._holders(identity), now, at_once=True)

    def drop(self, identity: str, now: float, *, stays: bool) -> set[str]:
        """Takes a focus away. ``stays``: the subscriber is in the room. Returns whose view is another one now."""
        holders = set(self._holders(identity))
        self.focuses.pop(identity, None)
        if EVERYBODY not in self.focuses or not (stays or identity == EVERYBODY):
            for holder in holders:
                self._viewers.pop(holder, None)
            return holders | {identity}
        return self._rank(holders, now)

    def renamed(self, identity: str, focus: Focus) -> None:
        """The same focus, a track of which has another SID: to be told with the next ``see``."""
        self.focuses[identity] = focus

    def see(self, scene: Scene, now: float, *, at_once: bool = False) -> set[str]:
        """Takes who is there now. Returns whose view is another one now."""
        self._scene = scene
        for identity in self.focuses:
            self._viewer(identity, now)
        return self._rank(self._viewers, now, at_once=at_once)

    def left(self, identity: str) -> None:
        """The participant is not in the room any more."""
        if identity not in self.focuses:
            self._viewers.pop(identity, None)

    def pass_time(self, now: float) -> set[str]:
        """Returns whose view is another one by now."""
        return {who for who, viewer in self._viewers.items() if viewer.look(now, self._others(who))}

    def due(self) -> float | None:
        """When that is so next; None: not by itself."""
        return min(
            (due for viewer in self._viewers.values() if (due := viewer.debounce.due()) is not None), default=None
        )

    def view(self, identity: str, now: float) -> FocusView | None:
        """What that subscriber sees; None where there is no focus for it."""
        viewer = self._viewer(identity, now)
        return viewer.view if viewer is not None else None

    def tracks(self, view: FocusView) -> Iterator[FocusedTrack]:
        """What is in focus, first to last."""
        for sid, track in view.tracks.items():
            if publisher := self._scene.publishers.get(sid):
                yield FocusedTrack(
                    track_sid=sid, participant_identity=publisher, rank=track.rank, priority=track.priority
                )

    def _holders(self, identity: str) -> list[str]:
        """Whose view rests on that one's focus."""
        if identity != EVERYBODY:
            return [identity]
        return [who for who in self._viewers if who == EVERYBODY or who not in self.focuses]

    def _focus(self, identity: str) -> Focus | None:
        return self.focuses.get(identity, self.focuses.get(EVERYBODY))

    def _others(self, identity: str) -> SubscriptionSettings:
        focus = self._focus(identity)
        return focus.others if focus is not None and focus.HasField("others") else _DEFAULT

    def _viewer(self, identity: str, now: float) -> _Viewer | None:
        if self._focus(identity) is None:
            return None
        known = self._viewers.get(identity)
        if known is not None:
            return known
        if identity != EVERYBODY and identity not in self.focuses and identity not in self._scene.tracks:
            return self._viewer(EVERYBODY, now)
        like = self._viewers.get(EVERYBODY)
        debounce = like.debounce.copy() if like is not None else Debounce()
        debounce.forget(self._scene.tracks.get(identity, ()))
        made = self._viewers[identity] = _Viewer(debounce, self._others(identity))
        self._rank([identity], now, at_once=True)
        return made

    def _rank(self, viewers: Iterable[str], now: float, *, at_once: bool = False) -> set[str]:
        changed, scene = set(), self._scene
        for identity in list(viewers):
            viewer, focus = self._viewers.get(identity), self._focus(identity)
            if viewer is None or focus is None:
                continue
            viewer.debounce.rank(levels(focus, scene, identity), scene.publishers, now, at_once=at_once)
            if viewer.look(now, self._others(identity)):
                changed.add(identity)
        return changed
