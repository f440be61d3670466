"""What `only_changes` counts as a change."""

from collections.abc import Callable

import pytest

from track.v1 import quality_alert_pb2 as alerts
from track.v1 import quality_pb2 as pb
from track.v1.track_pb2 import Track
from track_server.quality.streaming.sheet import Entry, standing


def video() -> pb.TrackQualityReport:
    """A video that one subscriber receives well."""
    report = pb.TrackQualityReport(track_sid="TR_v1", participant_identity="alice")
    report.samples.add(source=pb.QUALITY_SOURCE_PUBLISHER_STATS, rtt_ms=20)
    report.samples.add(
        source=pb.QUALITY_SOURCE_SFU_SCORE, connection_quality=pb.CONNECTION_QUALITY_EXCELLENT, score=4.5
    )
    for hop, identity in ((alerts.QUALITY_HOP_UPLINK, "alice"), (alerts.QUALITY_HOP_DOWNLINK, "bob")):
        found = report.measurements.add(hop=hop, participant_identity=identity, level=pb.QUALITY_LEVEL_GOOD)
        found.width.value, found.height.value = 1280, 720
        found.rtt_ms.value = 20
        found.limitation = pb.QUALITY_LIMITATION_NONE
    report.alerts.add(alert_id="QA_1", fault=alerts.QUALITY_FAULT_UNKNOWN)
    return report


def change(path: str, value: object) -> Callable[[pb.TrackQualityReport], None]:
    """Sets what is at the path."""

    def apply(report: pb.TrackQualityReport) -> None:
        *steps, last = path.split(".")
        found: object = report
        for step in steps:
            found = found[int(step)] if step.isdigit() else getattr(found, step)  # type: ignore[index]
        setattr(found, last, value)

    return apply


CHANGES: dict[str, Callable[[pb.TrackQualityReport], object]] = {
    "muted": change("muted", True),
    "another level of the uplink": change("measurements.0.level", pb.QUALITY_LEVEL_POOR),
    "another level of a downlink": change("measurements.1.level", pb.QUALITY_LEVEL_POOR),
    "no level any more": change("measurements.1.level", pb.QUALITY_LEVEL_UNSPECIFIED),
    "another width": change("measurements.0.width.value", 640),
    "another height": change("measurements.1.height.value", 360),
    "another limitation": change("measurements.0.limitation", pb.QUALITY_LIMITATION_CPU),
    "another fault": change("alerts.0.fault", alerts.QUALITY_FAULT_DEVICE),
    "an alert began": lambda report: report.alerts.add(alert_id="QA_2"),
    "an alert is no more": lambda report: report.alerts.pop(),
    "a subscriber ceased to be measured": lambda report: report.measurements.pop(),
    "a subscriber began to be measured": lambda report: report.measurements.add(
        hop=alerts.QUALITY_HOP_DOWNLINK, participant_identity="carol"
    ),
    "another source": lambda report: report.samples.add(source=pb.QUALITY_SOURCE_COMPANION),
}

NO_CHANGES: dict[str, Callable[[pb.TrackQualityReport], object]] = {
    "another round trip": change("measurements.0.rtt_ms.value", 90),
    "another number of a source": change("samples.0.rtt_ms", 90),
    "an older number": change("measurements.0.rtt_ms.age.nanos", 5),
    "another score": change("measurements.0.video_index", 3.3),
    "LiveKit's level, where the uplink has one": change("samples.1.connection_quality", pb.CONNECTION_QUALITY_POOR),
    "other evidence": change("alerts.0.evidence.value", 7.0),
    "attainment": change("attainment.within.seconds", 9),
    "a longer window": lambda report: report.measurements.add(
        hop=alerts.QUALITY_HOP_UPLINK, participant_identity="alice", level=pb.QUALITY_LEVEL_GOOD
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_told(what: str) -> None:
    report = video()
    CHANGES[what](report)
    assert standing(report) != standing(video())


@pytest.mark.parametrize("what", NO_CHANGES)
def test_numbers_that_moved_are_no_change(what: str) -> None:
    report = video()
    NO_CHANGES[what](report)
    assert standing(report) == standing(video())


def test_livekits_level_counts_where_nobody_else_rates_the_uplink() -> None:
    before, after = video(), video()
    for report in (before, after):
        report.measurements[0].level = pb.QUALITY_LEVEL_UNSPECIFIED
    after.samples[1].connection_quality = pb.CONNECTION_QUALITY_POOR
    assert standing(before) != standing(after)
    after.samples[1].connection_quality = pb.CONNECTION_QUALITY_EXCELLENT
    after.samples[1].score = 4.1
    assert standing(before) == standing(after)


def test_an_alert_that_ended_stands_in_the_place_of_the_one_that_was_on() -> None:
    report = video()
    report.alerts[0].start_time.seconds = 5
    over = alerts.QualityAlert(alert_id="QA_1")
    over.start_time.seconds, over.end_time.seconds = 5, 9
    earlier = alerts.QualityAlert(alert_id="QA_0")
    earlier.start_time.seconds, earlier.end_time.seconds = 1, 2
    told = Entry(Track(), report).with_ends([over, earlier])
    assert list(told.alerts) == [earlier, over]
    assert len(report.alerts) == 1
    assert not report.alerts[0].HasField("end_time"), "the report itself stays as it was"
