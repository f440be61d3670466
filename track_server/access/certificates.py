"""Who calls, by client certificate: its names, and the principals that they are mapped to."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from track_server.access.principal import Grants, Principal
from track_server.access.video_grants import SOURCES, grants_of
from track_server.errors import Unauthenticated

# Certificates remembered: a few KiB each.
_CACHE: Final = 1024

# The keys of a client's table, and what LiveKit's tokens call them. No `agent`: media workers have a listener of their
# own, without TLS.
_GRANTS: Final = {
    "room": "room",
    "room_join": "roomJoin",
    "room_admin": "roomAdmin",
    "room_list": "roomList",
    "can_publish": "canPublish",
    "can_publish_sources": "canPublishSources",
    "can_publish_data": "canPublishData",
    "can_subscribe": "canSubscribe",
    "room_create": "roomCreate",
    "room_record": "roomRecord",
}


def parse_clients(text: str) -> dict[str, Principal]:
    """The principals by name of certificate, from TOML: a table a name, with `identity` and grants.

    ``identity`` is the name itself where it is left out; grants are as in a LiveKit token, LiveKit's defaults included.
    Raises ValueError as a sentence.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the file is no TOML: {error}") from error
    except RecursionError as error:
        raise ValueError("the file is nested too deeply") from error
    return {name: _client(name, table) for name, table in tables.items()}


def _client(name: str, table: object) -> Principal:
    if not name or not isinstance(table, Mapping):
        raise ValueError(f'"{name}" must be a table, e.g. ["{name or "recorder.example.org"}"]')
    for key, value in table.items():
        if isinstance(value, Mapping):
            raise ValueError(f'"{name}" has a table "{key}": put a name that has dots between quotes')
        if key != "identity" and key not in _GRANTS:
            raise ValueError(f'"{name}" has "{key}", which is neither identity nor one of {", ".join(_GRANTS)}')
    identity = table.get("identity", name)
    if not isinstance(identity, str) or not identity:
        raise ValueError(f'the identity of "{name}" must be a text')
    if any(not isinstance(source, str) or source not in SOURCES for source in _listed(table)):
        raise ValueError(f'can_publish_sources of "{name}" must be of {", ".join(sorted(SOURCES))}')
    try:
        grants = grants_of({_GRANTS[key]: value for key, value in table.items() if key != "identity"})
    except ValueError as error:
        raise ValueError(f'the grants of "{name}" are wrong: {error}') from error
    _sensible(name, grants)
    return Principal(identity=identity, grants=grants, certificate=name)


def _listed(table: Mapping[str, Any]) -> list[object]:
    sources = table.get("can_publish_sources", [])
    return sources if isinstance(sources, list) else []


def _sensible(name: str, grants: Grants) -> None:
    if (grants.room_join or grants.room_admin) and not grants.room:
        raise ValueError(f'"{name}" has room_join or room_admin, and no room')


class ClientCertificates:
    """Tells the principal of a certificate that TLS has verified."""

    def __init__(self, clients: Mapping[str, Principal] | None = None) -> None:
        self._clients: Mapping[str, Principal] = clients or {}
        self._principals: dict[bytes, Principal] = {}

    def replace(self, clients: Mapping[str, Principal]) -> None:
        """From now on, the principals are these."""
        self._clients = clients
        self._principals.clear()

    def known(self, pem: bytes, now: float) -> Principal | None:
        """The principal of a certificate that was seen before and is still good; None: ask `principal`."""
        principal = self._principals.get(pem)
        if principal is None or (principal.expire_time is not None and now >= principal.expire_time):
            return None
        return principal

    def principal(self, pem: bytes, now: float) -> Principal:
        """The principal of the certificate, by the first of its names that is mapped; raises Unauthenticated.

        It is good until the certificate expires, on a connection that was made before as well. ``now``: seconds since
        1970 UTC.
        """
        principal = self._principals.get(pem)
        if principal is None:
            principal = self._find(pem)
            self._principals[pem] = principal
            if len(self._principals) > _CACHE:
                del self._principals[next(iter(self._principals))]
        if principal.expire_time is not None and now >= principal.expire_time:
            raise Unauthenticated("the client certificate has expired", cause="expired_certificate")
        return principal

    def maps(self, principal: Principal) -> bool:
        """Whether its certificate is still mapped to it."""
        mapped = self._clients.get(principal.certificate)
        return mapped is not None and (mapped.identity, mapped.grants) == (principal.identity, principal.grants)

    def _find(self, pem: bytes) -> Principal:
        names, expire_time = read_certificate(pem)
        for name in names:
            if name in self._clients:
                return replace(self._clients[name], expire_time=expire_time)
        raise Unauthenticated(
            "the client certificate is mapped to nobody: send a LiveKit access token, `authorization: Bearer TOKEN`",
            cause="unknown_certificate",
        )


def read_certificate(pem: bytes) -> tuple[list[str], float]:
    """The names of a certificate that TLS has verified, and its end in seconds since 1970 UTC.

    Names: of its subject alternative name the URIs, then the DNS names; then common names. Raises Unauthenticated.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return _names(certificate), certificate.not_valid_after_utc.timestamp()
    except Exception as error:  # TLS takes what a stricter parser may not
        raise Unauthenticated("the client certificate is malformed", cause="malformed_certificate") from error


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        alternative = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        alternative = None
    names: list[str] = []
    if isinstance(alternative, x509.SubjectAlternativeName):
        names += alternative.get_values_for_type(x509.UniformResourceIdentifier)
        names += alternative.get_values_for_type(x509.DNSName)
    return names + [str(found.value) for found in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
