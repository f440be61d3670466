"""How the log is written. Set up once by each program's entry, before anything is logged."""

import contextlib
import json
import logging
import sys
from collections.abc import MutableMapping
from typing import IO, Any, Final

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from track_server.texts import cleaned

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LINE: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


class EventWriter:
    """Writes events that are complete: dicts with `timestamp` (a datetime), `level`, `event` and whatever else.

    Through structlog one by one, or, where ``stream`` is given, as JSON lines in one go. Those below ``level`` are left
    out.
    """

    def __init__(self, level: str = "debug", stream: IO[bytes] | None = None) -> None:
        self._enabled = frozenset(name for name, number in _LEVELS.items() if number >= _LEVELS[level])
        self._stream = stream
        self._log = structlog.get_logger("track_server")

    def enabled(self, level: str) -> bool:
        """Whether events of the level are written."""
        return level in self._enabled

    def write(self, events: list[dict[str, Any]]) -> None:
        """Write the events, in order."""
        wanted = [event for event in events if event["level"] in self._enabled]
        if not wanted:
            return
        if self._stream is not None:
            lines = b"".join([_json_line(event) for event in wanted])
            # Where standard error is gone there is nobody left to tell, and calls go on.
            with contextlib.suppress(OSError):
                self._stream.write(lines)
                self._stream.flush()
            return
        for event in wanted:
            # structlog makes level and timestamp itself.
            rest = {name: value for name, value in event.items() if name not in ("timestamp", "level", "event")}
            self._log.log(_LEVELS[event["level"]], event["event"], **rest)


def configure_logging(*, level: str, as_json: bool) -> EventWriter:
    """Write structlog's events to standard error: one JSON object a line, or for people.

    ``level``: debug, info, warning or error. What other packages log through `logging` joins from warning up. Returns a
    writer for those who write many events at a time.

    Tokens are left out, and of URLs user, query and fragment: errors of libraries have whole URLs in them.
    """
    number = _LEVELS[level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        structlog.configure(
            processors=[
                *shared,
                # Without local variables, which hold tokens and what rooms say.
                structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
                _without_secrets,
                structlog.processors.JSONRenderer(serializer=_json),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[
                *shared,
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
                ),
                _text_without_secrets,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
            cache_logger_on_first_use=True,
        )
    logging.basicConfig(handlers=[_Forward()], level=max(number, logging.WARNING), force=True)
    logging.captureWarnings(True)
    return EventWriter(level, sys.stderr.buffer if as_json else None)


def _text_without_secrets(_log: Any, _method: str, text: Any) -> str:
    return cleaned(text)


def _without_secrets(_log: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    return {name: _cleaned(value) for name, value in event.items()}


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return cleaned(value)
        case dict():
            return {name: _cleaned(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_cleaned(inner) for inner in value]
        case BaseException():
            return cleaned(str(value))
        case _:
            return value


def _json_line(event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=_LINE)
    except TypeError:  # text that is no UTF-8, a number beyond 64 bits: what orjson refuses, json escapes
        return json.dumps(event, default=str).encode() + b"\n"


def _json(event: dict[str, Any], **_: object) -> bytes:
    return _json_line(event).rstrip(b"\n")


class _Forward(logging.Handler):
    """Hands records of `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event `log_record`."""
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "log_record", logger=record.name, text=record.getMessage(), exc_info=record.exc_info)
