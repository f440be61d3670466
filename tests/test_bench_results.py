"""The file of the benches' figures: a part replaces its own, and each figure tells when it was measured."""

import json
from pathlib import Path
from typing import Any

from bench.figures import Figure, told, write


def kept(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["figures"]
    return found


def figure(name: str, value: float = 1.0) -> Figure:
    return told(name, value, "s", "as told")


def test_a_part_replaces_its_own_figures_and_leaves_others_with_their_time(tmp_path: Path) -> None:
    path, order = tmp_path / "results.json", ["mutes", "joins"]
    write({"joins": [figure("a join"), figure("another")], "mutes": [figure("a mute")]}, order, path)
    assert [each["figure"] for each in kept(path)] == ["a mute", "a join", "another"]
    for each in kept(path):
        assert each["time"]
    document = json.loads(path.read_text())
    for each in document["figures"]:
        each["time"] = "2020-01-01T00:00:00+00:00"
    path.write_text(json.dumps(document))
    write({"joins": [figure("a join", 2.0)]}, order, path)
    mute, join = kept(path)
    assert (mute["measure"], mute["time"]) == ("mutes", "2020-01-01T00:00:00+00:00")
    assert (join["measure"], join["value"]) == ("joins", 2.0)
    assert join["time"] > mute["time"]


def test_what_is_not_measured_any_more_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write({"old": [figure("gone")], "mutes": [figure("a mute")]}, ["old", "mutes"], path)
    write({}, ["mutes"], path)
    assert [each["figure"] for each in kept(path)] == ["a mute"]
