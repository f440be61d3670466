"""The layers of one subscriber's videos: terms, budget, and what is told of them. Without I/O; the clock is given."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from track.v1.subscription_pb2 import (
    FocusRank,
    LayerDecision,
    LayerFallback,
    LayerTermKind,
    SubscriberState,
    TrackViewport,
)
from track_server.subscription.controller.limits import Limits
from track_server.subscription.controller.outcome import Outcome
from track_server.subscription.focus.view import FocusView
from track_server.subscription.layers.allocation import Want
from track_server.subscription.layers.ceiling import Ceiling, ceiling
from track_server.subscription.layers.decision import Budget, decision, layer_at, want
from track_server.subscription.layers.hysteresis import Allocator
from track_server.subscription.layers.load import LoadSteps
from track_server.subscription.layers.terms import (
    Term,
    adaptive_term,
    capability_term,
    cpu_term,
    settings_term,
    viewport_term,
)
from track_server.subscription.layers.video import OFF, Video

DEFAULT_PRIORITY: Final = 50
"""Of SubscriptionSettings."""

_POLICY, _MANUAL = LayerTermKind.LAYER_TERM_KIND_POLICY, LayerTermKind.LAYER_TERM_KIND_MANUAL
_FOCUS, _ADAPTIVE = LayerTermKind.LAYER_TERM_KIND_FOCUS, LayerTermKind.LAYER_TERM_KIND_ADAPTIVE_STREAM
_LOWER: Final = LayerFallback.LAYER_FALLBACK_UNSPECIFIED
_SAID: Final = frozenset({_POLICY, _MANUAL})
"""Terms that somebody named: the client is told of them whether they limit or not."""
_BY_ITSELF: Final = frozenset({LayerTermKind.LAYER_TERM_KIND_PUBLISHER, _ADAPTIVE})
"""What LiveKit and the client do without us."""


@dataclass(frozen=True, slots=True)
class Told:
    """How a track is to be received. None: as the client has it by itself."""

    enabled: bool | None = None
    quality: int | None = None
    """LOW to HIGH of layers/video.py."""
    frames_per_second: float | None = None
    priority: int | None = None

    def __bool__(self) -> bool:
        return self != _NOTHING


_NOTHING: Final = Told()


@dataclass(frozen=True, slots=True)
class Fit:
    """What is decided of one video."""

    ceiling: Ceiling
    level: int
    """Of its want."""
    priority: int
    budget: Budget | None

    @property
    def quality(self) -> int:
        """OFF to HIGH."""
        layer = layer_at(self.ceiling, self.level)
        return OFF if layer is None else layer.quality

    @property
    def off(self) -> bool:
        """Whether there is no media of it."""
        return self.quality == OFF

    @property
    def limiting(self) -> "LayerTermKind.ValueType":
        """The term that limits it."""
        if self.budget is not None and self.quality < self.ceiling.quality:
            return LayerTermKind.LAYER_TERM_KIND_BUDGET
        return self.ceiling.limiting

    def message(self) -> LayerDecision:
        """As the contract says it."""
        return decision(self.ceiling, self.level, self.priority, self.budget)


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for the subscriber besides its outcomes."""

    focus: FocusView | None
    state: SubscriberState | None
    viewports: dict[str, TrackViewport]
    layers_down: int
    """For the load of its machine."""

    def terms(self, outcome: Outcome | None, video: Video) -> Iterator[Term]:
        """Those that are known, but the publisher's and the budget's."""
        if outcome is not None:
            kind = _MANUAL if outcome.manual else _POLICY
            detail = outcome.chosen_by if outcome.manual else outcome.rule
            if term := settings_term(kind, video, outcome.settings, detail, outcome.expire_time):
                yield term
        if self.focus is not None and (term := _focus_term(self.focus, video)):
            yield term
        if self.state is not None:
            yield from self._reported(self.state, video)

    def _reported(self, state: SubscriberState, video: Video) -> Iterator[Term]:
        width = state.max_decode_width if state.HasField("max_decode_width") else None
        height = state.max_decode_height if state.HasField("max_decode_height") else None
        if term := capability_term(video, state.receive_codecs, width, height):
            yield term
        shown = self.viewports.get(video.sid)
        if shown is not None:
            yield from _viewport_terms(shown, video)
        if state.HasField("cpu_load"):
            yield cpu_term(video, self.layers_down, state.cpu_load)


class Fitting:
    """Of one connection of one subscriber."""

    def __init__(self, room: str, identity: str, limits: Limits) -> None:
        self._room = room
        self._identity = identity
        self._limits = limits
        self._allocator = Allocator()
        self._load = LoadSteps()
        self._ceilings: dict[str, tuple[Ceiling, Want]] = {}
        """Of every video that is to be received, with what it wants of the budget."""
        self._fits: dict[str, Fit] = {}
        self._due_s: float | None = None
        self._budget: Budget | None = None

    def load(self, now_s: float, load: float | None) -> int:
        """Takes the load of the subscriber's machine: 0 to 1, or None; says how many layers its videos go down."""
        return self._load.step(now_s, load)

    def place(self, situation: Situation, outcome: Outcome | None, video: Video) -> None:
        """The subscriber is to receive, or may receive, that video."""
        terms = [*situation.terms(outcome, video), *self._limits.of(self._room, self._identity, video.sid)]
        top = ceiling(video, terms, fallback_of(situation.focus, outcome, video.sid))
        self._ceilings[video.sid] = top, want(top, priority_of(situation.focus, outcome, video.sid))

    def remove(self, track_sid: str) -> None:
        """It does not receive that video."""
        self._ceilings.pop(track_sid, None)
        self._fits.pop(track_sid, None)

    def fit(self, now_s: float, budget: Budget | None, sound_bps: int, changed: Collection[str]) -> set[str]:
        """Fits all into the budget; gives the SIDs of those that are another way now. ``changed``: what was placed."""
        if budget is None and self._budget is not None and not self._budget.measured:
            # Given up: nothing is to be waited for.
            self._allocator = Allocator()
            changed = self._ceilings.keys()
        self._budget = budget
        if budget is None and self._allocator.held_bps is None:
            # Nobody takes from anybody: the others are as they were.
            pairs = [(sid, self._ceilings[sid]) for sid in changed if sid in self._ceilings]
            self._due_s = None
            return self._take(
                {sid: Fit(top, len(top.offered) - 1, wanted.priority, None) for sid, (top, wanted) in pairs}
            )
        wants = [wanted for _, wanted in self._ceilings.values()]
        levels = self._allocator.step(now_s, wants, budget.bandwidth_bps if budget else None, sound_bps)
        due = self._allocator.due_in(now_s)
        self._due_s = None if due is None else now_s + due
        if budget is None and (held := self._allocator.held_bps) is not None:
            # It is not known any more, and held on to until there was calm.
            budget = Budget(round(held), "as it was last known")
        return self._take(
            {sid: Fit(top, levels[sid], wanted.priority, budget) for sid, (top, wanted) in self._ceilings.items()}
        )

    def due_s(self, now_s: float, load: float | None) -> float | None:
        """When to look again though nothing changes."""
        stepping = self._load.due_in(now_s, load)
        dues = [due for due in (self._due_s, None if stepping is None else now_s + stepping) if due is not None]
        return min(dues, default=None)

    def of(self, track_sid: str) -> Fit | None:
        """What is decided of that video; None where it is not received."""
        return self._fits.get(track_sid)

    def _take(self, fits: dict[str, Fit]) -> set[str]:
        changed = {sid for sid, fit in fits.items() if self._fits.get(sid) != fit}
        self._fits.update(fits)
        return changed


def told(outcome: Outcome | None, fit: Fit | None) -> Told:
    """What the client is told of a track that it receives. ``fit``: None for sound."""
    settings = outcome.settings if outcome is not None else None
    priority = settings.priority if settings is not None and settings.HasField("priority") else None
    if fit is None:
        enabled = settings.enabled if settings is not None and settings.HasField("enabled") else None
        return Told(enabled=enabled, priority=priority)
    said = any(term.kind in _SAID for term in fit.ceiling.terms)
    frames, limiting = fit.ceiling.frames_per_second, fit.limiting
    quality: int | None = fit.quality
    if limiting == _ADAPTIVE:
        # The client does that by itself, and at once when its size changes: it is told what holds besides.
        others = [term for term in fit.ceiling.terms if term.kind not in _BY_ITSELF]
        without = ceiling(fit.ceiling.video, others, fit.ceiling.fallback)
        quality, limiting = without.quality, without.limiting
    if limiting in _BY_ITSELF and not said and not fit.ceiling.fell_back:
        quality = None
    if quality == OFF:
        return Told(enabled=False, priority=priority)
    enabled = True if settings is not None and settings.HasField("enabled") else None
    return Told(enabled, quality, frames, priority)


def enforceable(fit: Fit) -> bool:
    """Whether the publisher has what is decided: one layer alone cannot be made smaller."""
    terms = [term.quality for term in fit.ceiling.terms if term.quality is not None]
    return len(fit.ceiling.video.layers) > 1 or fit.quality == OFF or min(terms, default=fit.quality) >= fit.quality


def _focus_term(focus: FocusView, video: Video) -> Term | None:
    focused = focus.tracks.get(video.sid)
    if focused is None:
        return settings_term(_FOCUS, video, focus.others, "OTHERS")
    return Term(_FOCUS, detail=FocusRank.Name(focused.rank).removeprefix("FOCUS_RANK_"))


def _viewport_terms(shown: TrackViewport, video: Video) -> Iterator[Term]:
    width = shown.width if shown.HasField("width") else None
    height = shown.height if shown.HasField("height") else None
    visible = not shown.HasField("visible") or shown.visible
    if term := viewport_term(video, visible=visible, width=width, height=height):
        yield term
    adaptive = (shown.adaptive_width, shown.adaptive_height) if shown.HasField("adaptive_width") else (None, None)
    if term := adaptive_term(video, *adaptive):
        yield term


def fallback_of(focus: FocusView | None, outcome: Outcome | None, track_sid: str) -> "LayerFallback.ValueType":
    """What comes in the place of a layer that is not sent: as was said, else as the focus says of what is not in it."""
    if outcome is not None and outcome.settings.fallback != _LOWER:
        return outcome.settings.fallback
    return focus.others.fallback if focus is not None and track_sid not in focus.tracks else _LOWER


def priority_of(focus: FocusView | None, outcome: Outcome | None, track_sid: str) -> int:
    """Among the subscriber's tracks: as it was said, else by the focus."""
    if outcome is not None and outcome.settings.HasField("priority"):
        return outcome.settings.priority
    focused = focus.tracks.get(track_sid) if focus is not None else None
    return focused.priority if focused is not None else DEFAULT_PRIORITY
