"""The demo's LiveKit server: a child process on free loopback ports, with a key of its own."""

import asyncio
import json
import os
import random
import secrets
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from track_server.demo.processes import ChildProcess, DemoError
from track_server.livekit.tokens import TokenMint

# Below Linux's ephemeral range (32768 up), so that no outgoing connection takes a port in between.
_PORTS: Final = range(12_000, 32_000)
_ATTEMPTS: Final = 5
_START_S: Final = 30.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class LiveKitServer:
    """A LiveKit server that runs."""

    process: ChildProcess
    url: str
    """ws://127.0.0.1:PORT"""
    debug_url: str
    """http://127.0.0.1:PORT of its debug handler."""
    api_key: str
    api_secret: str = field(repr=False)


def find_livekit_server(path: str | None) -> str:
    """The program to start: ``path``, or livekit-server on PATH. Raises DemoError with what to install."""
    if path is not None:
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
        raise DemoError(f"{path} is no program that can be run. `make demo` installs livekit-server and finds it.")
    found = shutil.which("livekit-server")
    if found is None:
        raise DemoError(
            "livekit-server is not on PATH. Run `make demo`, which installs it (Go is needed), or say where it is:"
            " track-server demo --livekit-server PATH"
        )
    return found


@asynccontextmanager
async def livekit_server(program: str, directory: Path) -> AsyncIterator[LiveKitServer]:
    """Start it for the span of the block; configuration and log lie in ``directory``. Raises DemoError."""
    for attempt in range(1, _ATTEMPTS + 1):
        async with AsyncExitStack() as stack:
            server = await _start(stack, program, directory)
            if await _answers(server):
                yield server
                return
            # A port may have been taken between the choice and the start.
            if attempt == _ATTEMPTS:
                raise DemoError(f"livekit-server did not start. Its last words:\n{server.process.tail()}")


async def _start(stack: AsyncExitStack, program: str, directory: Path) -> LiveKitServer:
    http, media, debug = _free_ports(3)
    key, secret = f"demo-{secrets.token_hex(4)}", secrets.token_urlsafe(32)
    configuration: dict[str, Any] = {
        "port": http,
        "bind_addresses": ["127.0.0.1"],
        "rtc": {
            "udp_port": media,
            "tcp_port": media,
            "node_ip": "127.0.0.1",
            "use_external_ip": False,
            "enable_loopback_candidate": True,
            "interfaces": {"includes": [_loopback()]},
        },
        "keys": {key: secret},
        "room": {"enable_remote_unmute": True},
        "debug_handler": {"port": debug},
        "logging": {"level": "info", "json": False},
    }
    file = directory / "livekit.yaml"
    file.touch(mode=0o600)
    file.write_text(json.dumps(configuration, indent=2))  # JSON is YAML.
    process = ChildProcess(
        "livekit-server", [program, "--config", file], directory / "livekit-server.log", impatient=True
    )
    await stack.enter_async_context(process)
    return LiveKitServer(process, f"ws://127.0.0.1:{http}", f"http://127.0.0.1:{debug}", key, secret)


async def _answers(server: LiveKitServer) -> bool:
    """Wait until it takes our key: whoever else may have got the port does not. False where it ends or says no."""
    url = f"{server.url.replace('ws://', 'http://')}/twirp/livekit.RoomService/ListRooms"
    headers = {"authorization": f"Bearer {TokenMint(server.api_key, server.api_secret).server()}"}
    try:
        async with asyncio.timeout(_START_S), aiohttp.ClientSession(headers=headers) as session:
            while server.process.running:
                try:
                    async with session.post(url, json={}) as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    await asyncio.sleep(_POLL_S)
    except TimeoutError:
        pass
    return False


def _free_ports(count: int) -> list[int]:
    """Ports that are free for TCP and UDP on loopback now."""
    ports: list[int] = []
    for port in random.sample(_PORTS, 1000):
        try:
            with (
                socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            ):
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise DemoError("No free loopback ports were found.")


def _loopback() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return "lo" if "lo" in names else "lo0"
