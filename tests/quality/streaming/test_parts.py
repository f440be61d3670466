"""Messages put together of pieces: what a reader decodes is what was put in."""

from hypothesis import given
from hypothesis import strategies as st

from track.v1.quality_alert_pb2 import QualityAlert
from track.v1.quality_pb2 import StreamQualityReportsResponse, TrackQualityReport
from track_server.quality.streaming.parts import PART_BYTES, ended_piece, gone_piece, put_together, report_piece

texts = st.text(max_size=300)


@given(st.lists(texts), st.lists(texts), st.lists(texts))
def test_what_is_put_in_comes_out(reports: list[str], gone: list[str], ended: list[str]) -> None:
    expected = StreamQualityReportsResponse(
        reports=[TrackQualityReport(track_sid=sid) for sid in reports],
        gone_track_sids=gone,
        ended_alerts=[QualityAlert(alert_id=alert_id) for alert_id in ended],
        cursor="after",
        resync=True,
    )
    pieces = [report_piece(report.SerializeToString()) for report in expected.reports]
    pieces += [gone_piece(sid) for sid in gone]
    pieces += [ended_piece(alert.SerializeToString()) for alert in expected.ended_alerts]
    (message,) = put_together(StreamQualityReportsResponse(resync=True), "before", "after", pieces)
    assert StreamQualityReportsResponse.FromString(message) == expected


def test_no_part_is_larger_than_it_may_be_but_for_a_single_report() -> None:
    sizes = [PART_BYTES // 2, PART_BYTES // 3, PART_BYTES // 3, 3 * PART_BYTES, 10]
    pieces = [report_piece(TrackQualityReport(track_sid="x" * size).SerializeToString()) for size in sizes]
    parts = put_together(StreamQualityReportsResponse(), "before", "after", pieces)
    messages = [StreamQualityReportsResponse.FromString(part) for part in parts]
    told = [[len(report.track_sid) for report in message.reports] for message in messages]
    assert told == [sizes[:2], sizes[2:3], sizes[3:4], sizes[4:]]
    assert [(message.more, message.cursor) for message in messages] == [(True, "before")] * 3 + [(False, "after")]


def test_nothing_is_one_message() -> None:
    (message,) = put_together(StreamQualityReportsResponse(), "", "after", [])
    assert StreamQualityReportsResponse.FromString(message) == StreamQualityReportsResponse(cursor="after")
