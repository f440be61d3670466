"""The settings, and the only reader of the environment.

LiveKit's own names are taken as they are (``LIVEKIT_URL``, ...); everything else begins with ``TRACK_``. Flags of the
command line override the environment.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX: Final = "TRACK_"
_WEBSOCKET_OF: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_HTTP_OF: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

AuthMode = Literal["token", "off"]
LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(Exception):
    """Settings are missing or wrong; ``sentences`` says of each what to set."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> Self:
        """The settings of the environment, with ``overrides`` (by field name; None is no override) on top.

        Raises SettingsError.
        """
        values = {_source_key(name): value for name, value in (overrides or {}).items() if value is not None}
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(
                [_sentence(detail) for detail in error.errors(include_url=False, include_input=False)]
            ) from error


class Credentials(_Environment):
    """What signs and verifies LiveKit's tokens. Frozen; `Credentials.load` makes it."""

    livekit_api_key: str = Field(
        validation_alias="LIVEKIT_API_KEY", min_length=1, description="API key of the LiveKit server."
    )
    livekit_api_secret: SecretStr = Field(
        validation_alias="LIVEKIT_API_SECRET", min_length=1, description="Secret that belongs to the API key."
    )


class Listening(_Environment):
    """Where TrackService is found. Frozen; `Listening.load` makes it."""

    listen: str = Field(
        default="127.0.0.1:50051",
        description="host:port of TrackService; port 0 takes a free one. 0.0.0.0:50051 for all interfaces.",
    )

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        split_address(value)
        return value


class Settings(Listening, Credentials):
    """All settings. Frozen; `Settings.load` makes it."""

    livekit_url: str = Field(
        validation_alias="LIVEKIT_URL",
        description="Address of the LiveKit server: ws://, wss://, http:// or https://, e.g. ws://127.0.0.1:7880.",
    )
    media_listen: str = Field(
        default="127.0.0.1:0",
        description="host:port of MediaService, which serves media workers; port 0 takes a free one.",
    )
    media_address: str = Field(
        default="",
        description="host:port under which media workers reach MediaService. Empty: the one that is really bound.",
    )
    metrics_listen: str = Field(default="", description="host:port of the Prometheus metrics. Empty: none.")
    auth_mode: AuthMode = Field(
        default="token",
        description="token: callers send a LiveKit access token. off: anybody may do anything, on loopback only.",
    )
    store: Path = Field(
        default=Path("./track-server.sqlite3"),
        description="SQLite file of what must survive a restart: publications, and answers by request_id.",
    )
    media_dir: Path | None = Field(
        default=None, description="Folder whose media files may be published. Empty: files are not allowed."
    )
    media_url_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Hosts from whose http and https URLs media may be published, separated by commas. Empty: none.",
    )
    livekit_debug_url: str = Field(
        default="",
        description=(
            "http address of LiveKit's debug_handler, e.g. http://127.0.0.1:7882, the only evidence of who is"
            " subscribed to what. Empty: none."
        ),
    )
    media_workers: int = Field(
        default=1,
        ge=0,
        le=16,
        description="Media workers that `serve` starts, 0 to 16. 0: they run elsewhere (`track-server worker`).",
    )
    worker_max_sessions: int = Field(
        default=20, ge=1, le=1000, description="Hosted participants that a media worker takes, 1 to 1000."
    )
    worker_sessions_per_child: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Hosted participants that share a child process of a media worker, 1 to 100.",
    )
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="json", description="json: one object a line. console: for people.")
    drain_seconds: float = Field(
        default=10, ge=0, le=600, description="How long running calls may take to end on SIGTERM, 0 to 600 s."
    )
    room_linger_seconds: float = Field(
        default=30, ge=0, le=3600, description="How long a room stays watched after its last user, 0 to 3600 s."
    )
    max_events_per_room: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Events kept of a watched room, for streams that resume, 1 to 1000000.",
    )
    transport_timeout_seconds: float = Field(
        default=10,
        gt=0,
        le=60,
        description="How long a watcher's transport may take to come up before the room is polled, up to 60 s.",
    )

    @field_validator("livekit_url")
    @classmethod
    def _check_livekit_url(cls, value: str) -> str:
        return _checked_url(value, schemes=tuple(_HTTP_OF), example="ws://127.0.0.1:7880")

    @field_validator("livekit_debug_url")
    @classmethod
    def _check_debug_url(cls, value: str) -> str:
        return value and _checked_url(value, schemes=("http", "https"), example="http://127.0.0.1:7882")

    @field_validator("media_listen")
    @classmethod
    def _check_media_listen(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("media_address", "metrics_listen")
    @classmethod
    def _check_optional_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("media_dir", mode="before")
    @classmethod
    def _no_media_dir(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("media_dir")
    @classmethod
    def _check_media_dir(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        if not value.is_dir():
            raise _wrong("must be a folder that exists; {given} is not", given=str(value))
        return value.resolve()

    @field_validator("media_url_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(host.strip().lower() for host in value.split(",") if host.strip())

    @field_validator("media_url_hosts")
    @classmethod
    def _check_hosts(cls, value: frozenset[str]) -> frozenset[str]:
        for host in value:
            if any(sign in host for sign in "/@* "):
                raise _wrong(
                    "must be host names separated by commas, or host:port, without scheme and path; {given} is not",
                    given=host,
                )
        return value

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> Self:
        for name in ("listen", "media_listen"):
            given = getattr(self, name)
            if self.auth_mode == "off" and not is_loopback(split_address(given)[0]):
                raise _wrong(
                    "TRACK_AUTH_MODE=off lets anybody do anything, so {variable} must be a loopback address such as"
                    " 127.0.0.1:50051; it is {given}",
                    variable=environment_name(name),
                    given=given,
                )
        return self

    @property
    def livekit_http_url(self) -> str:
        """LiveKit's address for its API: http:// or https://, without a slash at the end."""
        parts = urlsplit(self.livekit_url)
        return urlunsplit(parts._replace(scheme=_HTTP_OF[parts.scheme]))

    @property
    def livekit_ws_url(self) -> str:
        """LiveKit's address for signalling: ws:// or wss://, without a slash at the end."""
        parts = urlsplit(self.livekit_url)
        return urlunsplit(parts._replace(scheme=_WEBSOCKET_OF[parts.scheme]))


def environment_name(field: str) -> str:
    """The environment variable of a field of Settings."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"{_PREFIX}{field.upper()}"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``, port 0 to 65535. Raises ValueError that names an example."""
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    valid_host = bool(bare) and (":" not in bare or bare is not host)
    if not (colon and valid_host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise _wrong("must be host:port, e.g. 127.0.0.1:50051, and is {given}", given=address or "empty")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``: localhost, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked_url(value: str, *, schemes: tuple[str, ...], example: str) -> str:
    parts = urlsplit(value)
    try:
        valid = parts.scheme in schemes and bool(parts.hostname) and not (parts.query or parts.fragment)
        valid = valid and parts.port != 0
    except ValueError:  # a port that is none
        valid = False
    if not valid:
        raise _wrong(
            "must be an address that begins with {schemes}, e.g. {example}, and is {given}",
            schemes=" or ".join(f"{scheme}://" for scheme in schemes),
            example=example,
            given=value,
        )
    return value.rstrip("/")


def _wrong(sentence: str, **context: str) -> PydanticCustomError:
    """A ValueError whose text follows the name of the variable."""
    return PydanticCustomError("setting", sentence, context)


def _source_key(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else field


def _field_of(key: str) -> tuple[str, FieldInfo]:
    for name, info in Settings.model_fields.items():
        if key in (name, info.validation_alias):
            return name, info
    raise KeyError(key)


_SENTENCES: Final = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


def _sentence(detail: ErrorDetails) -> str:
    if not detail["loc"]:
        return f"{detail['msg']}."
    name, info = _field_of(str(detail["loc"][0]))
    variable = environment_name(name)
    if detail["type"] == "missing":
        return f"{variable} is not set. Set it to: {info.description}"
    known = _SENTENCES.get(detail["type"])
    what = known.format(**detail.get("ctx", {})) if known else detail["msg"]
    return f"{variable} {what}."
