"""A UDP relay between clients and one server, in user space, with bounds on what passes and exact counts of it.

LiveKit sends all media through it when it is started with `behind(relay)`: as an ice-lite server it waits for clients
to come to the address that it names, which is the relay's.
"""

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from tests.livekit_process import ReservedPort

_ADDRESS: Final = "127.0.0.2"
_SERVER: Final = "127.0.0.1"
_LARGEST: Final = 65_536
_TURN: Final = 64
"""Datagrams read at once, before others have their turn."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one direction of a flow carries.

    ``rate_bps``: bits of UDP payload per second; None: no bound. ``queue_bytes``: what waits for its turn at most; what
    comes on top is dropped, as by a router.
    """

    rate_bps: float | None = None
    queue_bytes: int = 64_000


@dataclass(slots=True)
class Count:
    """Packets and their bytes."""

    packets: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.packets += 1
        self.bytes += size


@dataclass(slots=True)
class Counts:
    """What came to one direction of a flow, whole and by the SSRC of RTP, and what of it was passed and dropped."""

    passed: Count = field(default_factory=Count)
    dropped: Count = field(default_factory=Count)
    passed_by_ssrc: dict[int, Count] = field(default_factory=lambda: defaultdict(Count))
    dropped_by_ssrc: dict[int, Count] = field(default_factory=lambda: defaultdict(Count))

    def add(self, packet: bytes, *, passed: bool) -> None:
        """One more."""
        (self.passed if passed else self.dropped).add(len(packet))
        ssrc = ssrc_of(packet)
        if ssrc is not None:
            (self.passed_by_ssrc if passed else self.dropped_by_ssrc)[ssrc].add(len(packet))


class Way:
    """One direction of a flow. ``bounds`` may be changed at any time."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = Counts()
        self._free_s = 0.0

    def take(self, packet: bytes, now_s: float) -> float | None:
        """Counts the packet; the time at which it is through, or None where it is dropped."""
        rate, begun = self.bounds.rate_bps, max(self._free_s, now_s)
        if rate is None:
            self.counts.add(packet, passed=True)
            return begun
        fits = (begun - now_s) * rate / 8 + len(packet) <= self.bounds.queue_bytes
        self.counts.add(packet, passed=fits)
        if not fits:
            return None
        self._free_s = begun + len(packet) * 8 / rate
        return self._free_s


class Flow:
    """What one client address sends and is sent. ``up``: to the server; ``down``: from it."""

    def __init__(self, up: Bounds, down: Bounds) -> None:
        self.up = Way(up)
        self.down = Way(down)


class Relay:
    """`async with`: passes datagrams between clients of 127.0.0.2 and the server of the same port on 127.0.0.1.

    ``port``: reserved, for LiveKit to listen on. ``flows``: one for each address that a client sends from.
    """

    def __init__(self) -> None:
        self.flows: list[Flow] = []
        self._reserved = ReservedPort()
        self.port = self._reserved.number
        self._bounds = Bounds(), Bounds()
        self._by_client: dict[tuple[str, int], tuple[Flow, socket.socket]] = {}
        self._socket: socket.socket | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    async def __aenter__(self) -> Self:
        listening = _bound(_ADDRESS, self.port)
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening, self._from_clients, listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for each in [self._socket, *(upstream for _, upstream in self._by_client.values())]:
            if each is not None:
                loop.remove_reader(each)
                each.close()
        self._socket = None
        self._by_client.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
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

    def _from_clients(self, listening: socket.socket) -> None:
        for packet, client in _read(listening):
            flow, upstream = self._flow(client)
            self._pass(flow.up, packet, upstream, None)

    def _from_server(self, upstream: socket.socket, flow: Flow, client: tuple[str, int]) -> None:
        for packet, _ in _read(upstream):
            if self._socket is not None:
                self._pass(flow.down, packet, self._socket, client)

    def _flow(self, client: tuple[str, int]) -> tuple[Flow, socket.socket]:
        """That of the client's address, a new one where it has none."""
        known = self._by_client.get(client)
        if known is None:
            flow, upstream = Flow(*self._bounds), _bound(_SERVER, 0)
            upstream.connect((_SERVER, self.port))
            known = self._by_client[client] = flow, upstream
            self.flows.append(flow)
            asyncio.get_running_loop().add_reader(upstream, self._from_server, upstream, flow, client)
        return known

    def _pass(self, way: Way, packet: bytes, to: socket.socket, client: tuple[str, int] | None) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        through = way.take(packet, now)
        if through is None:
            return
        if through <= now:
            _send(to, packet, client)
            return

        def late() -> None:
            self._timers.discard(timer)
            _send(to, packet, client)

        timer = loop.call_at(through, late)
        self._timers.add(timer)


def behind(relay: Relay) -> dict[str, Any]:
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


def ssrc_of(packet: bytes) -> int | None:
    """The SSRC of an RTP packet; None for STUN, DTLS (RFC 7983) and RTCP (RFC 5761)."""
    if len(packet) < 12 or not 128 <= packet[0] <= 191 or 192 <= packet[1] <= 223:
        return None
    return int.from_bytes(packet[8:12], "big")


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


def _send(to: socket.socket, packet: bytes, client: tuple[str, int] | None) -> None:
    # A full buffer of the kernel, or a server that is gone, loses it as a network does.
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
        if client is None:
            to.send(packet)
        else:
            to.sendto(packet, client)
