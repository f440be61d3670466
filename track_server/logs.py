"""How the log is written. Called once by each program's entry, before anything is logged."""

import logging
import sys
from typing import Any, Final

import orjson
import structlog

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(*, level: str, json: bool) -> None:
    """Write structlog's events to standard error: one JSON object a line, or for people.

    ``level``: debug, info, warning or error. What other packages log through `logging` joins from warning up.
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


class _Forward(logging.Handler):
    """Hands records of `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event `log_record`."""
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "log_record", logger=record.name, text=record.getMessage(), exc_info=record.exc_info)
