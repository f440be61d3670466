"""How commands reach a server: in clear text, or with TLS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from track_server.config import Listening, SettingsError, is_loopback, split_address
from track_server.pem import read_authorities, read_pair


@dataclass(frozen=True, slots=True)
class Server:
    """``address``: `host:port`, None for that of the settings. The others are PEM files; without ``tls_ca`` it is
    spoken to in clear text. ``tls_name``: the name that its certificate must have, None for its host."""

    address: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_name: str | None = None

    @property
    def target(self) -> str:
        """Its address as it can be connected to. Raises SettingsError."""
        host, port = self._place()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def channel(self) -> grpc.Channel:
        """A connection, not yet made. Raises SettingsError."""
        channel: grpc.Channel = self._connected(grpc)
        return channel

    def aio_channel(self) -> grpc.aio.Channel:
        """The same for asyncio."""
        channel: grpc.aio.Channel = self._connected(grpc.aio)
        return channel

    def _connected(self, grpc_or_aio: Any) -> Any:
        host, _ = self._place()
        # A proxy of the environment is for calls that leave the machine.
        options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0 if is_loopback(host) else 1)]
        if self.tls_name:
            options.append(("grpc.ssl_target_name_override", self.tls_name))
        credentials = self._credentials()
        if credentials is None:
            return grpc_or_aio.insecure_channel(self.target, options=options)
        return grpc_or_aio.secure_channel(self.target, credentials, options=options)

    def _place(self) -> tuple[str, int]:
        try:
            host, port = split_address(self.address or Listening.load().listen)
        except ValueError as error:
            raise SettingsError([f"--address {error}."]) from error
        # A server that listens on every interface is asked on this machine.
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not self.tls_ca:
            if self.tls_cert or self.tls_key or self.tls_name:
                raise SettingsError(["--tls-cert, --tls-key and --tls-name need --tls-ca."])
            return None
        if bool(self.tls_cert) != bool(self.tls_key):
            raise SettingsError(["--tls-cert and --tls-key go together."])
        try:
            authorities = read_authorities(Path(self.tls_ca), "--tls-ca")
            if not (self.tls_cert and self.tls_key):
                return grpc.ssl_channel_credentials(authorities)
            chain, private, _ = read_pair(Path(self.tls_cert), Path(self.tls_key), ("--tls-cert", "--tls-key"))
        except ValueError as error:
            raise SettingsError([f"{error}."]) from error
        return grpc.ssl_channel_credentials(authorities, private, chain)
