"""Settings of recordings: where they may go, and how long Egress may be silent."""

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from track_server.config.environment import Environment, wrong

# `s3:bucket`, `s3:host/bucket`, `gcs:bucket`, `azure:container`, `azure:account/container`.
_BUCKET: Final = re.compile(r"(s3|gcs|azure):(?:([A-Za-z0-9.-]+(?::\d{1,5})?)/)?([A-Za-z0-9._$-]+)")
_HOST: Final = re.compile(r"(?:ws://)?[A-Za-z0-9.-]+(?::\d{1,5})?")


class EgressSettings(Environment):
    """What LiveKit Egress may be asked for. Lists are separated by commas."""

    egress_file_prefixes: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset({"recordings/"}),
        description=(
            "Folders on the disk of Egress below which files may be recorded, separated by commas: relative to where"
            " Egress runs, or absolute, e.g. /out/. Empty: recordings/. none: nothing on its disk."
        ),
    )
    egress_buckets: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description=(
            "Buckets that may be recorded to, separated by commas: s3:BUCKET, s3:HOST/BUCKET of another service than"
            " Amazon's, gcs:BUCKET, azure:ACCOUNT/CONTAINER, azure:CONTAINER of Egress' own account. Empty: none."
        ),
    )
    egress_websocket_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description=(
            "Hosts of WebSockets that may be recorded to, separated by commas: HOST or HOST:PORT for wss, with ws://"
            " before it for ws, without TLS. Empty: none."
        ),
    )
    egress_dir: Path | None = Field(
        default=None,
        description=(
            "Folder in which this server finds what Egress records to its disk: relative paths below it, absolute ones"
            " where they lie in it. The quality timeline is written there, beside each file. Empty: nowhere."
        ),
    )
    egress_start_seconds: float = Field(
        default=3,
        ge=0.5,
        le=20,
        description=(
            "How long LiveKit may look for an Egress that takes a recording until none counts as attached, 0.5 to 20 s."
        ),
    )
    egress_silence_seconds: float = Field(
        default=60,
        ge=1,
        le=3600,
        description="How long the Egress of a recording may be gone until the recording counts as failed, 1 to 3600 s.",
    )

    @field_validator("egress_file_prefixes", "egress_buckets", "egress_websocket_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(item.strip() for item in value.split(",") if item.strip() not in ("", "none"))

    @field_validator("egress_file_prefixes")
    @classmethod
    def _check_prefixes(cls, value: frozenset[str]) -> frozenset[str]:
        prefixes = frozenset(prefix if prefix.endswith("/") else f"{prefix}/" for prefix in value)
        for prefix in prefixes:
            parts = prefix.removeprefix("/").rstrip("/").split("/")
            if any(part in ("", ".", "..") for part in parts) or set("{}\\") & set(prefix):
                raise wrong("must be folders separated by commas, e.g. recordings/; {given} is not", given=prefix)
        return prefixes

    @field_validator("egress_buckets")
    @classmethod
    def _check_buckets(cls, value: frozenset[str]) -> frozenset[str]:
        for bucket in value:
            match = _BUCKET.fullmatch(bucket)
            if match is None or (match[1] == "gcs" and match[2]):
                raise wrong(
                    "must be buckets separated by commas, e.g. s3:BUCKET or azure:ACCOUNT/CONTAINER; {given} is not",
                    given=bucket,
                )
        return value

    @field_validator("egress_websocket_hosts")
    @classmethod
    def _check_websocket_hosts(cls, value: frozenset[str]) -> frozenset[str]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise wrong(
                    "must be HOST, HOST:PORT or ws://HOST:PORT, separated by commas; {given} is not", given=host
                )
        return frozenset(host.lower() for host in value)

    @field_validator("egress_dir", mode="before")
    @classmethod
    def _no_dir(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("egress_dir")
    @classmethod
    def _check_dir(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        if not value.is_dir():
            raise wrong("must be a folder that exists; {given} is not", given=str(value))
        return value.resolve()
