"""What counts as media that really flowed."""

from dataclasses import replace
from typing import Any

import pytest

from track.v1.event_pb2 import RoomEvent, WatchEventsResponse
from track.v1.publication_pb2 import Publication, PublicationSid, PublicationSpec
from track.v1.quality_pb2 import QualitySample, StreamQualityReportsResponse, TrackQualityReport
from track.v1.track_pb2 import Track
from track_server.demo.board import Board
from track_server.demo.programme import FILM_AUDIO, FILM_VIDEO, NAMES, PATTERN, READINGS, TONE
from track_server.demo.reception import Reception
from track_server.demo.verdict import checks, flow, flowing

_NOW_S = 1_800_000_000.0
_SPAN_S = 10.0
_GOOD = {
    PATTERN: Reception(PATTERN, "video", frames=300, clocks_read=300, clock_ms=int(_NOW_S * 1000), moved=300),
    TONE: Reception(TONE, "audio", frames=1000, frequency_hz=441, level_dbfs=-20),
    FILM_VIDEO: Reception(FILM_VIDEO, "video", frames=150, moved=140),
    FILM_AUDIO: Reception(FILM_AUDIO, "audio", frames=1000, frequency_hz=330, level_dbfs=-17),
    READINGS: Reception(READINGS, "data", frames=200, lost=3),
}
"""By name; a track's SID is its name here."""


def _board(**changes: Any) -> Board:
    """A board after a good span; ``changes``: values of the reception of a track, or None for none at all."""
    board = Board()
    for name in NAMES:
        spec = PublicationSpec(name=name)
        publication = Publication(
            publication_id=name, spec=spec, lineage=[PublicationSid(track_sid=name)], track_sid=name
        )
        board.hear_publication(publication)
        board.hear_event(WatchEventsResponse(event=RoomEvent(track_published=Track(sid=name, name=name))))
    reports = [TrackQualityReport(track_sid=name, samples=[QualitySample(bitrate_bps=1)]) for name in NAMES]
    board.hear_reports(StreamQualityReportsResponse(reports=reports))
    receptions = []
    for name, good in _GOOD.items():
        change = changes.get(name, {})
        if change is not None:
            receptions.append(replace(good, **{"last_frame_time": _NOW_S - 0.1, **change}))
    board.hear_viewer(receptions)
    return board


def _failed(board: Board) -> list[str]:
    before = {PATTERN: Reception(PATTERN, "video", clock_ms=int((_NOW_S - _SPAN_S) * 1000))}
    flows = {name: flow(board, name, before, _SPAN_S) for name in NAMES}
    return [check.name for check in checks(board, flows, _NOW_S) if not check.holds]


def test_a_good_span_holds_in_all() -> None:
    assert flowing(_board())
    assert _failed(_board()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [None, {"frames": 0}, {"last_frame_time": _NOW_S - 5}])
def test_a_track_that_brings_nothing_or_nothing_any_more_fails(name: str, change: dict[str, Any] | None) -> None:
    assert _failed(_board(**{name: change})) == [name]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (PATTERN, {"clocks_read": 100}),
        (PATTERN, {"clock_ms": int((_NOW_S - _SPAN_S) * 1000) + 500}),
        (PATTERN, {"clocks_backwards": 1}),
        (TONE, {"frequency_hz": 880}),
        (TONE, {"frequency_hz": None, "level_dbfs": None}),
        (TONE, {"level_dbfs": -70}),
        (FILM_VIDEO, {"moved": 0}),
        (FILM_AUDIO, {"level_dbfs": None, "frequency_hz": None}),
        (READINGS, {"disordered": 1}),
        (READINGS, {"lost": 500}),
    ],
)
def test_what_is_received_must_be_what_was_sent(name: str, change: dict[str, Any]) -> None:
    assert _failed(_board(**{name: change})) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_media_flows_when_the_last_track_does(name: str) -> None:
    assert not flowing(_board(**{name: None}))
    assert not flowing(_board(**{name: {"frames": 0}}))


def test_a_track_of_which_no_report_tells_anything_fails() -> None:
    board = _board()
    board.reports_measured.pop(TONE)
    assert _failed(board) == ["quality reports"]


def test_events_that_are_missing_fail() -> None:
    board = _board()
    board.kinds["track_published"] = 4
    assert _failed(board) == ["events"]


def test_a_problem_fails() -> None:
    board = _board()
    board.problems.append("something could not be published")
    assert _failed(board) == ["no failure"]


def test_what_came_under_several_sids_is_added_up() -> None:
    board = _board()
    publication = Publication(publication_id=READINGS, spec=PublicationSpec(name=READINGS))
    publication.lineage.extend([PublicationSid(track_sid="first"), PublicationSid(track_sid="second")])
    board.hear_event(WatchEventsResponse(event=RoomEvent(publication_moved=publication)))
    board.hear_viewer([Reception("first", "data", frames=50, lost=1), Reception("second", "data", frames=30, lost=2)])
    got = flow(board, READINGS, {"first": Reception("first", "data", frames=20, lost=1)}, _SPAN_S)
    assert (got.frames, got.lost, got.frames_per_second) == (60, 2, 6.0)
