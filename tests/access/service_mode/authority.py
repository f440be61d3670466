"""The files and credentials of both ends of a connection with mutual TLS."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from tests import certificates


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A CA with its files in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = certificates.authority(directory.name)
        self.ca, _ = self._authority.write(directory, "ca")

    def issue(self, name: str) -> Issued:
        """For a server or a client of that name, or IP address."""
        return Issued(*certificates.issue(name, self._authority, names=[name]).write(self._directory, name))

    def server_credentials(self, name: str) -> grpc.ServerCredentials:
        """Of a server that asks its clients for a certificate of this authority."""
        issued = self.issue(name)
        return grpc.ssl_server_credentials(
            [(issued.key.read_bytes(), issued.cert.read_bytes())], self.ca.read_bytes(), require_client_auth=True
        )
