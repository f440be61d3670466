"""Settings of the log."""

from typing import Literal

from pydantic import Field

from track_server.config.environment import Environment

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]


class LogSettings(Environment):
    """What is logged, and how."""

    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="json", description="json: one object a line. console: for people.")
