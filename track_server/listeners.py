"""What the server listens on: addresses, TLS, and certificates that are exchanged while it runs."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import grpc
import structlog

from track_server.access.certificates import ClientCertificates, parse_clients
from track_server.access.principal import Principal
from track_server.config import Environment, Settings, SettingsError, environment_name, split_address
from track_server.filewatch import WatchedFiles, read_file
from track_server.interceptors.chain import ChainedServer
from track_server.pem import read_authorities, read_pair

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where an identity is read from, and the variables of the settings that name the files, in the same order."""

    cert: Path
    key: Path
    client_ca: Path | None
    variables: tuple[str, str, str]

    @classmethod
    def of(cls, settings: Environment, prefix: str = "") -> "TlsFiles | None":
        """Those of the fields ``prefix`` + tls_cert, tls_key and tls_client_ca; None without TLS."""
        fields = [f"{prefix}{name}" for name in ("tls_cert", "tls_key", "tls_client_ca")]
        cert, key, client_ca = (getattr(settings, name) for name in fields)
        if cert is None or key is None:
            return None
        variables = settings.variable(fields[0]), settings.variable(fields[1]), settings.variable(fields[2])
        return cls(cert, key, client_ca, variables)

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [self.cert, self.key, *([] if self.client_ca is None else [self.client_ca])]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a TLS server shows and asks for, as PEM. ``client_ca``: of the certificates that clients must have."""

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    name: str
    """The certificate's subject, for the log."""
    expires: datetime

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], root_certificates=self.client_ca)


class Tls:
    """TLS of a listener, with the identity that was taken last; connections that stand keep theirs."""

    def __init__(self) -> None:
        self._configuration: grpc.ServerCertificateConfiguration | None = None
        self._handed_out: grpc.ServerCertificateConfiguration | None = None
        self._client_ca = False

    def take(self, identity: Identity) -> None:
        """Show this from the next handshake on."""
        self._configuration = identity.configuration()
        self._client_ca = identity.client_ca is not None
        if identity.expires <= datetime.now(UTC):
            log.warning("certificate_expired", subject=identity.name, expires=identity.expires.isoformat())
        log.info("certificate_taken", subject=identity.name, expires=identity.expires.isoformat())

    def credentials(self) -> grpc.ServerCredentials:
        """For a listener; `take` comes before."""
        assert self._configuration is not None
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._fetch,  # type: ignore[arg-type]  # None is "as before", which the stubs do not know
            require_client_authentication=self._client_ca,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        # Before every handshake, on a thread of gRPC's. Two at once hand the same one out twice, which does no harm.
        configuration = self._configuration
        if configuration is self._handed_out:
            return None
        self._handed_out = configuration
        return configuration


@contextlib.asynccontextmanager
async def server_tls(settings: Environment, prefix: str = "") -> AsyncIterator[Tls | None]:
    """TLS as the settings have it, None where they have none. The files are followed; raises SettingsError.

    ``prefix``: what the names of the settings begin with.
    """
    files = TlsFiles.of(settings, prefix)
    if files is None:
        yield None
        return
    tls = Tls()
    async with _following("certificate", files.paths, lambda: read_identity(files), tls.take):
        yield tls


@contextlib.asynccontextmanager
async def client_certificates(settings: Settings) -> AsyncIterator[ClientCertificates | None]:
    """The principals of client certificates, None where no file names any. It is followed; raises SettingsError."""
    path = settings.tls_clients
    if path is None:
        yield None
        return
    certificates = ClientCertificates()

    def read() -> dict[str, Principal]:
        try:
            return parse_clients(read_file(path).text())
        except ValueError as error:
            raise ValueError(f"{environment_name('tls_clients')}: {error}") from error

    async with _following("clients", [path], read, certificates.replace):
        yield certificates


def bind(server: ChainedServer, settings: Environment, name: str, tls: Tls | None = None) -> str:
    """Binds the server to that setting's address; returns it with the port that was taken. Raises SettingsError."""
    wanted = getattr(settings, name)
    host, _ = split_address(wanted)
    try:
        port = server.add_insecure_port(wanted) if tls is None else server.add_secure_port(wanted, tls.credentials())
    except RuntimeError as error:
        raise SettingsError([f"{settings.variable(name)}: {wanted} cannot be bound; is it in use?"]) from error
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_identity(files: TlsFiles) -> Identity:
    """The files' contents, as far as can be told before a handshake; raises ValueError as a sentence. Blocks.

    The certificate's private key is the other file's; everything parses.
    """
    its_cert, its_key, its_ca = files.variables
    chain, private, certificate = read_pair(files.cert, files.key, (its_cert, its_key))
    roots = None if files.client_ca is None else read_authorities(files.client_ca, its_ca)
    return Identity(chain, private, roots, certificate.subject.rfc4514_string(), certificate.not_valid_after_utc)


@contextlib.asynccontextmanager
async def _following(
    name: str, paths: Sequence[Path], read: Callable[[], T], take: Callable[[T], None]
) -> AsyncIterator[None]:
    """The files followed for the span of the block; what is wrong with them at its beginning is wrong settings."""
    files = WatchedFiles(name, paths, read, take)
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(files)
        except ValueError as error:
            raise SettingsError([f"{error}."]) from error
        yield
