"""Settings of who may do what: how callers are known, and who decides."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from track_server.config.environment import Environment, checked_bearer, is_loopback, split_address, wrong

AuthMode = Literal["token", "service", "off"]


class AccessSettings(Environment):
    """How callers are known, and who decides what they may do."""

    auth_mode: AuthMode = Field(
        default="token",
        description=(
            "token: LiveKit access tokens decide. service: the permission service decides. off: anybody may do"
            " anything, on loopback only."
        ),
    )
    tls_cert: Path | None = Field(
        default=None,
        description="PEM file of the server's certificate chain, read again when it changes. Empty: no TLS.",
    )
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's private key.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file of the CAs of client certificates, which are then required. Empty: none are asked for.",
    )
    tls_clients: Path | None = Field(
        default=None,
        description="TOML file that maps names of client certificates to principals, read again when it changes.",
    )
    permission_address: str = Field(
        default="", description="host:port of the permission service. Required in mode service."
    )
    permission_token: SecretStr = Field(
        default=SecretStr(""), description="Bearer token for the permission service. Empty: none."
    )
    permission_tls_ca: Path | None = Field(
        default=None, description="PEM file of the CA of the permission service. Empty: no TLS, on loopback only."
    )
    permission_tls_cert: Path | None = Field(
        default=None, description="PEM file of our client certificate for the permission service."
    )
    permission_tls_key: Path | None = Field(default=None, description="PEM file of that certificate's private key.")
    permission_timeout_seconds: float = Field(
        default=2, gt=0, le=30, description="How long the permission service may take for a decision, up to 30 s."
    )
    permission_stale_seconds: float = Field(
        default=60,
        ge=0,
        le=3600,
        description="How old an allow may be that counts while the permission service is away, 0 to 3600 s.",
    )
    permission_max_lifetime_seconds: float = Field(
        default=300, ge=0, le=3600, description="How long a decision is kept at most, 0 to 3600 s."
    )
    permission_cache_entries: int = Field(
        default=50_000, ge=0, le=10_000_000, description="Decisions kept at most, 0 to 10000000."
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise wrong("TRACK_TLS_CERT and TRACK_TLS_KEY go together: set both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise wrong("TRACK_TLS_CLIENT_CA needs TRACK_TLS_CERT and TRACK_TLS_KEY")
        if self.tls_clients is not None and self.tls_client_ca is None:
            raise wrong("TRACK_TLS_CLIENTS needs TRACK_TLS_CLIENT_CA, by which the certificates are verified")
        return self

    @field_validator("permission_address")
    @classmethod
    def _check_permission_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @model_validator(mode="after")
    def _service_is_named(self) -> Self:
        if self.auth_mode == "service" and not self.permission_address:
            raise wrong(
                "TRACK_AUTH_MODE=service needs TRACK_PERMISSION_ADDRESS, e.g. 127.0.0.1:50052, where"
                " `track-server permissions` or another permission service listens"
            )
        return self

    @field_validator("permission_token")
    @classmethod
    def _check_permission_token(cls, value: SecretStr) -> SecretStr:
        return checked_bearer(value)

    @model_validator(mode="after")
    def _permission_tls_is_whole(self) -> Self:
        if (self.permission_tls_cert is None) != (self.permission_tls_key is None):
            raise wrong("TRACK_PERMISSION_TLS_CERT and TRACK_PERMISSION_TLS_KEY go together: set both or neither")
        if self.permission_tls_cert is not None and self.permission_tls_ca is None:
            raise wrong("TRACK_PERMISSION_TLS_CERT needs TRACK_PERMISSION_TLS_CA")
        return self

    @model_validator(mode="after")
    def _decisions_are_not_forged(self) -> Self:
        given = self.permission_address
        open_to_all = self.auth_mode == "service" and self.permission_tls_ca is None
        if open_to_all and given and not is_loopback(split_address(given)[0]):
            raise wrong(
                "TRACK_PERMISSION_ADDRESS is {given}, and without TLS anybody on the way could answer: set"
                " TRACK_PERMISSION_TLS_CA, or a loopback address such as 127.0.0.1:50052",
                given=given,
            )
        return self
