"""Settings of the permission service (`track-server permissions`)."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from track_server.config.environment import checked_bearer, is_loopback, split_address, wrong
from track_server.config.log import LogSettings


class PermissionServiceSettings(LogSettings):
    """Settings of `track-server permissions`. Frozen; `PermissionServiceSettings.load` makes it."""

    permission_rules: Path = Field(description="TOML file of the rules, read again when it changes.")
    permission_listen: str = Field(
        default="127.0.0.1:50052",
        description=(
            "host:port of the permission service; port 0 takes a free one. Other than on loopback it needs a token, or"
            " the CA of client certificates."
        ),
    )
    permission_token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token that TrackService must send, the same as there. Empty: none is asked for.",
    )
    permission_server_tls_cert: Path | None = Field(
        default=None,
        description="PEM file of the permission service's certificate chain, read again on change. Empty: no TLS.",
    )
    permission_server_tls_key: Path | None = Field(
        default=None, description="PEM file of that certificate's private key."
    )
    permission_server_tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file of the CAs of client certificates, which are then required. Empty: none are asked for.",
    )
    permission_metrics_listen: str = Field(
        default="", description="host:port of the permission service's Prometheus metrics. Empty: none."
    )

    @field_validator("permission_listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("permission_metrics_listen")
    @classmethod
    def _check_metrics_listen(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("permission_token")
    @classmethod
    def _check_token(cls, value: SecretStr) -> SecretStr:
        return checked_bearer(value)

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.permission_server_tls_cert is None) != (self.permission_server_tls_key is None):
            raise wrong("TRACK_PERMISSION_SERVER_TLS_CERT and TRACK_PERMISSION_SERVER_TLS_KEY go together")
        if self.permission_server_tls_client_ca is not None and self.permission_server_tls_cert is None:
            raise wrong("TRACK_PERMISSION_SERVER_TLS_CLIENT_CA needs TRACK_PERMISSION_SERVER_TLS_CERT")
        return self

    @model_validator(mode="after")
    def _unguarded_on_loopback_only(self) -> Self:
        guarded = self.permission_token.get_secret_value() or self.permission_server_tls_client_ca is not None
        if not guarded and not is_loopback(split_address(self.permission_listen)[0]):
            raise wrong(
                "TRACK_PERMISSION_LISTEN is {given}, where anybody could ask: set TRACK_PERMISSION_TOKEN or"
                " TRACK_PERMISSION_SERVER_TLS_CLIENT_CA, or listen on a loopback address such as 127.0.0.1:50052",
                given=self.permission_listen,
            )
        return self
