"""What `make fuzz` runs, on the inputs that it begins with and on those that once were findings."""

import importlib
import json
from pathlib import Path

import pytest

from fuzz.__main__ import TARGETS
from fuzz.target import Target, choice, chosen


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_holds_on_its_seeds(name: str) -> None:
    target: Target = importlib.import_module(f"fuzz.{name}").target()
    seeds = list(target.seeds())
    assert len(seeds) >= 5
    for seed in (b"", b"\x00", *seeds, *(seed[: len(seed) // 2] for seed in seeds)):
        target.run(seed)


@pytest.mark.parametrize(
    ("name", "way", "found"),
    [
        ("texts", 0, b"0123456789ab-17\n"),
        ("outside", 6, b"\x01wss://ears.example/in?token=secret"),
        ("callers", 5, b"a=" + b"[" * 3000),
        ("callers", 1, json.dumps({"exp": 1e400, "iss": "APIfuzz"}).encode()),
    ],
)
def test_what_was_found_once_holds(name: str, way: int, found: bytes) -> None:
    target: Target = importlib.import_module(f"fuzz.{name}").target()
    data = chosen(way, found)
    assert choice(data, way + 1) == (way, found)
    target.run(data)


def test_a_target_is_a_module() -> None:
    folder = Path(__file__).resolve().parents[1] / "fuzz"
    found = {path.stem for path in folder.glob("*.py") if "def target()" in path.read_text()}
    assert found == set(TARGETS)
