"""How the log is written. Set up once by each program's entry, before anything is logged."""

import logging
import sys
from typing import IO, Any, Final

import orjson
import structlog

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LINE: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


class EventWriter:
    """Writes events that are complete: dicts with `timestamp` (a datetime), `level`, `event` and whatever else.

    Through structlog one by one, or, where ``stream`` is given, as JSON lines in one go. Those below ``level`` are left
    out.
    """

    def __init__(self, level: str = "debug", stream: IO[bytes] | None = None) -> None:
        self._level = _LEVELS[level]
        self._stream = stream
        self._log = structlog.get_logger("track_server")

    def enabled(self, level: str) -> bool:
        """Whether events of the level are written."""
        return _LEVELS[level] >= self._level

    def write(self, events: list[dict[str, Any]]) -> None:
        """Write the events, in order."""
        wanted = [event for event in events if self.enabled(event["level"])]
        if not wanted:
            return
        if self._stream is not None:
            self._stream.write(b"".join(orjson.dumps(event, default=str, option=_LINE) for event in wanted))
            self._stream.flush()
            return
        for event in wanted:
            # structlog makes level and timestamp itself.
            rest = {name: value for name, value in event.items() if name not in ("timestamp", "level", "event")}
            self._log.log(_LEVELS[event["level"]], event["event"], **rest)


def configure_logging(*, level: str, json: bool) -> EventWriter:
    """Write structlog's events to standard error: one JSON object a line, or for people.

    ``level``: debug, info, warning or error. What other packages log through `logging` joins from warning up. Returns a
    writer for those who write many events at a time.
    """
    number = _LEVELS[level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json:
        structlog.configure(
            processors=[
                *shared,
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(serializer=orjson.dumps, default=str),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
            cache_logger_on_first_use=True,
        )
    logging.basicConfig(handlers=[_Forward()], level=max(number, logging.WARNING), force=True)
    logging.captureWarnings(True)
    return EventWriter(level, sys.stderr.buffer if json else None)


class _Forward(logging.Handler):
    """Hands records of `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event `log_record`."""
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "log_record", logger=record.name, text=record.getMessage(), exc_info=record.exc_info)
