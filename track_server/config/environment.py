"""What all settings have in common: where they come from, and the sentences about wrong ones."""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

_PREFIX: Final = "TRACK_"


class SettingsError(Exception):
    """Settings are missing or wrong; ``sentences`` says of each what to set."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class Environment(BaseSettings):
    """Settings of the environment; ``load`` makes them."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> Self:
        """The settings of the environment, with ``overrides`` (by field name; None is no override) on top.

        Raises SettingsError.
        """
        values = {cls._source_key(name): value for name, value in (overrides or {}).items() if value is not None}
        try:
            return cls(**values)
        except ValidationError as error:
            raise SettingsError(
                [cls._sentence(detail) for detail in error.errors(include_url=False, include_input=False)]
            ) from error

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable of a field."""
        alias = cls.model_fields[field].validation_alias
        return alias if isinstance(alias, str) else f"{_PREFIX}{field.upper()}"

    @classmethod
    def _source_key(cls, field: str) -> str:
        info = cls.model_fields.get(field)
        return info.validation_alias if info is not None and isinstance(info.validation_alias, str) else field

    @classmethod
    def _field_of(cls, key: str) -> tuple[str, FieldInfo]:
        for name, info in cls.model_fields.items():
            if key in (name, info.validation_alias):
                return name, info
        raise KeyError(key)

    @classmethod
    def _sentence(cls, detail: ErrorDetails) -> str:
        if not detail["loc"]:
            return f"{detail['msg']}."
        name, info = cls._field_of(str(detail["loc"][0]))
        variable = cls.variable(name)
        if detail["type"] == "missing":
            return f"{variable} is not set. Set it to: {info.description}"
        known = _SENTENCES.get(detail["type"])
        what = known.format(**detail.get("ctx", {})) if known else detail["msg"]
        return f"{variable} {what}."


def wrong(sentence: str, **context: str) -> PydanticCustomError:
    """A ValueError whose text follows the name of the variable."""
    return PydanticCustomError("setting", sentence, context)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``, port 0 to 65535. Raises ValueError that names an example."""
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    valid_host = bool(bare) and (":" not in bare or bare is not host)
    if not (colon and valid_host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise wrong("must be host:port, e.g. 127.0.0.1:50051, and is {given}", given=address or "empty")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``: localhost, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_bearer(value: SecretStr) -> SecretStr:
    """A bearer token that metadata can carry, or none. Raises ValueError."""
    token = value.get_secret_value()
    if not token.isascii() or not token.isprintable() or token.strip() != token:
        raise wrong("must be printable ASCII without spaces around it, for it is sent in metadata")
    return value


def checked_url(value: str, *, schemes: tuple[str, ...], example: str) -> str:
    """The URL, of one of ``schemes``, without the slash at its end. Raises ValueError that names the ``example``."""
    parts = urlsplit(value)
    try:
        valid = parts.scheme in schemes and bool(parts.hostname) and not (parts.query or parts.fragment)
        valid = valid and parts.port != 0
    except ValueError:  # a port that is none
        valid = False
    if not valid:
        raise wrong(
            "must be an address that begins with {schemes}, e.g. {example}, and is {given}",
            schemes=" or ".join(f"{scheme}://" for scheme in schemes),
            example=example,
            given=value,
        )
    return value.rstrip("/")


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
