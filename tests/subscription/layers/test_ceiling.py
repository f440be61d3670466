"""The lowest of the terms, which of them it is, and what comes in the place of a layer that is not sent."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.subscription.layers.videos import FULL, HALF, QUARTER, video
from track.v1.subscription_pb2 import LayerFallback, LayerTermKind
from track_server.subscription.layers.ceiling import ceiling
from track_server.subscription.layers.terms import Term
from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, OFF, Layer, Video

LOWER: Final = LayerFallback.LAYER_FALLBACK_NEXT_LOWER
HIGHER: Final = LayerFallback.LAYER_FALLBACK_NEXT_HIGHER
NOTHING: Final = LayerFallback.LAYER_FALLBACK_OFF
DEFAULT: Final = LayerFallback.LAYER_FALLBACK_UNSPECIFIED

PUBLISHER: Final = LayerTermKind.LAYER_TERM_KIND_PUBLISHER
POLICY: Final = LayerTermKind.LAYER_TERM_KIND_POLICY
MANUAL: Final = LayerTermKind.LAYER_TERM_KIND_MANUAL
FOCUS: Final = LayerTermKind.LAYER_TERM_KIND_FOCUS
CAPABILITY: Final = LayerTermKind.LAYER_TERM_KIND_CAPABILITY
VIEWPORT: Final = LayerTermKind.LAYER_TERM_KIND_VIEWPORT
CPU: Final = LayerTermKind.LAYER_TERM_KIND_CPU
NETWORK: Final = LayerTermKind.LAYER_TERM_KIND_NETWORK
CAP: Final = LayerTermKind.LAYER_TERM_KIND_PUBLISHER_CAP

KINDS: Final = [
    kind for kind in LayerTermKind.values() if kind not in (0, PUBLISHER, LayerTermKind.LAYER_TERM_KIND_BUDGET)
]
# One of each kind at most: a manual choice stands in the place of a policy's.
TERMS = st.lists(
    st.builds(Term, st.sampled_from(KINDS), st.none() | st.integers(OFF, HIGH)), max_size=6, unique_by=lambda t: t.kind
)
VIDEOS = st.builds(
    lambda layers, sent: video(*sorted(layers, key=lambda layer: layer.quality), sent=sent),
    st.lists(st.sampled_from([QUARTER, HALF, FULL]), min_size=1, unique=True),
    st.none() | st.frozensets(st.integers(LOW, HIGH)),
)
FALLBACKS = st.sampled_from([DEFAULT, LOWER, HIGHER, NOTHING])


def test_without_terms_all_that_the_publisher_has_is_received() -> None:
    found = ceiling(video(), [])
    assert (found.quality, found.limiting, found.fell_back) == (HIGH, PUBLISHER, False)
    assert [term.kind for term in found.terms] == [PUBLISHER]
    assert ceiling(video(QUARTER, HALF), []).quality == MEDIUM


def test_the_lowest_term_decides_and_is_named() -> None:
    found = ceiling(video(), [Term(VIEWPORT, LOW), Term(POLICY, MEDIUM), Term(NETWORK, HIGH)])
    assert (found.quality, found.limiting) == (LOW, VIEWPORT)
    assert [term.kind for term in found.terms] == [PUBLISHER, POLICY, VIEWPORT, NETWORK]


def test_of_equal_terms_the_first_is_named() -> None:
    assert ceiling(video(), [Term(NETWORK, LOW), Term(FOCUS, LOW), Term(CPU, LOW)]).limiting == FOCUS
    assert ceiling(video(), [Term(POLICY, HIGH)]).limiting == PUBLISHER


def test_a_term_that_allows_nothing_turns_it_off() -> None:
    for kind in KINDS:
        found = ceiling(video(), [Term(kind, OFF)])
        assert (found.quality, found.offered, found.limiting) == (OFF, (), kind)


def test_the_lowest_frame_rate_counts() -> None:
    found = ceiling(video(), [Term(POLICY, HIGH, frames_per_second=20), Term(FOCUS, frames_per_second=8)])
    assert (found.quality, found.frames_per_second) == (HIGH, 8)


@pytest.mark.parametrize(
    ("declared", "asked", "fallback", "received"),
    [
        ((QUARTER, FULL), MEDIUM, DEFAULT, LOW),
        ((QUARTER, FULL), MEDIUM, LOWER, LOW),
        ((QUARTER, FULL), MEDIUM, HIGHER, HIGH),
        ((QUARTER, FULL), MEDIUM, NOTHING, OFF),
        ((HALF, FULL), LOW, DEFAULT, MEDIUM),
        ((HALF, FULL), LOW, LOWER, MEDIUM),
        ((FULL,), LOW, LOWER, HIGH),
        ((FULL,), LOW, NOTHING, OFF),
        ((QUARTER, HALF), HIGH, HIGHER, MEDIUM),
        ((QUARTER, HALF), HIGH, DEFAULT, MEDIUM),
        ((QUARTER, HALF), HIGH, NOTHING, OFF),
    ],
)
def test_a_layer_that_is_not_declared_falls_back(
    declared: tuple[Layer, ...], asked: int, fallback: "LayerFallback.ValueType", received: int
) -> None:
    found = ceiling(video(*declared), [Term(MANUAL, asked)], fallback)
    assert (found.quality, found.fell_back) == (received, True)
    assert "not declared" in found.terms[0].detail


def test_a_layer_that_is_declared_and_not_sent_falls_back_too() -> None:
    paused = video(sent=frozenset({LOW, HIGH}))
    found = ceiling(paused, [Term(POLICY, MEDIUM)])
    assert (found.quality, found.fell_back, found.offered) == (LOW, True, (QUARTER,))
    assert found.terms[0].detail == "MEDIUM is declared and not sent"
    assert ceiling(paused, [Term(POLICY, MEDIUM)], HIGHER).quality == HIGH


def test_nothing_falls_back_without_having_been_asked_for() -> None:
    found = ceiling(video(QUARTER, HALF), [Term(POLICY, frames_per_second=10)], NOTHING)
    assert (found.quality, found.fell_back) == (MEDIUM, False)


def test_a_fallback_upwards_stays_below_what_can_be_carried_and_decoded() -> None:
    wish = Term(MANUAL, MEDIUM)
    for kind in (CAPABILITY, CPU, NETWORK, CAP):
        found = ceiling(video(QUARTER, FULL), [wish, Term(kind, MEDIUM)], HIGHER)
        assert found.quality == LOW
        assert not found.fell_back


def test_what_cannot_be_decoded_is_not_sent_and_what_cannot_be_carried_is_livekits_to_thin() -> None:
    assert ceiling(video(FULL), [Term(CAPABILITY, LOW)]).quality == OFF
    assert ceiling(video(FULL), [Term(NETWORK, LOW)]).quality == HIGH
    assert ceiling(video(HALF, FULL), [Term(CPU, LOW)]).quality == MEDIUM


def test_a_publisher_that_sends_nothing_is_what_limits() -> None:
    found = ceiling(video(sent=frozenset()), [Term(POLICY, HIGH)])
    assert (found.quality, found.offered, found.limiting) == (OFF, (), PUBLISHER)


@given(VIDEOS, TERMS, FALLBACKS)
def test_what_is_received_is_there_to_be_had(
    video: Video, terms: list[Term], fallback: "LayerFallback.ValueType"
) -> None:
    found = ceiling(video, terms, fallback)
    there = {layer.quality for layer in video.available}
    assert found.quality == OFF or found.quality in there
    assert [layer.quality for layer in found.offered] == sorted(each for each in there if each <= found.quality)


@given(VIDEOS, TERMS, FALLBACKS)
def test_the_limiting_term_is_the_first_of_the_lowest(
    video: Video, terms: list[Term], fallback: "LayerFallback.ValueType"
) -> None:
    found = ceiling(video, terms, fallback)
    allowed = [(term.quality, term.kind) for term in found.terms if term.quality is not None]
    assert found.limiting == min(allowed)[1]
    # No layer above it, but where the publisher has none up to it.
    lowest = min(allowed)[0]
    if any(layer.quality <= lowest for layer in video.available) and fallback != HIGHER:
        assert found.quality <= lowest


@given(VIDEOS, TERMS, TERMS, st.sampled_from([DEFAULT, LOWER, HIGHER]))
def test_no_term_raises_what_is_received(
    video: Video, terms: list[Term], more: list[Term], fallback: "LayerFallback.ValueType"
) -> None:
    kinds = {term.kind for term in terms}
    # The first to ask for a layer by name brings the fallback in, which alone may go up.
    wishes = [Term(POLICY, HIGH)] if POLICY not in kinds else []
    fewer = ceiling(video, [*terms, *wishes], fallback)
    all_of_them = ceiling(
        video, [*terms, *wishes, *(term for term in more if term.kind not in kinds | {POLICY})], fallback
    )
    assert all_of_them.quality <= fewer.quality
