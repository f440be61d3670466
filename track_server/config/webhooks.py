"""Settings of webhooks: those that LiveKit sends to this server, and those that this server sends."""

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import NoDecode
from yarl import URL

from track_server.config.environment import Environment, split_address, wrong

# What no host has in it.
_NO_HOST: Final = frozenset("/@*?#\\%<>\"' \t\r\n")


class WebhookSettings(Environment):
    """Where LiveKit's webhooks come in, and where events may be sent to."""

    webhook_listen: str = Field(
        default="",
        description=(
            "host:port of the HTTP endpoint that takes LiveKit's webhooks; port 0 takes a free one. Empty: none, so"
            " that what LiveKit would tell is found by asking, some seconds later."
        ),
    )
    webhook_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description=(
            "Hosts that events may be sent to, separated by commas: host, host:port or *.host, over https;"
            " http://host for one that is reached in clear text. Empty: none."
        ),
    )
    webhook_allow_private: bool = Field(
        default=False,
        description=(
            "Whether events may be sent to addresses of private networks and of this machine. Link-local addresses stay"
            " refused."
        ),
    )
    webhook_timeout_seconds: float = Field(
        default=10, gt=0, le=60, description="How long the receiver of an event may take to answer, up to 60 s."
    )
    webhook_give_up_seconds: float = Field(
        default=24 * 3600,
        gt=0,
        le=30 * 24 * 3600,
        description="How long an event that nobody takes is tried until it is parked, up to 2592000 s.",
    )

    @field_validator("webhook_listen")
    @classmethod
    def _check_webhook_listen(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("webhook_hosts", mode="before")
    @classmethod
    def _split_webhook_hosts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(host.strip().lower() for host in value.split(",") if host.strip())

    @field_validator("webhook_hosts")
    @classmethod
    def _check_webhook_hosts(cls, value: frozenset[str]) -> frozenset[str]:
        for given in value:
            if not _is_host(given.removeprefix("http://").removeprefix("https://").removeprefix("*.")):
                raise wrong(
                    "must be hosts separated by commas, each `host`, `host:port` or `*.host`, with `http://` before it"
                    " for clear text; {given} is not",
                    given=given,
                )
        return value


def _is_host(text: str) -> bool:
    """Whether it is `host` or `host:port`."""
    try:
        parts = urlsplit(f"//{text}")
        # The other parser is that of the URLs: it must be able to write the name by IDNA.
        return bool(parts.hostname and URL(f"https://{text}").raw_host and parts.port != 0 and not _NO_HOST & set(text))
    except ValueError:  # a port that is none, a bracket too many, a name that IDNA does not know
        return False
