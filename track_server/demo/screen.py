"""The live screen: what the board knows, drawn to fit the terminal."""

import enum
import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from track.v1.publication_pb2 import PublicationState
from track.v1.quality_pb2 import ConnectionQuality, LayerSample, QualitySource
from track_server.demo.board import Board, EventLine, Row
from track_server.demo.introduction import Introduction
from track_server.demo.wording import (
    ABSENT,
    age_s,
    bitrate,
    measured,
    number,
    quality_word,
    sample_of,
    shape,
    size,
    source_word,
    state_word,
    type_word,
)

_WIDE: Final = 140
_NARROW: Final = 98
"""From so many columns on there is room for more, and below so many for less."""
_TALL: Final = 40
_LOW: Final = 28
"""The same in lines."""
_FRAME_ROWS: Final = 3
"""Of a panel with a table: two borders and the head."""
_LEAST_EVENTS: Final = 5

_STATE_STYLES: Final = {
    PublicationState.PUBLICATION_STATE_LIVE: "green",
    PublicationState.PUBLICATION_STATE_ENDED: "red",
}
_QUALITY_STYLES: Final = {
    ConnectionQuality.CONNECTION_QUALITY_EXCELLENT: "green",
    ConnectionQuality.CONNECTION_QUALITY_GOOD: "green",
    ConnectionQuality.CONNECTION_QUALITY_POOR: "yellow",
    ConnectionQuality.CONNECTION_QUALITY_LOST: "red",
}
_EVENT_STYLES: Final = {
    "track_published": "green",
    "participant_joined": "green",
    "track_unmuted": "green",
    "track_unpublished": "red",
    "participant_left": "red",
    "room_closed": "red",
    "problem": "bold red",
    "track_muted": "yellow",
    "quality_changed": "magenta",
    "publication_moved": "cyan",
    "subscribed": "blue",
    "flowing": "bold green",
}


class Extent(enum.IntEnum):
    """How many columns a table may have."""

    NARROW = 0
    USUAL = 1
    WIDE = 2


class Screen:
    """The terminal, for as long as the context lasts; then it is as it was before."""

    def __init__(self, console: Console, board: Board, introduction: Introduction, status: Callable[[], str]) -> None:
        """``status``: what goes on now, in a few words."""
        self._console = console
        self._board = board
        self._introduction = introduction
        self._status = status
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self) -> None:
        """Draw what is known now."""
        self._live.update(self.picture(), refresh=True)

    def picture(self) -> RenderableType:
        """What is drawn, for the console's size."""
        width, height = self._console.size
        extent = Extent.WIDE if width >= _WIDE else Extent.NARROW if width < _NARROW else Extent.USUAL
        rows = self._board.rows()
        calls = self._calls(width - 1, height)
        spare = height - 1 - len(calls) - 2 * _FRAME_ROWS - _LEAST_EVENTS
        shown = rows[: max(1, spare // 2)]
        panel_rows = max(1, len(shown)) + _FRAME_ROWS
        more = f"  and {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
        layout = Layout()
        layout.split_column(
            Layout(self._head(), size=1),
            Layout(
                _panel(f"Tracks of the room, and what the viewer receives{more}", tracks(shown, extent)),
                size=panel_rows,
            ),
            Layout(
                _panel(
                    "Quality reports",
                    qualities(shown, extent),
                    f"loss to age: PUBLISHER_STATS · SFU to told: SFU_SCORE · {ABSENT} not measured",
                ),
                size=panel_rows,
            ),
            Layout(self._events(height - 1 - len(calls) - 2 * panel_rows - 2)),
            # A size of 0 would mean any.
            *([Layout(Group(*calls), size=len(calls))] if calls else []),
        )
        return layout

    def _head(self) -> RenderableType:
        line = Table.grid(expand=True)
        line.add_column()
        line.add_column(justify="right")
        title = Text.assemble((" TrackService ", "bold black on cyan"), " ", (self._status(), "bold"))
        about = f"LiveKit {self._board.info.livekit.version or ABSENT} · {self._introduction.address} · "
        about = about if self._console.width >= _NARROW else ""
        line.add_row(title, Text.assemble((about, "dim"), ("Ctrl-C ends ", "bold")))
        return line

    def _events(self, count: int) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, width=19)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for line in list(self._board.lines)[-max(1, count) :]:
            table.add_row(*event_cells(line))
        return _panel("Events", table)

    def _calls(self, width: int, height: int) -> list[Text]:
        if height < _LOW:
            return []
        shown = self._introduction.calls(self._board, width)[: 3 if height >= _TALL else 1]
        lines = [Text(" Call it from another terminal:", "bold")]
        for call in shown:
            lines += [Text(f" {line}", "cyan", no_wrap=True, overflow="ignore") for line in call.splitlines()]
        return lines


def event_cells(line: EventLine) -> tuple[Text, Text, Text]:
    """Time of day, kind and text of an event."""
    moment = time.strftime("%H:%M:%S", time.localtime(line.time_s))
    return (
        Text(f"{moment}.{int(line.time_s * 1000) % 1000:03d}", "dim"),
        Text(line.kind, _EVENT_STYLES.get(line.kind, "white")),
        Text(line.text),
    )


def tracks(rows: Sequence[Row], extent: Extent) -> Table:
    """The tracks, and what the viewer receives of them."""
    table = _table(("track", "left"), ("type", "left"), ("published as", "left"), ("state", "left"))
    received = ["received", "fps", "delay" if extent == Extent.NARROW else "latency", "frames"] + (
        ["bitrate", "lost", "level"] if extent == Extent.WIDE else []
    )
    for heading in received:
        table.add_column(Text(heading, "bold"), justify="right", no_wrap=True)
    for row in rows:
        got = row.reception
        what = ABSENT
        if got is not None:
            what = size(got.width, got.height) if got.kind == "video" else number(got.frequency_hz, 0, " Hz")
        cells = [
            Text(f"{row.identity}/{row.name}", "bold"),
            Text(_kind(row, extent)),
            Text(shape(row.track) if row.track is not None else ABSENT),
            _state(row),
            Text(what),
            Text(number(got.frames_per_second if got else None)),
            Text(number(got.latency_ms if got else None, 0, " ms"), "cyan"),
            Text(number(got.frames if got else None), "green" if got and got.frames else "dim"),
        ]
        if extent == Extent.WIDE:
            cells += [
                Text(bitrate(got.bitrate_bps if got else None)),
                Text(number(got.lost if got else None)),
                Text(number(got.level_dbfs if got else None, 0, " dBFS")),
            ]
        table.add_row(*cells)
    return table


def qualities(rows: Sequence[Row], extent: Extent) -> Table:
    """The newest quality report of each track."""
    table = _table(("track", "left"))
    headings = ["loss", "jitter", "RTT", "bitrate", "fps", "sent", "age", "SFU", "score", "told"]
    narrow = extent == Extent.NARROW
    for heading in headings:
        if not (narrow and heading in _WHERE_ROOM_IS):
            table.add_column(Text(heading, "bold"), justify="right", no_wrap=True)
    if extent == Extent.WIDE:
        table.add_column(Text("layers sent", "bold"), no_wrap=True, ratio=1, overflow="ellipsis")
    for row in rows:
        cells = _quality_cells(row)
        if narrow:
            cells = [cell for heading, cell in zip(headings, cells, strict=True) if heading not in _WHERE_ROOM_IS]
        if extent == Extent.WIDE:
            stats = sample_of(row.report, QualitySource.QUALITY_SOURCE_PUBLISHER_STATS)
            cells.append(Text("  ".join(map(_layer, stats.layers if stats is not None else ())) or ABSENT, "dim"))
        table.add_row(Text(f"{row.identity}/{row.name}", "bold"), *cells)
    return table


_WHERE_ROOM_IS: Final = frozenset({"sent", "told"})


def _quality_cells(row: Row) -> list[Text]:
    stats = sample_of(row.report, QualitySource.QUALITY_SOURCE_PUBLISHER_STATS)
    sfu = sample_of(row.report, QualitySource.QUALITY_SOURCE_SFU_SCORE)
    width, height = measured(stats, "width"), measured(stats, "height")
    level = sfu.connection_quality if sfu is not None else ConnectionQuality.CONNECTION_QUALITY_UNSPECIFIED
    return [
        Text(number(measured(stats, "loss_percent"), 1, " %")),
        Text(number(measured(stats, "jitter_ms"), 1, " ms")),
        Text(number(measured(stats, "rtt_ms"), 1, " ms")),
        Text(bitrate(measured(stats, "bitrate_bps"))),
        Text(number(measured(stats, "frames_per_second"))),
        Text(size(int(width or 0), int(height or 0))),
        Text(number(age_s(stats), 1, " s"), "dim"),
        Text(quality_word(level), _QUALITY_STYLES.get(level, "")),
        Text(number(measured(sfu, "score"), 2)),
        Text(number(age_s(sfu), 0, " s"), "dim"),
    ]


def _layer(layer: LayerSample) -> str:
    height = layer.height if layer.HasField("height") else None
    fps = layer.frames_per_second if layer.HasField("frames_per_second") else None
    rate = layer.bitrate_bps if layer.HasField("bitrate_bps") else None
    return f"{layer.rid or 'one'} {number(height)}p{number(fps)} {bitrate(rate)}"


def _kind(row: Row, extent: Extent) -> str:
    if row.track is None:
        return ABSENT
    if extent == Extent.NARROW:
        return type_word(row.track)
    return f"{type_word(row.track)} {source_word(row.track)}".strip()


def _state(row: Row) -> Text:
    if row.publication is None:
        return Text("muted" if row.track is not None and row.track.muted else "there", "white")
    if row.publication.muted:
        return Text("muted", "yellow")
    return Text(state_word(row.publication), _STATE_STYLES.get(row.publication.state, "yellow"))


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True, header_style="bold")
    for heading, justify in columns:
        table.add_column(Text(heading, "bold"), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return table


def _panel(title: str, content: RenderableType, subtitle: str | None = None) -> Panel:
    return Panel(
        content,
        title=Text(title, "bold cyan"),
        title_align="left",
        subtitle=Text(subtitle, "dim") if subtitle else None,
        subtitle_align="right",
        border_style="bright_black",
        padding=(0, 1),
    )
