"""The results as one page: tables, and a plot a run. Self-contained: no script, no other file. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

_WIDTH: Final = 520
_HEIGHT: Final = 150
_LEFT: Final = 46
_BOTTOM: Final = 18
_LANE: Final = 9
_WORDS: Final = 80
_TICK_S: Final = 20
_HOLDS: Final = {True: ("yes", "holds"), False: ("no", "missed"), None: ("", "")}
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #6b7482; --line: #d8dde4; --paper: #fff; --true: #9aa4b2;
  --told: #1f6feb; --alert: #d1570a; --phase: rgba(209, 87, 10, .10); --yes: #1a7f37; --no: #cf222e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #343b46; --paper: #14181e; --true: #6b7482; --told: #6cb0ff;
    --alert: #ff9a4d; --phase: rgba(255, 154, 77, .13); --yes: #56d364; --no: #ff7b72; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 1120px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.note { color: var(--soft); font-size: 12px; }
.yes { color: var(--yes); }
.no { color: var(--no); font-weight: 600; }
.runs { display: grid; grid-template-columns: repeat(auto-fill, minmax(500px, 1fr)); gap: 1rem 1.4rem; }
figure { margin: 0; }
figcaption { font-size: 13px; }
figcaption small { color: var(--soft); display: block; }
svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 10px; }
.axis { stroke: var(--line); }
.true { fill: none; stroke: var(--true); stroke-width: 3; }
.told { fill: none; stroke: var(--told); stroke-width: 1.4; }
.alert { fill: var(--alert); }
.phase { fill: var(--phase); }
.key { display: inline-block; width: 1.6em; height: 3px; vertical-align: middle; margin: 0 .3em 0 1em; }
"""


def page(document: Mapping[str, Any]) -> str:
    """HTML of what impairment.json holds."""
    machine = document["machine"]
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items())
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Impairment with known truth</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body>",
            "<h1>Impairment with known truth</h1>",
            f"<p>{escape(document['time'])}, seed {document['seed']}; {escape(told)}.</p>",
            *_figures(document["figures"]),
            *_courses(document["courses"]),
            *_runs(document["runs"]),
            *_left_out(document),
            "</body></html>\n",
        ]
    )


def _figures(figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    heads = "".join(f"<th>{head}</th>" for head in ("figure", "reached", "unit", "goal", "", "how"))
    yield f"<h2>Figures</h2><table><tr>{heads}</tr>"
    for each in figures:
        cells = (
            ("", escape(each["figure"])),
            ("n", f"{each['value']:g}"),
            ("", escape(each["unit"])),
            ("n", escape(each["goal"] or "")),
            _HOLDS[each["holds"]],
            ("note", escape(each["note"])),
        )
        yield f"<tr>{''.join(map(_cell, cells))}</tr>"
    yield "</table>"


def _courses(courses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not courses:
        return
    heads = ("policy", "sound made up", "full layer again", "what adaptation did, and when (0 s: the line is healed)")
    yield "<h2>Narrow downlink, with a policy and without</h2>"
    yield f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
    for each in sorted(courses, key=lambda course: not course["policy"]):
        full = "never" if each["full_s"] is None else f"{each['full_s']:.1f} s"
        cells = (
            ("", "yes" if each["policy"] else "no"),
            ("n", f"{each['concealed']:.2%}"),
            ("n", full + (", frozen" if each["frozen"] else "")),
            ("note", "<br>".join(escape(move) for move in each["moves"])),
        )
        yield f"<tr>{''.join(map(_cell, cells))}</tr>"
    yield "</table>"


def _cell(cell: tuple[str, str]) -> str:
    return f'<td class="{cell[0]}">{cell[1]}</td>'


def _runs(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield (
        '<h2>Runs</h2><p><span class="key" style="background: var(--true)"></span>lost over 5 s by the relay\'s count'
        '<span class="key" style="background: var(--told)"></span>as told'
        '<span class="key" style="background: var(--alert)"></span>alerts, as told'
        '<span class="key" style="background: var(--phase); height: 1em"></span>impaired</p><div class="runs">'
    )
    for run in runs:
        if not run["drawn"]:
            continue
        said = run["livekit_said"]
        beside = f"LiveKit said {' and '.join(said)}; " if said else ""
        tuned = "thresholds were set on it; " if run["tuned"] else ""
        load = run["load"]
        yield (
            f"<figure>{_plot(run['drawn'])}<figcaption>{escape(run['name'])}<small>{escape(tuned + beside)}"
            f"{run['drawn']['kind']}, {load['busy']:.0%} busy, {load['steal']:.1%} stolen</small></figcaption></figure>"
        )
    yield "</div>"


def _plot(drawn: Mapping[str, Any]) -> str:
    """Percent over seconds, alerts as bars above."""
    alerts = drawn["alerts"]
    kinds = sorted({kind for kind, _, _ in alerts})
    points = [*drawn["true"], *drawn["told"]]
    end_s: float = max([at_s for at_s, _ in points] + [end for _, end in drawn["phases"]], default=1.0)
    most: float = max([value for _, value in points] + [2.0]) * 1.08
    top = 4 + _LANE * len(kinds)

    def x(at_s: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 4) * min(at_s, end_s) / end_s, 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - top) * value / most, 1)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for begin, end in drawn["phases"]:
        parts.append(
            f'<rect class="phase" x="{x(begin)}" y="{top}" width="{round(x(end) - x(begin), 1)}"'
            f' height="{_HEIGHT - _BOTTOM - top}"/>'
        )
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - 4}" y2="{base}"/>')
    parts += [
        f'<text x="{x(at_s)}" y="{_HEIGHT - 5}" text-anchor="middle">{at_s} s</text>'
        for at_s in range(0, int(end_s) + 1, _TICK_S)
    ]
    parts += [
        f'<text x="{_LEFT - 4}" y="{y(value) + 3}" text-anchor="end">{value:.3g} %</text>'
        for value in (0.0, most / 1.08)
    ]
    for name in ("true", "told"):
        line = " ".join(f"{x(at_s)},{y(value)}" for at_s, value in drawn[name])
        if line:
            parts.append(f'<polyline class="{name}" points="{line}"/>')
    bars: dict[str, tuple[float, float]] = {}
    for kind, begin, end in alerts:
        lane = 4 + _LANE * kinds.index(kind)
        last = x(end_s) if end is None else x(end)
        words = kind.replace("_", " ")
        before = bars.get(kind, (x(begin), last))
        bars[kind] = min(before[0], x(begin)), max(before[1], last)
        parts.append(
            f'<rect class="alert" x="{x(begin)}" y="{lane}" width="{max(1.5, round(last - x(begin), 1))}" height="4">'
            f"<title>{words}</title></rect>"
        )
    for number, kind in enumerate(kinds):
        first, last = bars[kind]
        # Before the first bar where there is room, else after the last.
        at, anchor = (first - 3, "end") if first > _LEFT + _WORDS else (min(last + 3, _WIDTH - _WORDS), "start")
        words = kind.replace("_", " ")
        parts.append(f'<text x="{at}" y="{9 + _LANE * number}" text-anchor="{anchor}">{words}</text>')
    return "".join([*parts, "</svg>"])


def _left_out(document: Mapping[str, Any]) -> Iterator[str]:
    for title, names in (("Runs that broke", document["failed"]), ("No time was left for", document["skipped"])):
        if names:
            yield f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(name)}</li>' for name in names)}</ul>"
