"""A UDP relay between clients and one server, in user space, with bounds on what passes and exact counts of it.

LiveKit sends all media through it when it is started with `behind(relay)`: as an ice-lite server it waits for clients
to come to the address that it names, which is the relay's.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any, Final, Protocol, Self

from tests.impairment.line import Bounds, Way
from tests.livekit_process import ReservedPort

_ADDRESS: Final = "127.0.0.2"
_SERVER: Final = "127.0.0.1"
_LARGEST: Final = 65_536
_TURN: Final = 64
"""Datagrams read at once, before others have their turn."""
_LATEST: Final = 100_000


class Flow:
    """What one client address sends and is sent. ``up``: to the server; ``down``: from it."""

    def __init__(self, up: Bounds, down: Bounds, *, seed: int = 0, logged: bool = False) -> None:
        self.up = Way(up, seed=2 * seed, logged=logged)
        self.down = Way(down, seed=2 * seed + 1, logged=logged)


class Relay:
    """`async with`: passes datagrams between clients of 127.0.0.2 and the server of the same port on 127.0.0.1.

    ``port``: reserved, for LiveKit to listen on. ``flows``: one for each address that a client sends from.
    ``lateness_s``: how much later than it was due each of the last packets was sent that had to wait: what this process
    adds of its own. ``unsent``: what the kernel did not take, which is in no count of drops. ``seed``: of all that is
    drawn; ``logged``: every RTP packet is noted.
    """

    def __init__(self, *, seed: int = 0, logged: bool = False) -> None:
        self.flows: list[Flow] = []
        self.lateness_s: deque[float] = deque(maxlen=_LATEST)
        self.unsent = 0
        self._seed = seed
        self._logged = logged
        self._reserved = ReservedPort()
        self.port = self._reserved.number
        self._bounds = Bounds(), Bounds()
        self._by_client: dict[tuple[str, int], _Passage] = {}
        self._socket: socket.socket | None = None
        self._begun = 0

    async def __aenter__(self) -> Self:
        listening = _bound(_ADDRESS, self.port)
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening, self._from_clients, listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget(self.flows)
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._reserved.release()

    @contextlib.contextmanager
    def joining(self, *, up: Bounds | None = None, down: Bounds | None = None) -> Iterator[list[Flow]]:
        """Flows that begin in the block get these bounds: those of one who joins in it. The list has them then."""
        before, begun = self._bounds, len(self.flows)
        self._bounds = up or before[0], down or before[1]
        joined: list[Flow] = []
        try:
            yield joined
        finally:
            self._bounds = before
            joined += self.flows[begun:]

    def forget(self, flows: Collection[Flow]) -> None:
        """Those who sent from there are gone: their addresses may be given to others. Nothing passes any more."""
        for client, passage in [each for each in self._by_client.items() if each[1].flow in flows]:
            del self._by_client[client]
            passage.close()
        self.flows = [flow for flow in self.flows if flow not in flows]

    def _from_clients(self, listening: socket.socket) -> None:
        for packet, client in _read(listening):
            passage = self._by_client.get(client)
            if passage is None:
                self._begun += 1
                seed = 1000 * self._seed + self._begun
                flow = Flow(*self._bounds, seed=seed, logged=self._logged)
                passage = self._by_client[client] = _Passage(self, flow, listening, client)
                self.flows.append(flow)
            passage.up.add(packet)


class _Passage:
    """The two ways of one client, and the socket that the server sees it by."""

    def __init__(self, relay: Relay, flow: Flow, listening: socket.socket, client: tuple[str, int]) -> None:
        self.flow = flow
        self._upstream = _bound(_SERVER, 0)
        self._upstream.connect((_SERVER, relay.port))
        self.up = _Exit(relay, flow.up, self._upstream.send)
        self._down = _Exit(relay, flow.down, lambda packet: listening.sendto(packet, client))
        asyncio.get_running_loop().add_reader(self._upstream, self._from_server)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._upstream)
        self.up.close()
        self._down.close()
        self._upstream.close()

    def _from_server(self) -> None:
        for packet, _ in _read(self._upstream):
            self._down.add(packet)


class _Exit:
    """Sends what one way lets pass, in order, each when it is through."""

    def __init__(self, relay: Relay, way: Way, send: Callable[[bytes], int]) -> None:
        self._relay = relay
        self._way = way
        self._to = send
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, packet: bytes) -> None:
        now = asyncio.get_running_loop().time()
        through = self._way.take(packet, now)
        if through is None:
            return
        if through <= now and not self._waiting:
            self._send(packet)
            return
        self._waiting.append((through, packet))
        if self._timer is None:
            self._wait()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self._late)

    def _late(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0][0] <= now:
            through, packet = self._waiting.popleft()
            self._relay.lateness_s.append(now - through)
            self._send(packet)
        if self._waiting:
            self._wait()

    def _send(self, packet: bytes) -> None:
        try:
            self._to(packet)
        except BlockingIOError:
            # A full buffer of the kernel.
            self._relay.unsent += 1
        except ConnectionRefusedError:
            # The server is gone.
            pass


def behind(relay: "Listening") -> dict[str, Any]:
    """LiveKit's configuration with which all media passes the relay."""
    return {
        "rtc": {
            "udp_port": relay.port,
            "tcp_port": 0,
            "node_ip": _ADDRESS,
            "use_ice_lite": True,
            "enable_loopback_candidate": True,
            "interfaces": {"includes": ["lo"]},
        }
    }


class Listening(Protocol):
    """A relay, here or in another process."""

    @property
    def port(self) -> int:
        """Where the server is to listen."""


def _bound(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    made.bind((address, port))
    return made


def _read(source: socket.socket) -> Iterator[tuple[bytes, tuple[str, int]]]:
    for _ in range(_TURN):
        try:
            yield source.recvfrom(_LARGEST)
        except (BlockingIOError, InterruptedError, ConnectionRefusedError):
            # Refused: nobody listens there (any more), as the kernel tells of a datagram before.
            return
