"""The settings, and the only reader of the environment.

LiveKit's own names are taken as they are (``LIVEKIT_URL``, ...); everything else begins with ``TRACK_``. Flags of the
command line override the environment.
"""

from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from track_server.config.access import AccessSettings
from track_server.config.egress import EgressSettings
from track_server.config.environment import Environment, checked_url, is_loopback, split_address, wrong
from track_server.config.events import EventSettings
from track_server.config.limits import LimitSettings
from track_server.config.log import LogSettings
from track_server.config.quality import QualitySettings
from track_server.config.record import RecordSettings
from track_server.config.webhooks import WebhookSettings

_WEBSOCKET_OF: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_HTTP_OF: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Credentials(Environment):
    """What signs and verifies LiveKit's tokens. Frozen; `Credentials.load` makes it."""

    # Before the key and the secret, whose validators ask for it.
    keys_file: Path | None = Field(
        default=None,
        description=(
            "File of LiveKit API keys whose tokens are taken, in the form of LiveKit's key_file, read again when it"
            " changes. Empty: LIVEKIT_API_KEY alone."
        ),
    )
    livekit_api_key: str = Field(
        default="",
        validate_default=True,
        validation_alias="LIVEKIT_API_KEY",
        description="API key of the LiveKit server. May be left out with TRACK_KEYS_FILE: its first key is used.",
    )
    livekit_api_secret: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        validation_alias="LIVEKIT_API_SECRET",
        description="Secret that belongs to the API key. May be left out with TRACK_KEYS_FILE.",
    )

    @field_validator("livekit_api_key")
    @classmethod
    def _key_is_known(cls, value: str, others: ValidationInfo) -> str:
        if not value and not others.data.get("keys_file"):
            raise PydanticCustomError("missing", "is not set")
        return value

    @field_validator("livekit_api_secret")
    @classmethod
    def _secret_is_known(cls, value: SecretStr, others: ValidationInfo) -> SecretStr:
        if not value.get_secret_value() and not others.data.get("keys_file"):
            raise PydanticCustomError("missing", "is not set")
        if value.get_secret_value() and others.data.get("livekit_api_key") == "":
            raise wrong("is set without LIVEKIT_API_KEY: set both, or neither and TRACK_KEYS_FILE")
        return value


class Listening(Environment):
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


class Settings(
    LogSettings,
    RecordSettings,
    EventSettings,
    QualitySettings,
    LimitSettings,
    EgressSettings,
    WebhookSettings,
    AccessSettings,
    Listening,
    Credentials,
):
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
    store: Path = Field(
        default=Path("./track-server.sqlite3"),
        description="SQLite file of what must survive a restart: publications, answers by request_id, the record.",
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
    worker_sessions_before_recycling: int = Field(
        default=200,
        ge=1,
        le=1_000_000,
        description=(
            "Hosted participants after which a child process of a media worker takes no more, and ends with the last of"
            " them, 1 to 1000000."
        ),
    )
    drain_seconds: float = Field(
        default=10, ge=0, le=600, description="How long running calls may take to end on SIGTERM, 0 to 600 s."
    )
    client_return_seconds: float = Field(
        default=60,
        ge=0,
        le=3600,
        description="How long a participant may be away before what its client publishes for us ends, 0 to 3600 s.",
    )
    metadata_return_seconds: float = Field(
        default=60,
        ge=0,
        le=3600,
        description="How long metadata of others' tracks is kept for their return, 0 to 3600 s.",
    )
    metadata_writes_per_second: float = Field(
        default=20,
        ge=0.1,
        le=10_000,
        description="Changes of a participant's attributes a second, several changes of metadata in one, 0.1 to 10000.",
    )
    restart_cooldown_seconds: float = Field(
        default=5,
        ge=0,
        le=3600,
        description="How long after a RestartTrack the same track is not restarted again, 0 to 3600 s.",
    )
    room_linger_seconds: float = Field(
        default=30, ge=0, le=3600, description="How long a room stays watched after its last user, 0 to 3600 s."
    )
    max_events_per_room: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Most events kept of a room, for streams that resume, 1 to 1000000; the oldest go first.",
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
        return checked_url(value, schemes=tuple(_HTTP_OF), example="ws://127.0.0.1:7880")

    @field_validator("livekit_debug_url")
    @classmethod
    def _check_debug_url(cls, value: str) -> str:
        return value and checked_url(value, schemes=("http", "https"), example="http://127.0.0.1:7882")

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
            raise wrong("must be a folder that exists; {given} is not", given=str(value))
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
                raise wrong(
                    "must be host names separated by commas, or host:port, without scheme and path; {given} is not",
                    given=host,
                )
        return value

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> Self:
        for name in ("listen", "media_listen"):
            given = getattr(self, name)
            if self.auth_mode == "off" and not is_loopback(split_address(given)[0]):
                raise wrong(
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
    return Settings.variable(field)
