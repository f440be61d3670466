"""A real permission service as a child process: `track-server permissions`, on a loopback port of its own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from tests.livekit_process import ReservedPort
from tests.server_process import ServerProcess, bearing_token
from track.permission.v1 import permission_service_pb2 as pb

if TYPE_CHECKING:
    # The stubs know two classes, the program one.
    from track.permission.v1.permission_service_pb2_grpc import PermissionServiceAsyncStub as PermissionClient
else:
    from track.permission.v1.permission_service_pb2_grpc import PermissionServiceStub as PermissionClient

__all__ = ["EXAMPLE", "PermissionClient", "PermissionProcess"]

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "examples" / "permissions.toml"
"""Rules that decide as mode `token` does."""
_RELOAD_DEADLINE_S: Final = 45.0


class PermissionProcess(ServerProcess):
    """One permission service. `async with` starts it and ends it.

    ``rules``: the text of its rules file, that of the example by default. ``settings`` are environment variables on top
    of the usual ones. Started again, it has the same address.
    """

    def __init__(self, directory: Path, rules: str | None = None, settings: Mapping[str, str] | None = None) -> None:
        super().__init__("permissions", directory / "permissions.log")
        self.rules_path = directory / "permissions.toml"
        self.token = "token-of-the-permission-service"
        self.metrics_address = ""
        self._rules = EXAMPLE.read_text() if rules is None else rules
        self._settings = settings or {}
        self._port: ReservedPort | None = None

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.write_rules(self._rules)
        self._port = ReservedPort()
        try:
            return await super().__aenter__()
        except BaseException:
            self._port.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            if self._port is not None:
                self._port.release()

    def environment(self) -> dict[str, str]:
        """Those of a service that asks for its token."""
        return {
            "TRACK_PERMISSION_LISTEN": f"127.0.0.1:{self._port.number}" if self._port else "127.0.0.1:0",
            "TRACK_PERMISSION_RULES": str(self.rules_path),
            "TRACK_PERMISSION_TOKEN": self.token,
            **self._settings,
        }

    def began(self, serving: dict[str, Any]) -> None:
        """It serves."""
        super().began(serving)
        self.metrics_address = serving["metrics_address"] or ""

    @property
    def track_settings(self) -> dict[str, str]:
        """The environment of a TrackService in mode `service` that asks this one."""
        return {
            "TRACK_AUTH_MODE": "service",
            "TRACK_PERMISSION_ADDRESS": self.address,
            "TRACK_PERMISSION_TOKEN": self.token,
        }

    def write_rules(self, rules: str) -> None:
        """Writes the rules file, at one go."""
        written = self.rules_path.with_suffix(".new")
        written.write_text(rules)
        written.replace(self.rules_path)
        self._rules = rules

    async def rewrite(self, rules: str) -> pb.WatchPermissionsResponse | None:
        """Writes the rules file; returns what the watch stream says when it is taken, None where it is the same."""
        if rules == self._rules:
            return None
        async with self.client() as client:
            watching = client.WatchPermissions(pb.WatchPermissionsRequest(), timeout=_RELOAD_DEADLINE_S)
            messages = aiter(watching)
            await anext(messages)
            self.write_rules(rules)
            return await anext(messages)

    @asynccontextmanager
    async def client(self, token: str | None = None) -> AsyncIterator[PermissionClient]:
        """A stub whose calls carry the token, or ``token`` instead; "": none."""
        bearer = self.token if token is None else token
        async with grpc.aio.insecure_channel(self.address, interceptors=bearing_token(bearer or None)) as channel:
            yield PermissionClient(channel)
