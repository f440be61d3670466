"""What is measured, as a file and as a table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

RESULTS: Final = Path(__file__).resolve().parent / "results.json"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    ``goal``: what is to be reached, such as ">= 0.8"; None where a value is only told. ``holds``: whether it was
    reached; None without a goal. ``note``: how it was measured, and its spread.
    """

    figure: str
    value: float
    unit: str
    goal: str | None
    holds: bool | None
    note: str


def at_least(figure: str, value: float, unit: str, goal: float, note: str) -> Figure:
    """A figure that is to be ``goal`` or more."""
    return Figure(figure, round(value, 4), unit, f">= {goal:g}", value >= goal, note)


def at_most(figure: str, value: float, unit: str, goal: float, note: str) -> Figure:
    """A figure that is to be ``goal`` or less."""
    return Figure(figure, round(value, 4), unit, f"<= {goal:.3g}", value <= goal, note)


def told(figure: str, value: float, unit: str, note: str) -> Figure:
    """A figure without a goal."""
    return Figure(figure, round(value, 4), unit, None, None, note)


def write(measured: Mapping[str, Sequence[Figure]], order: Sequence[str], path: Path) -> None:
    """Writes what was measured now as JSON, by the name of its measure, each figure with the measure and the time.

    Figures of measures that were left out stay as they were, with their own times; those of measures that are not in
    ``order`` are dropped.
    """
    time = datetime.now(UTC).isoformat(timespec="seconds")
    known = json.loads(path.read_text())["figures"] if path.exists() else []
    kept = [each for each in known if each["measure"] in order and each["measure"] not in measured]
    new = [{"measure": name, "time": time, **asdict(each)} for name, figures in measured.items() for each in figures]
    document = {"figures": sorted([*kept, *new], key=lambda each: order.index(each["measure"]))}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def show(figures: Sequence[Figure], console: Console) -> None:
    """Prints the figures as a table."""
    table = Table("figure", "value", "unit", "goal", "holds", "note", show_lines=True)
    marks = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}
    for figure in figures:
        table.add_row(
            figure.figure, f"{figure.value:g}", figure.unit, figure.goal or "", marks[figure.holds], figure.note
        )
    console.print(table)
