"""How the log is written."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from track_server.logs import EventWriter


def event(**facts: Any) -> dict[str, Any]:
    return {"timestamp": datetime(2026, 1, 2, 3, 4, 5, 6000, UTC), "level": "info", "event": "call", **facts}


def written(*events: dict[str, Any], level: str = "info") -> list[dict[str, Any]]:
    stream = io.BytesIO()
    EventWriter(level, stream).write(list(events))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_json_lines_in_order() -> None:
    first, second = written(event(number=1), event(number=2))
    assert (first["number"], second["number"]) == (1, 2)
    assert first["timestamp"] == "2026-01-02T03:04:05.006000Z"


def test_events_below_the_level_are_left_out() -> None:
    assert written(event(), event(level="debug")) == written(event())
    assert written(event(), level="error") == []


@pytest.mark.parametrize("odd", ["\ud800", 10**30, b"\xff", {1: {2}}, 'line\nbreak "quoted"', float("nan")])
def test_odd_values_neither_break_the_log_nor_the_line(odd: object) -> None:
    (line,) = written(event(odd=odd))
    assert line["event"] == "call"


def test_a_stream_that_is_gone_does_not_fail_who_logs() -> None:
    class Gone(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError

    EventWriter("info", Gone()).write([event()])


_PROGRAM = """
import logging, sys, warnings
import structlog
from track_server.logs import configure_logging
events = configure_logging(level="info", as_json=sys.argv[1] == "json")
log = structlog.get_logger("x")
log.info("started", number=1, text="\\ud800")
log.debug("hidden")
logging.getLogger("other").warning("from %s", "elsewhere")
logging.getLogger("other").info("too quiet")
token = "hunter" + "2"
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def _stderr(form: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, form],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == ""
    return done.stderr


def test_json_is_one_object_a_line_with_exceptions_and_other_packages_inside() -> None:
    started, forwarded, failed = [json.loads(line) for line in _stderr("json").splitlines()]
    assert (started["event"], started["level"], started["number"]) == ("started", "info", 1)
    assert started["timestamp"].endswith("Z")
    assert (forwarded["logger"], forwarded["text"], forwarded["level"]) == ("other", "from elsewhere", "warning")
    assert failed["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert failed["exception"][0]["frames"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_local_variables_stay_out_of_the_log(form: str) -> None:
    assert "hunter2" not in _stderr(form)


def test_console_is_for_people() -> None:
    text = _stderr("console")
    assert "started" in text
    assert "ZeroDivisionError" in text
    assert "hidden" not in text


_SECRETS = """
import sys
import structlog
from track_server.logs import configure_logging
configure_logging(level="info", as_json=sys.argv[1] == "json")
log = structlog.get_logger("x")
url = "http://host.example/clip.mp4?signature=" + "s3cret"
log.info("told", cause=f"HTTPNotFoundError: Server returned 404: '{url}'", inner=[{"url": url}], error=OSError(url))
try:
    raise OSError(f"cannot open '{url}'")
except OSError:
    log.exception("failed")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_a_url_is_signed_with_is_not_in_the_log(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SECRETS, form], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.count("http://host.example/clip.mp4") >= 4
    # The program's own text, as a traceback shows it, has it in two parts.
    assert "=s3cret" not in done.stderr
