"""The idle transport: what it does with bad offers, and which ICE servers it uses. Real servers are in test_signal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from livekit.protocol import rtc

from track_server.livekit.transport import SubscriberTransport, TransportFailed, relays

_OFFER = """v=0
a=fingerprint:sha-256 {digest}
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:0
a=setup:actpass
a=ice-ufrag:{ufrag}
a=ice-pwd:remotepasswordremotepassword
"""


class _Server:
    """Stands where signalling is: keeps what the transport sends."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[rtc.SignalRequest] = asyncio.Queue()
        self.transport = SubscriberTransport([], self.requests.put, timeout_s=5.0)

    def offer(self, number: int, ufrag: str = "ufrag", digest: str = "AA:BB") -> None:
        sdp = _OFFER.format(ufrag=ufrag, digest=digest)
        self.transport.offer(rtc.SessionDescription(type="offer", sdp=sdp, id=number))


def _sockets() -> int:
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("socket:")
    return count


@pytest_asyncio.fixture(autouse=True)
async def _no_socket_left_open() -> AsyncIterator[None]:
    before = _sockets()
    yield
    async with asyncio.timeout(45):
        while _sockets() > before:
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def server(_no_socket_left_open: None) -> AsyncIterator[_Server]:
    server = _Server()
    server.transport.start()
    yield server
    await server.transport.aclose()


async def test_every_offer_is_answered_with_its_id(server: _Server) -> None:
    server.offer(7)
    server.offer(8)
    answers = [(await server.requests.get()).answer for _ in range(2)]
    assert [(answer.type, answer.id) for answer in answers] == [("answer", 7), ("answer", 8)]
    assert len({answer.sdp for answer in answers}) == 2


@pytest.mark.parametrize("change", [{"ufrag": "other"}, {"digest": "CC:DD"}])
async def test_offer_of_another_connection_fails_the_transport(server: _Server, change: dict[str, str]) -> None:
    server.offer(1)
    server.offer(2, **change)
    with pytest.raises(TransportFailed, match="ICE restart"):
        await server.transport.wait_connected()
    assert not server.transport.connected


async def test_offer_that_cannot_be_read_fails_the_transport(server: _Server) -> None:
    server.transport.offer(rtc.SessionDescription(type="offer", sdp="nonsense"))
    with pytest.raises(TransportFailed, match="SessionDescription could not be used"):
        await server.transport.wait_connected()


@pytest.mark.parametrize(
    "candidate",
    [
        "",
        "{}",
        '{"candidate": ""}',
        '{"candidate": "candidate:1 1 tcp 1 192.0.2.1 7881 typ host tcptype passive"}',
        '{"candidate": "candidate:1 1 udp 1 00000000-0000-0000-0000-000000000000.local 7882 typ host"}',
        '{"candidate": "candidate:1 1 udp 1 192.0.2.1 7882 typ host"}',
    ],
)
async def test_candidates_of_any_kind_are_taken(server: _Server, candidate: str) -> None:
    server.offer(1)
    server.transport.trickle(rtc.TrickleRequest(candidateInit=candidate, target=rtc.SUBSCRIBER))
    server.transport.trickle(rtc.TrickleRequest(candidateInit="not even JSON", target=rtc.PUBLISHER))
    server.offer(2)
    assert [(await server.requests.get()).answer.id for _ in range(2)] == [1, 2]


async def test_no_offer_fails_the_transport_in_time() -> None:
    server = _Server()
    server.transport = SubscriberTransport([], server.requests.put, timeout_s=0.1)
    server.transport.start()
    with pytest.raises(TransportFailed, match="no offer from LiveKit"):
        await server.transport.wait_connected()
    await server.transport.aclose()
    await server.transport.aclose()


def test_only_turn_servers_are_used_and_those_over_tcp_and_tls_first() -> None:
    servers = [
        rtc.ICEServer(urls=["stun:stun.example.com:3478"]),
        rtc.ICEServer(urls=["turn:192.0.2.1:3478?transport=udp", "turns:turn.example.com:443?transport=tcp"]),
        rtc.ICEServer(urls=["not a url"]),
        rtc.ICEServer(urls=["turn:192.0.2.2:3478?transport=tcp"], username="user", credential="secret"),
    ]
    found = relays(servers)
    assert [each.urls for each in found] == [
        "turns:turn.example.com:443?transport=tcp",
        "turn:192.0.2.2:3478?transport=tcp",
        "turn:192.0.2.1:3478?transport=udp",
    ]
    assert (found[1].username, found[1].credential) == ("user", "secret")
    assert relays([]) == []
