"""What a client is told of its tracks, and what an app without a companion reads."""

import orjson
import pytest

from track.v1.subscription_pb2 import (
    FocusRank,
    LayerFallback,
    LayerTerm,
    LayerTermKind,
    SubscriberState,
    SubscriptionDecider,
    SubscriptionSettings,
    TrackViewport,
)
from track.v1.track_pb2 import VideoQuality
from track_server.subscription.controller.advice import ATTRIBUTE, MAX_BYTES, Advised, text_of
from track_server.subscription.controller.fitting import Fit, Fitting, Situation, Told, told
from track_server.subscription.controller.limits import Limits
from track_server.subscription.controller.outcome import Outcome
from track_server.subscription.focus.view import Focused, FocusView
from track_server.subscription.layers.decision import Budget
from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, OFF, Layer, Video

KIND = LayerTermKind
LAYERS = (Layer(LOW, 320, 180, 150_000), Layer(MEDIUM, 640, 360, 500_000), Layer(HIGH, 1280, 720, 1_700_000))
VIDEO = Video("TR_1", LAYERS)
OTHER = Video("TR_2", LAYERS)
QUALITY_LOW = VideoQuality.VIDEO_QUALITY_LOW


def ruled(**settings: object) -> Outcome:
    wanted = SubscriptionSettings(**settings)  # type: ignore[arg-type]
    return Outcome(None, wanted, SubscriptionDecider.SUBSCRIPTION_DECIDER_ROOM_RULE, "one")


def situation(*viewports: TrackViewport, focus: FocusView | None = None, **state: object) -> Situation:
    reported = SubscriberState(**state) if state or viewports else None  # type: ignore[arg-type]
    return Situation(focus, reported, {shown.track_sid: shown for shown in viewports}, 0)


def fitted(outcome: Outcome | None, around: Situation, limits: Limits | None = None) -> Fit:
    fitting = Fitting("room", "ann", limits or Limits())
    fitting.place(around, outcome, VIDEO)
    assert fitting.fit(0.0, None, 0, {"TR_1"}) == {"TR_1"}
    fit = fitting.of("TR_1")
    assert fit is not None
    return fit


ADAPTIVE = TrackViewport(track_sid="TR_1", adaptive_width=320, adaptive_height=180)
SMALL = TrackViewport(track_sid="TR_1", width=600, height=300)


@pytest.mark.parametrize(
    ("outcome", "around", "expected", "limiting"),
    [
        (None, situation(), Told(), KIND.LAYER_TERM_KIND_PUBLISHER),
        (ruled(quality=QUALITY_LOW), situation(), Told(quality=LOW), KIND.LAYER_TERM_KIND_POLICY),
        (ruled(quality=3), situation(), Told(quality=HIGH), KIND.LAYER_TERM_KIND_PUBLISHER),
        (ruled(enabled=False), situation(), Told(enabled=False), KIND.LAYER_TERM_KIND_POLICY),
        (ruled(priority=9), situation(), Told(priority=9), KIND.LAYER_TERM_KIND_PUBLISHER),
        (None, situation(SMALL), Told(quality=MEDIUM), KIND.LAYER_TERM_KIND_VIEWPORT),
        # The client does that by itself, at once when its size changes.
        (None, situation(ADAPTIVE), Told(), KIND.LAYER_TERM_KIND_ADAPTIVE_STREAM),
        (ruled(quality=2), situation(ADAPTIVE), Told(quality=MEDIUM), KIND.LAYER_TERM_KIND_ADAPTIVE_STREAM),
        (
            None,
            situation(focus=FocusView({}, SubscriptionSettings(quality=QUALITY_LOW))),
            Told(quality=LOW),
            KIND.LAYER_TERM_KIND_FOCUS,
        ),
    ],
)
def test_a_client_is_told_what_it_does_not_do_by_itself(
    outcome: Outcome | None, around: Situation, expected: Told, limiting: int
) -> None:
    fit = fitted(outcome, around)
    assert (told(outcome, fit), fit.limiting) == (expected, limiting)


def test_what_is_not_in_focus_falls_back_as_the_focus_says_where_nobody_else_does() -> None:
    """The publisher does not send the layer that is wanted."""
    video = Video("TR_1", LAYERS, frozenset({MEDIUM, HIGH}))
    off = SubscriptionSettings(quality=QUALITY_LOW, fallback=LayerFallback.LAYER_FALLBACK_OFF)

    def quality(outcome: Outcome | None, focus: FocusView) -> int:
        fitting = Fitting("room", "ann", Limits())
        fitting.place(situation(focus=focus), outcome, video)
        fitting.fit(0.0, None, 0, {"TR_1"})
        fit = fitting.of("TR_1")
        assert fit is not None
        return fit.quality

    assert quality(None, FocusView({}, off)) == OFF
    assert quality(ruled(fallback=LayerFallback.LAYER_FALLBACK_NEXT_HIGHER), FocusView({}, off)) == MEDIUM
    focused = FocusView({"TR_1": Focused(FocusRank.FOCUS_RANK_PINNED, 95)}, off)
    assert quality(ruled(quality=QUALITY_LOW), focused) == MEDIUM


def test_of_sound_a_client_is_told_whether_and_how_important() -> None:
    assert told(ruled(enabled=False, priority=9), None) == Told(enabled=False, priority=9)
    assert not told(None, None)


def test_a_limit_of_quality_adaptation_is_a_term_until_it_is_taken_back() -> None:
    limits = Limits()
    term = LayerTerm(kind=KIND.LAYER_TERM_KIND_NETWORK, quality=QUALITY_LOW, detail="loss")
    limits.put("adaptation", "room", "", "TR_1", term)
    fit = fitted(None, situation(), limits)
    assert (fit.limiting, told(None, fit)) == (KIND.LAYER_TERM_KIND_NETWORK, Told(quality=LOW))
    assert fit.message().terms[-1] == term
    limits.put("adaptation", "room", "", "TR_1", None)
    assert not limits.concerns("room")
    assert fitted(None, situation(), limits).limiting == KIND.LAYER_TERM_KIND_PUBLISHER
    with pytest.raises(ValueError, match="LAYER_TERM_KIND_POLICY"):
        limits.put("adaptation", "room", "", "", LayerTerm(kind=KIND.LAYER_TERM_KIND_POLICY))


def test_a_policys_budget_that_is_given_up_is_let_go_of_at_once_and_a_measured_one_after_a_calm() -> None:
    for measured, after in ((False, HIGH), (True, LOW)):
        fitting = Fitting("room", "ann", Limits())
        for video in (VIDEO, OTHER):
            fitting.place(situation(), None, video)
        fitting.fit(0.0, Budget(400_000, measured=measured), 0, {"TR_1", "TR_2"})
        assert [fitting.of(sid).quality for sid in ("TR_1", "TR_2")] == [LOW, LOW]  # type: ignore[union-attr]
        fitting.fit(1.0, None, 0, set())
        assert [fitting.of(sid).quality for sid in ("TR_1", "TR_2")] == [after, after]  # type: ignore[union-attr]


def test_the_attribute_says_how_and_why() -> None:
    outcome = ruled(quality=QUALITY_LOW, frames_per_second=10.0, priority=80)
    fit = fitted(outcome, situation())
    text = text_of({"TR_1": Advised.of(told(outcome, fit), fit)}, {})
    assert orjson.loads(text) == {
        "TR_1": {
            "enabled": True,
            "quality": "LOW",
            "width": 320,
            "height": 180,
            "frames_per_second": 10.0,
            "priority": 80,
            "limiting_term": "POLICY",
        }
    }
    assert text_of({}, {}) == ""


@pytest.mark.parametrize(("others", "limit"), [(0, MAX_BYTES), (60_000, 63 * 1024 - 60_000)])
def test_what_does_not_fit_into_the_attribute_is_left_out_from_the_lowest_priority_on(others: int, limit: int) -> None:
    advised = {f"TR_{number:010}": Advised(Told(quality=LOW), number % 100 + 1) for number in range(1000)}
    text = text_of(advised, {"other": "x" * others, ATTRIBUTE: "x" * 9000})
    read = orjson.loads(text)
    assert len(text) + len(ATTRIBUTE) <= limit
    assert read.pop("truncated") is True
    least = min(entry["priority"] for entry in read.values())
    left_out = [advised[sid].priority for sid in advised.keys() - read.keys()]
    assert max(left_out) <= least
