"""The relay itself: what it is told to let pass passes, and it knows exactly what."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final, cast

import pytest
import pytest_asyncio

from tests.impairment.line import Bounds, Way, ssrc_of
from tests.impairment.relay import Relay

RTP: Final = bytes([0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0x12, 0x34])


class Echo(asyncio.DatagramProtocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


@pytest_asyncio.fixture
async def relay() -> AsyncIterator[Relay]:
    """One with an echo behind it."""
    async with Relay() as relay:
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", relay.port))
        yield relay
        server.close()


async def echoed(relay: Relay, *packets: bytes) -> list[bytes]:
    """What comes back to a client that sends these, once as many came."""
    back: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.2", relay.port))
        for packet in packets:
            client.send(packet)
        async with asyncio.timeout(20):
            while len(back) < len(packets):
                back.append(await asyncio.get_running_loop().sock_recv(client, 65_536))
    return back


async def test_everything_passes_without_bounds(relay: Relay) -> None:
    packets = [RTP + bytes([number]) for number in range(50)]
    assert sorted(await echoed(relay, *packets)) == packets
    (flow,) = relay.flows
    assert flow.up.counts.passed.packets == flow.down.counts.passed.packets == 50
    assert flow.up.counts.passed_by_ssrc[0x1234].bytes == 50 * 13
    assert not flow.down.counts.dropped_by_ssrc


async def test_clients_have_flows_of_their_own(relay: Relay) -> None:
    await echoed(relay, b"one")
    with relay.joining(down=Bounds(1e6)) as joined:
        await echoed(relay, b"two")
    await echoed(relay, b"three")
    assert joined == relay.flows[1:2]
    assert [flow.down.bounds.rate_bps for flow in relay.flows] == [None, 1e6, None]


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    way = Way(Bounds(rate_bps=8_000, queue_bytes=100))
    packet = RTP + bytes(28)
    through = [way.take(packet, 10.0) for _ in range(4)]
    assert through == [pytest.approx(10.04), pytest.approx(10.08), None, None]
    assert way.counts.passed_by_ssrc[0x1234].packets == 2
    assert way.counts.dropped_by_ssrc[0x1234].packets == 2
    assert way.take(packet, 11.0) == pytest.approx(11.04)


def test_a_second_carries_what_its_rate_says() -> None:
    way = Way(Bounds(rate_bps=500_000))
    through = [way.take(bytes(1200), 100 + number / 200) for number in range(2000)]
    inside = [at for at in through if at is not None and 103 <= at < 105]
    assert abs(len(inside) * 1200 * 8 / 2 - 500_000) < 10_000


def test_only_rtp_has_an_ssrc() -> None:
    assert ssrc_of(RTP) == 0x1234
    assert ssrc_of(bytes([0x80, 200]) + RTP[2:]) is None
    assert ssrc_of(bytes([0x16]) + RTP[1:]) is None
    assert ssrc_of(RTP[:11]) is None
