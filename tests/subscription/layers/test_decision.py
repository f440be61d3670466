"""What is told of a decision: the layer, its cost, every term, and which one limits it."""

from typing import Final

from tests.subscription.layers.videos import FULL, HALF, QUARTER, video
from track.v1.subscription_pb2 import LayerDecision, LayerTerm, LayerTermKind
from track.v1.track_pb2 import Track, VideoLayer, VideoQuality
from track_server.subscription.layers.allocation import NO_LAYER, allocate
from track_server.subscription.layers.ceiling import ceiling
from track_server.subscription.layers.decision import Budget, budget_of, decision, want
from track_server.subscription.layers.terms import Term
from track_server.subscription.layers.video import HIGH, LOW, MEDIUM, Layer, video_of

PUBLISHER: Final = LayerTermKind.LAYER_TERM_KIND_PUBLISHER
POLICY: Final = LayerTermKind.LAYER_TERM_KIND_POLICY
BUDGET: Final = LayerTermKind.LAYER_TERM_KIND_BUDGET
CAP: Final = LayerTermKind.LAYER_TERM_KIND_PUBLISHER_CAP


def test_all_of_it() -> None:
    found = ceiling(video(), [Term(POLICY, MEDIUM, frames_per_second=10, detail="small"), Term(CAP, HIGH)])
    assert decision(found, 0, 70, Budget(300_000, "the policy's")) == LayerDecision(
        quality=VideoQuality.VIDEO_QUALITY_LOW,
        width=320,
        height=180,
        frames_per_second=10,
        bitrate_bps=160_000,
        limiting_term=BUDGET,
        terms=[
            LayerTerm(kind=PUBLISHER, quality=VideoQuality.VIDEO_QUALITY_HIGH),
            LayerTerm(kind=POLICY, quality=VideoQuality.VIDEO_QUALITY_MEDIUM, frames_per_second=10, detail="small"),
            LayerTerm(kind=BUDGET, quality=VideoQuality.VIDEO_QUALITY_LOW, bitrate_bps=300_000, detail="the policy's"),
            LayerTerm(kind=CAP, quality=VideoQuality.VIDEO_QUALITY_HIGH),
        ],
        priority=70,
    )


def test_a_budget_that_is_enough_is_told_and_limits_nothing() -> None:
    found = ceiling(video(), [Term(POLICY, MEDIUM)])
    decided = decision(found, 1, 50, Budget(10_000_000))
    assert decided.limiting_term == POLICY
    assert decided.terms[-1] == LayerTerm(kind=BUDGET, bitrate_bps=10_000_000)


def test_what_the_budget_drops_is_off() -> None:
    decided = decision(ceiling(video(), []), NO_LAYER, 50, Budget(16_000))
    assert (decided.quality, decided.limiting_term) == (VideoQuality.VIDEO_QUALITY_OFF, BUDGET)
    assert not decided.HasField("width")
    assert not decided.HasField("bitrate_bps")


def test_the_smaller_budget_holds() -> None:
    assert budget_of(None, None) is None
    assert budget_of(500_000, None) == Budget(500_000, "the policy's")
    assert budget_of(500_000, 400_000) == Budget(400_000, "the reported downlink", measured=True)
    assert budget_of(500_000, 600_000) == Budget(500_000, "the policy's")


def test_a_muted_video_costs_nothing() -> None:
    loud, muted = ceiling(video(), []), ceiling(video(muted=True), [])
    assert want(loud, 50).costs == (160_000, 450_000, 1_700_000)
    assert want(muted, 50).costs == (0, 0, 0)
    assert allocate([want(muted, 50)], 0) == {"TR_video": 2}


def test_the_layers_of_a_track_are_its_declared_ones() -> None:
    track = Track(
        sid="TR_1",
        mime_type="video/VP8",
        muted=True,
        layers=[
            VideoLayer(quality=VideoQuality.VIDEO_QUALITY_MEDIUM, width=640, height=360),
            VideoLayer(quality=VideoQuality.VIDEO_QUALITY_LOW, width=320, height=180, bitrate_bps=160_000),
            VideoLayer(quality=VideoQuality.VIDEO_QUALITY_OFF),
        ],
    )
    found = video_of(track)
    assert found.layers == (QUARTER, Layer(MEDIUM, 640, 360))
    assert (found.codec, found.muted) == ("vp8", True)
    assert [found.spatial_layer(quality) for quality in (LOW, MEDIUM, HIGH)] == [0, 1, None]
    assert video_of(track, [MEDIUM]).available == (Layer(MEDIUM, 640, 360),)


def test_a_track_that_declares_no_layers_has_one() -> None:
    found = video_of(Track(sid="TR_1", mime_type="video/H264", width=1280, height=720))
    assert found.layers == (Layer(HIGH, 1280, 720),)
    assert video_of(Track(sid="TR_1")).layers == (Layer(HIGH),)


def test_two_layers_are_numbered_as_livekit_numbers_them() -> None:
    assert [video(HALF, FULL).spatial_layer(quality) for quality in (LOW, MEDIUM, HIGH)] == [None, 0, 1]
