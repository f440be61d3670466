"""Streams of events while LiveKit, the server, the watcher's connection, the caller's and the rooms end at random."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.deadline(300)
async def test_a_stream_tells_the_rooms_as_livekit_has_them_whatever_is_killed_and_cut(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    # A process of its own: its participants lose their servers all the time, and the SDK may take its process along.
    arguments = ["-m", "chaos", "--short", "--seed", "6", "--results", str(results)]
    with (tmp_path / "log").open("wb") as log:
        running = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=log, stderr=log)
        try:
            await running.wait()
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
    assert results.exists(), (tmp_path / "log").read_text()[-4000:]
    result = json.loads(results.read_text())
    assert result["findings"] == []
    happened = result["happened"]
    assert happened["LiveKit killed"] == happened["server killed"] == happened["watcher cut"] == 1
    assert happened["streams resumed"] > 0
    assert happened["snapshots WATCHER_AWAY"] > 0
    assert happened["rooms compared"] == 4
