"""Reports: who measured what of which track."""

import pytest
from livekit.protocol import models

from tests.quality.rooms import bind, live_room, rate
from tests.quality.samples import EPOCH, audio, hosted
from track.v1.quality_alert_pb2 import QUALITY_HOP_UPLINK
from track.v1.quality_pb2 import (
    CONNECTION_QUALITY_GOOD,
    CONNECTION_QUALITY_UNSPECIFIED,
    QUALITY_SOURCE_PUBLISHER_STATS,
    QUALITY_SOURCE_SFU_SCORE,
    TrackQualityReport,
)
from track.v1.track_pb2 import TRACK_TYPE_AUDIO
from track_server.errors import NotFound, ParticipantNotFound, TrackNotFound
from track_server.quality.clock import Moment
from track_server.quality.core.assessment import Assessment
from track_server.quality.live.flows import Context
from track_server.quality.live.reports import Selection
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.rooms.room import LiveRoom

TRACKS = {"bob": ["TR_v2", "TR_a1"], "alice": ["TR_v1", "TR_d1"], "carol": []}


def assessed(room: LiveRoom) -> RoomAssessment:
    return RoomAssessment(room, Assessment(), Context())


def reports_of(
    room: LiveRoom, assessment: RoomAssessment | None = None, *, later_s: float = 0.0
) -> dict[str, TrackQualityReport]:
    assessment = assessment or assessed(room)
    stamps = [quality.measure_time for quality in room.model.qualities.values()]
    rated_s = max((stamp.ToNanoseconds() / 1e9 for stamp in stamps), default=0.0)
    now = Moment(rated_s + later_s, 3.0)
    return {track.sid: assessment.report(track, [5.0], now) for track in room.model.tracks.values()}


def measure(assessment: RoomAssessment, sid: str, identity: str) -> list[bool]:
    """A microphone that a hosted session tells of for three seconds; says whether that was taken."""
    return [
        assessment.record(identity, hosted(second, [audio(second)], sid=sid), Moment(EPOCH + second, second))
        for second in range(3)
    ]


async def test_a_track_that_nobody_measured_has_no_samples() -> None:
    report = reports_of(live_room(TRACKS))["TR_a1"]
    assert list(report.samples) == []
    assert (report.participant_identity, report.type, report.muted) == ("bob", TRACK_TYPE_AUDIO, False)


async def test_livekits_score_stands_at_each_media_track_of_its_publisher_and_at_no_data_track() -> None:
    room = live_room(TRACKS)
    rate(room, "alice", models.ConnectionQuality.GOOD, 3.9)
    reports = reports_of(room, later_s=2.0)
    (sample,) = reports["TR_v1"].samples
    assert sample.source == QUALITY_SOURCE_SFU_SCORE
    assert sample.connection_quality == CONNECTION_QUALITY_GOOD
    assert sample.score == pytest.approx(3.9)
    assert sample.age.ToNanoseconds() / 1e9 == pytest.approx(2.0, abs=1e-3)
    assert not sample.HasField("window")
    assert [list(reports[sid].samples) for sid in ("TR_d1", "TR_a1", "TR_v2")] == [[], [], []]


async def test_an_age_is_never_negative() -> None:
    room = live_room(TRACKS)
    rate(room, "alice", models.ConnectionQuality.GOOD, 3.9)
    assert reports_of(room, later_s=-5.0)["TR_v1"].samples[0].age.ToNanoseconds() == 0


async def test_a_level_without_a_score_has_no_score_and_nothing_at_all_is_no_sample() -> None:
    room = live_room(TRACKS)
    rate(room, "alice", models.ConnectionQuality.LOST, 0.0)
    assert not reports_of(room)["TR_v1"].samples[0].HasField("score")
    room.model.qualities["alice"].connection_quality = CONNECTION_QUALITY_UNSPECIFIED
    assert list(reports_of(room)["TR_v1"].samples) == []


async def test_a_hosted_track_has_its_publishers_statistics_beside_the_score() -> None:
    room = live_room(TRACKS)
    bind(room, "TR_a1", "PUB_1")
    rate(room, "bob", models.ConnectionQuality.GOOD, 3.9)
    assessment = assessed(room)
    assert all(measure(assessment, "TR_a1", "bob"))
    report = reports_of(room, assessment)["TR_a1"]
    assert report.publication_id == "PUB_1"
    assert [sample.source for sample in report.samples] == [QUALITY_SOURCE_PUBLISHER_STATS, QUALITY_SOURCE_SFU_SCORE]
    assert report.samples[0].bitrate_bps == 40_000
    assert report.samples[0].age.ToNanoseconds() == 1_000_000_000
    (measurement,) = report.measurements
    assert (measurement.hop, measurement.participant_identity) == (QUALITY_HOP_UPLINK, "bob")
    assert measurement.bitrate_bps.value == 40_000
    assert measurement.bitrate_bps.source == QUALITY_SOURCE_PUBLISHER_STATS
    assert measurement.bitrate_bps.age.seconds == 1
    assert measurement.sfu_score.value == pytest.approx(3.9)
    assert measurement.sfu_score.source == QUALITY_SOURCE_SFU_SCORE


async def test_statistics_of_an_earlier_sid_and_of_others_tracks_are_not_taken() -> None:
    room = live_room(TRACKS)
    assessment = assessed(room)
    for sid, identity in (("TR_old", "bob"), ("TR_a1", "alice"), ("TR_d1", "alice")):
        assert not any(measure(assessment, sid, identity))
    reports = reports_of(room, assessment)
    assert [list(report.samples) + list(report.measurements) for report in reports.values()] == [[]] * 4


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), {"TR_a1", "TR_d1", "TR_v1", "TR_v2"}),
        (Selection("alice"), {"TR_d1", "TR_v1"}),
        (Selection("carol"), set()),
        (Selection("", frozenset({"TR_a1", "TR_v1"})), {"TR_a1", "TR_v1"}),
        (Selection("bob", frozenset({"TR_a1"})), {"TR_a1"}),
    ],
)
async def test_a_selection_holds_what_it_names(selection: Selection, chosen: set[str]) -> None:
    model = live_room(TRACKS).model
    selection.require(model)
    assert {track.sid for track in model.tracks.values() if selection.holds(track)} == chosen


@pytest.mark.parametrize(
    ("selection", "error", "field"),
    [
        (Selection("mallory"), ParticipantNotFound, "participant_identity"),
        (Selection("", frozenset({"TR_a1", "TR_none"})), TrackNotFound, "track_sids"),
        (Selection("alice", frozenset({"TR_a1"})), TrackNotFound, "track_sids"),
    ],
)
async def test_what_is_not_there_is_named(selection: Selection, error: type[NotFound], field: str) -> None:
    with pytest.raises(error) as caught:
        selection.require(live_room(TRACKS).model)
    assert caught.value.field == field
