"""A real livekit-server as a child process, on loopback ports of its own."""

import asyncio
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import psutil

TOOLS: Final = Path(__file__).resolve().parent.parent / ".tools" / "bin"

# Below Linux's ephemeral range (32768 up), so that no outgoing connection takes a port while its server is down.
_PORTS: Final = range(12_000, 32_000)
_START_ATTEMPTS: Final = 5
_START_DEADLINE_S: Final = 60.0
_STOP_DEADLINE_S: Final = 20.0
_PAUSE_S: Final = 5.0
_POLL_S: Final = 0.02

# The kernel kills the server when this process dies, however it dies; the pid check closes the race before prctl.
_DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ToolMissingError(Exception):
    """A program that the tests need is not installed; the text says what to do."""


class LiveKitStartError(Exception):
    """livekit-server ended, or did not answer in time; the text ends with its log."""


def tool(name: str) -> Path:
    """The path of a program that `make` installs into `.tools/bin`; raises ToolMissingError where it is not there."""
    path = TOOLS / name
    if not os.access(path, os.X_OK):
        raise ToolMissingError(f".tools/bin/{name} is missing: run `make tools` (it needs Go)")
    return path


def dying_with_parent(*command: str) -> list[str]:
    """The command, to be started so that the kernel kills it when this process ends."""
    return [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *command]


class ReservedPort:
    """A loopback port that nobody else who picks ports this way gets, while the server may still listen on it.

    It is held by a TCP socket that is bound and never listens. Others bind without SO_REUSEADDR and are refused; the
    server (Go sets SO_REUSEADDR) may listen beside it. So the port stays ours while the server is down.
    """

    def __init__(self) -> None:
        for _ in range(1000):
            port = random.choice(_PORTS)
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                    holder.bind(("127.0.0.1", port))
                    udp.bind(("127.0.0.1", port))
            except OSError:
                holder.close()
                continue
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.number = port
            self._holder = holder
            return
        raise OSError("no free loopback port found")

    def release(self) -> None:
        """Whoever picks ports may have it."""
        self._holder.close()


class LiveKitProcess:
    """One livekit-server. `async with` starts it and ends it; a stopped one can be started again on the same ports.

    `binary` is the server's path, `directory` takes its configuration and log. `config` is merged over the default
    configuration (nested mappings too), so `{"room": {"max_participants": 2}}` changes that one setting; ports can be
    overridden there, and are then the caller's to keep free.
    Not bound to an event loop: any loop may call any method.
    """

    def __init__(self, binary: Path, directory: Path, config: Mapping[str, Any] | None = None) -> None:
        self.binary = binary
        self.api_key = "APItest"
        self.api_secret = secrets.token_hex(24)
        self.log_path = directory / "livekit.log"
        self.version = ""
        """Its version, such as `1.13.5`; known once it was started."""
        self._directory = directory
        self._overrides = config or {}
        self._ports: list[ReservedPort] = []
        self._config: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """TCP port of the API and the signalling."""
        return int(self._config["port"])

    @property
    def url(self) -> str:
        """What LIVEKIT_URL takes: `ws://127.0.0.1:PORT`."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        """The same as `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def debug_url(self) -> str:
        """Base of the debug handler; `/debug/rooms` lists rooms with every DownTrack."""
        return f"http://127.0.0.1:{self._debug_port}"

    @property
    def _debug_port(self) -> int:
        return int(self._config.get("debug_handler", self._config)["port"])

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError("livekit-server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives; one that is paused does."""
        return self._process is not None and self._process.poll() is None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start the server and return once it answers. Raises LiveKitStartError."""
        if self.running:
            raise RuntimeError("livekit-server is running already")
        if not self.version:
            self.version = await asyncio.to_thread(_version, self.binary)
        again = bool(self._ports)
        for attempt in range(1, _START_ATTEMPTS + 1):
            if not again:
                self._choose_ports()
            self._spawn()
            try:
                await self._until_answering()
            except LiveKitStartError:
                await self.kill()
                if attempt == _START_ATTEMPTS:
                    raise
            except BaseException:
                await self.kill()
                raise
            else:
                return

    async def stop(self) -> None:
        """End the server as an operator does, its participants included; it may be started again."""
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        # The first signal waits for participants to leave, the second does not.
        if not await self._ended(0.1):
            self._signal(signal.SIGTERM)
        if not await self._ended(_STOP_DEADLINE_S):
            self._signal(signal.SIGKILL)
            await self._ended(_STOP_DEADLINE_S)
        self._process = None

    async def kill(self) -> None:
        """End the server with SIGKILL: no goodbye to anybody. It may be started again."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        await self._ended(_STOP_DEADLINE_S)
        self._process = None

    async def restart(self) -> None:
        """Stop the server and start it on the same ports, with the same key."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freeze the process: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + _PAUSE_S
        # A thread of it that is in the kernel goes on for a moment.
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "LiveKit does not stop"
            time.sleep(0.005)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal(signal.SIGCONT)

    async def aclose(self) -> None:
        """End the server for good and give its ports back. May be called twice."""
        await self.kill()
        for port in self._ports:
            port.release()
        self._ports.clear()

    async def debug_rooms(self) -> list[dict[str, Any]]:
        """The server's own view of its rooms (`/debug/rooms`), with tracks, DownTracks and their layers."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.debug_url}/debug/rooms") as answer:
            answer.raise_for_status()
            rooms: list[dict[str, Any]] = await answer.json(content_type=None)
            return rooms

    def log(self) -> str:
        """Everything that the server has written, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _choose_ports(self) -> None:
        for port in self._ports:
            port.release()
        self._ports = [ReservedPort() for _ in range(3)]
        http, media, debug = (port.number for port in self._ports)
        defaults: dict[str, Any] = {
            "port": http,
            "bind_addresses": ["127.0.0.1"],
            "rtc": {
                "udp_port": media,
                "tcp_port": media,
                "node_ip": "127.0.0.1",
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo"]},
            },
            "keys": {self.api_key: self.api_secret},
            "room": {"enable_remote_unmute": True},
            "logging": {"level": "info", "json": False},
        }
        # 1.11.0 has no debug handler of its own: it serves /debug/rooms on its API port, in development mode.
        if self.version == "1.11.0":
            defaults["development"] = True
        else:
            defaults["debug_handler"] = {"port": debug}
        self._config = _merged(defaults, self._overrides)

    def _spawn(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / "livekit.yaml"
        file.write_text(json.dumps(self._config, indent=2))  # JSON is YAML.
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_parent(str(self.binary), "--config", str(file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def _until_answering(self) -> None:
        deadline = time.monotonic() + _START_DEADLINE_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while self.running:
                # Another server may have got the port: an answer counts only if the port is this process's.
                if self._listens():
                    try:
                        async with session.get(self.http_url) as answer:
                            if answer.status == 200:
                                return
                    except (aiohttp.ClientError, TimeoutError):
                        pass
                if time.monotonic() > deadline:
                    raise LiveKitStartError(
                        f"livekit-server did not answer in {_START_DEADLINE_S:.0f} s\n{self._tail()}"
                    )
                await asyncio.sleep(_POLL_S)
        raise LiveKitStartError(f"livekit-server ended at its start\n{self._tail()}")

    def _listens(self) -> bool:
        try:
            connections = psutil.Process(self.pid).net_connections("tcp")
        except psutil.Error:
            return False
        listening = {entry.laddr.port for entry in connections if entry.status == psutil.CONN_LISTEN}
        return {self.port, self._debug_port} <= listening

    def _tail(self) -> str:
        return "\n".join(self.log().splitlines()[-20:])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    async def _ended(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True


def _version(binary: Path) -> str:
    words = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=45).stdout.split()
    return words[-1]


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result
