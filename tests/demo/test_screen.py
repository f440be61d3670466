"""The live screen, at any size."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from track.v1.event_pb2 import RoomEvent, WatchEventsResponse
from track.v1.publication_pb2 import Publication, PublicationSid, PublicationSpec, PublicationState
from track.v1.quality_pb2 import (
    ConnectionQuality,
    LayerSample,
    QualitySample,
    QualitySource,
    StreamQualityReportsResponse,
    TrackQualityReport,
)
from track.v1.track_pb2 import Track, TrackSource, TrackType, VideoLayer
from track_server.demo.board import Board
from track_server.demo.introduction import Introduction
from track_server.demo.programme import PATTERN
from track_server.demo.reception import Reception
from track_server.demo.screen import Screen

_SID = "TR_VCpattern"
_TOKEN = Path("/somewhere/track-demo-abcdefgh/token")
_INTRODUCTION = Introduction("127.0.0.1:50051", "ws://127.0.0.1:7880", _TOKEN, "grpcurl")


def _board(others: int = 0) -> Board:
    board = Board()
    publication = Publication(
        publication_id="PUB_1",
        participant_identity="camera",
        spec=PublicationSpec(name=PATTERN),
        state=PublicationState.PUBLICATION_STATE_LIVE,
        track_sid=_SID,
        lineage=[PublicationSid(track_sid=_SID)],
    )
    board.hear_publication(publication)
    tracks = [
        Track(
            sid=_SID,
            participant_identity="camera",
            name=PATTERN,
            type=TrackType.TRACK_TYPE_VIDEO,
            source=TrackSource.TRACK_SOURCE_CAMERA,
            mime_type="video/VP8",
            width=1280,
            height=720,
            layers=[VideoLayer(), VideoLayer(), VideoLayer()],
        )
    ]
    tracks += [Track(sid=f"TR_{n}", participant_identity=f"other-{n}", name="[bold]") for n in range(others)]
    for track in tracks:
        board.hear_event(WatchEventsResponse(event=RoomEvent(track_published=track)))
    return board


def _drawn(board: Board, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    screen = Screen(console, board, _INTRODUCTION, lambda: "media flows")
    with console.capture() as capture:
        console.print(screen.picture())
    return capture.get().rstrip("\n").splitlines()


@pytest.mark.parametrize("width", [40, 80, 100, 160])
@pytest.mark.parametrize("height", [10, 24, 30, 45])
@pytest.mark.parametrize("others", [0, 50])
def test_it_fits_any_terminal(width: int, height: int, others: int) -> None:
    lines = _drawn(_board(others), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def _row(lines: list[str], panel: int) -> list[str]:
    """The words of the pattern's row in that panel."""
    found = [line for line in lines if line.startswith(f"│ camera/{PATTERN}")]
    return found[panel].strip("│ ").split()


def test_what_was_not_measured_is_a_dash_and_never_0() -> None:
    lines = _drawn(_board(), 100, 30)
    received = _row(lines, 0)
    assert received[-4:] == ["–"] * 4, "nothing was received"  # noqa: RUF001
    assert received[-5] == "live"
    assert _row(lines, 1)[1:] == ["–"] * 10, "nothing was measured"  # noqa: RUF001


def test_what_was_measured_is_shown_with_its_unit_also_where_it_is_0() -> None:
    board = _board()
    stats = QualitySample(
        source=QualitySource.QUALITY_SOURCE_PUBLISHER_STATS,
        loss_percent=0.0,
        jitter_ms=1.26,
        bitrate_bps=1_940_000,
        frames_per_second=29.7,
        width=1280,
        height=720,
        layers=[LayerSample(rid="q", height=180, bitrate_bps=120_000)],
    )
    stats.age.FromMilliseconds(340)
    sfu = QualitySample(
        source=QualitySource.QUALITY_SOURCE_SFU_SCORE,
        connection_quality=ConnectionQuality.CONNECTION_QUALITY_EXCELLENT,
        score=4.5,
    )
    report = TrackQualityReport(track_sid=_SID, samples=[stats, sfu])
    board.hear_reports(StreamQualityReportsResponse(reports=[report]))
    got = Reception(_SID, "video", frames=1234, frames_per_second=29.9, width=640, height=360, latency_ms=32.4)
    board.hear_viewer([got])
    lines = _drawn(board, 100, 30)
    assert " ".join(_row(lines, 0)[-5:]) == "640×360 30 32 ms 1,234"  # noqa: RUF001
    shown = " ".join(_row(lines, 1)[1:])
    assert shown == "0.0 % 1.3 ms – 1.94 Mbit/s 30 1280×720 0.3 s excellent 4.50 –"  # noqa: RUF001
    assert any("q 180p– 120 kbit/s" in line for line in _drawn(board, 160, 45))  # noqa: RUF001


def test_names_of_others_are_shown_as_they_are() -> None:
    assert any("other-0/[bold]" in line for line in _drawn(_board(1), 100, 30))


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_commands_fit_and_are_one_command_each(width: int) -> None:
    calls = _INTRODUCTION.calls(_board(), width)
    assert len(calls) == 3
    for call in calls:
        assert call.replace(" \\\n ", "").startswith('grpcurl -plaintext -H "authorization: Bearer $(cat ')
        assert _SID in call or "ListTracks" in call
        assert width < 100 or max(map(len, call.splitlines())) <= width
