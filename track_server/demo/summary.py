"""What flowed, at the end, and the lines where there is no terminal to draw on."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from track_server.demo.board import Board
from track_server.demo.screen import Extent, event_cells, qualities, tracks
from track_server.demo.verdict import Check, Flow
from track_server.demo.wording import ABSENT, bitrate, number, size, totals


class Lines:
    """Prints the board's events one by one, and now and then all of its tracks."""

    def __init__(self, console: Console, board: Board) -> None:
        self._console = console
        self._board = board
        self._printed = 0

    def draw(self) -> None:
        """Print the events that are new."""
        fresh = self._board.lines_ever - self._printed
        self._printed = self._board.lines_ever
        for line in list(self._board.lines)[-fresh:] if fresh else ():
            moment, kind, text = event_cells(line)
            self._console.print(Text.assemble(moment, "  ", f"{kind.plain:24} ", text), soft_wrap=True)

    def tables(self) -> None:
        """Print tracks and quality."""
        rows = self._board.rows()
        self._console.print()
        self._console.print(tracks(rows, Extent.WIDE))
        self._console.print()
        self._console.print(qualities(rows, Extent.WIDE))
        self._console.print()


def print_summary(
    console: Console, board: Board, flows: Sequence[Flow], checks: Sequence[Check], span_s: float, flowing: bool
) -> None:
    """What was received in ``span_s`` seconds, and whether it is what should have been.

    ``flowing``: the span began when media flowed on every track; else it is all of the time.
    """
    console.print()
    of = "of flowing media" if flowing else "without media on every track"
    console.print(Text(f"What the viewer received in {span_s:.1f} s {of}", "bold cyan"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("track")
    for heading in ("frames", "size", "fps", "bitrate", "lost", "loss", "latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    for got in flows:
        latest = got.latest
        table.add_row(
            Text(got.name, "bold"),
            number(got.frames),
            size(latest.width, latest.height) if latest else ABSENT,
            number(got.frames_per_second if got.frames else None, 1),
            bitrate(got.bitrate_bps if got.frames else None),
            number(got.lost),
            number(got.loss_percent, 2, " %"),
            number(latest.latency_ms if latest else None, 0, " ms"),
        )
    console.print(table)
    console.print()
    console.print(Text.assemble(("Events   ", "bold"), totals(board.kinds)), soft_wrap=True)
    console.print(Text.assemble(("Reports  ", "bold"), str(board.reports_received)))
    console.print()
    for check in checks:
        mark = ("  ok      ", "bold green") if check.holds else ("  FAILED  ", "bold red")
        console.print(Text.assemble(mark, (f"{check.name:16}", "bold"), check.detail), soft_wrap=True)
    console.print()
