"""Where recordings go: what of it is allowed, what is shown of it, and what makes two places the same. Pure."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from track.v1.egress_pb2 import EgressFile, EgressOutput
from track_server.egress import paths
from track_server.errors import DestinationNotAllowed, InvalidField, InvalidOptions
from track_server.texts import public_uri

# A region is a part of Amazon's host names. Elsewhere than in its public regions a bucket's name is another's.
_REGION: Final = re.compile(r"[a-z0-9-]{0,64}")
_OTHER_PARTITIONS: Final = ("cn-", "us-gov-", "us-iso", "eu-iso", "eusc-")
_NAME: Final = re.compile(r"[A-Za-z0-9._$-]+")
# Who parses URLs leaves some of these out, who uses them may not.
_ODD: Final = re.compile(r"[\x00-\x20\x7f\s\\]")
_FILE: Final = "output.file"


@dataclass(frozen=True, slots=True)
class Places:
    """What the operator allows; see EgressSettings."""

    prefixes: frozenset[str]
    buckets: frozenset[str]
    websocket_hosts: frozenset[str]

    def check(self, output: EgressOutput, under: str = "") -> None:
        """Raises DestinationNotAllowed, InvalidField, InvalidOptions. ``under``: what stands before `output`."""
        if output.WhichOneof("output") == "websocket_url":
            self._check_websocket(output.websocket_url, f"{under}output.websocket_url")
            return
        file, field = output.file, f"{under}{_FILE}"
        paths.check_path(file.filepath, f"{field}.filepath")
        storage = file.WhichOneof("storage")
        if storage is None:
            paths.check_prefix(file.filepath, self.prefixes, f"{field}.filepath")
            return
        paths.check_relative(file.filepath, f"{field}.filepath")
        bucket_field = f"{field}.{storage}.{'container' if storage == 'azure' else 'bucket'}"
        named = _bucket(file, field)
        # A name with a slash in it could be read as another host's, or another account's.
        odd = any(not _NAME.fullmatch(name) for name in (file.s3.bucket, file.gcs.bucket, file.azure.container) if name)
        if odd or named not in self.buckets:
            raise DestinationNotAllowed("the operator's allow-list does not name the bucket", field=bucket_field)

    def _check_websocket(self, url: str, field: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidField("this is no URL", field=field) from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname or _ODD.search(url):
            raise InvalidField("it must be a wss:// or ws:// URL", field=field)
        scheme = "ws://" if parts.scheme == "ws" else ""
        host = parts.hostname.lower()
        names = {f"{scheme}{host}:{port}"} if port is not None else {f"{scheme}{host}"}
        if not names & self.websocket_hosts:
            raise DestinationNotAllowed("the operator's allow-list does not name the host", field=field)


def _bucket(file: EgressFile, field: str) -> str:
    """The bucket as the allow-list names it; empty where no list can name it."""
    match file.WhichOneof("storage"):
        case "s3":
            s3 = file.s3
            if not _REGION.fullmatch(s3.region):
                raise InvalidField("this is no region", field=f"{field}.s3.region")
            if bool(s3.access_key) != bool(s3.secret):
                raise InvalidOptions("access_key and secret go together", field=f"{field}.s3.secret")
            if not s3.endpoint and s3.region.startswith(_OTHER_PARTITIONS):
                return ""
        case "azure":
            azure = file.azure
            if azure.account_name and not _NAME.fullmatch(azure.account_name):
                raise InvalidField("this is no name of an account", field=f"{field}.azure.account_name")
            if bool(azure.account_name) != bool(azure.account_key):
                raise InvalidOptions("account_name and account_key go together", field=f"{field}.azure.account_key")
    return _name(file, field)


def _name(file: EgressFile, field: str) -> str:
    match file.WhichOneof("storage"):
        case "s3":
            endpoint = f"{_endpoint(file.s3.endpoint, f'{field}.s3.endpoint')}/" if file.s3.endpoint else ""
            return f"s3:{endpoint}{file.s3.bucket}"
        case "gcs":
            return f"gcs:{file.gcs.bucket}"
        case "azure":
            account = f"{file.azure.account_name}/" if file.azure.account_name else ""
            return f"azure:{account}{file.azure.container}"
    return "disk"


def _endpoint(url: str, field: str) -> str:
    """Host, with its port where it has one, of a URL without user, path and query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidField("this is no URL", field=field) from None
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username is not None)
    if parts.scheme not in ("http", "https") or not host or not bare or _ODD.search(url):
        raise InvalidField("it must be an http or https URL without user, path and query", field=field)
    return host if port is None else f"{host}:{port}"


def shown(output: EgressOutput) -> EgressOutput:
    """It without its secrets: keys, and of a URL user, query and fragment."""
    result = EgressOutput()
    result.CopyFrom(output)
    if result.WhichOneof("output") == "websocket_url":
        result.websocket_url = public_uri(result.websocket_url)
    match result.file.WhichOneof("storage"):
        case "s3":
            for name in ("access_key", "secret", "session_token"):
                result.file.s3.ClearField(name)
        case "gcs":
            result.file.gcs.ClearField("credentials")
        case "azure":
            result.file.azure.ClearField("account_key")
    return result


def at_path(output: EgressOutput, path: str) -> EgressOutput:
    """It with the path filled in."""
    result = EgressOutput()
    result.CopyFrom(output)
    if result.HasField("file"):
        result.file.filepath = path
    return result


def place_of(output: EgressOutput, path: str) -> str:
    """What recordings have in common that would write over one another. ``output``: checked; ``path``: filled in."""
    if output.WhichOneof("output") == "websocket_url":
        return f"websocket {output.websocket_url}"
    return f"{_name(output.file, _FILE)} {path}"
