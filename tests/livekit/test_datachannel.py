"""What is read of data messages, from a peer that sends as fast as it can."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceTransport,
    RTCSctpTransport,
)
from livekit.protocol import models

from track_server.livekit.datachannel import DataInbox, DataMessage

# As the module promises: so much at once, and so much a second from then on.
_BURST_BYTES = 256 * 1024
_BYTES_PER_S = 128 * 1024
_MESSAGES = 48
_MESSAGE_BYTES = 8 * 1024


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[RTCDtlsTransport, RTCDtlsTransport]]:
    """Two ends over loopback; the first is the one that calls."""
    ice = [RTCIceTransport(RTCIceGatherer([])) for _ in range(2)]
    ends = [RTCDtlsTransport(each, [RTCCertificate.generateCertificate()]) for each in ice]
    try:
        for each in ice:
            await each.iceGatherer.gather()
        for mine, other in (ice, reversed(ice)):
            for candidate in other.iceGatherer.getLocalCandidates():
                await mine.addRemoteCandidate(candidate)
            await mine.addRemoteCandidate(None)
        ice[0]._connection.ice_controlling = True
        ice[1]._connection.ice_controlling = False
        await asyncio.gather(
            ice[0].start(ice[1].iceGatherer.getLocalParameters()), ice[1].start(ice[0].iceGatherer.getLocalParameters())
        )
        await asyncio.gather(ends[0].start(ends[1].getLocalParameters()), ends[1].start(ends[0].getLocalParameters()))
        yield ends[0], ends[1]
    finally:
        for end in ends:
            await end.stop()
        for each in ice:
            await each.stop()


async def test_what_everybody_may_send_is_read_at_a_bounded_rate_and_nothing_of_it_is_lost() -> None:
    got: list[DataMessage] = []
    async with _connected() as (theirs, ours):
        sending = RTCSctpTransport(theirs)
        channel = RTCDataChannel(sending, RTCDataChannelParameters(label="_reliable"))
        inbox = DataInbox(ours, got.append)
        try:
            await asyncio.gather(sending.start(RTCSctpTransport.getCapabilities(), 5000), inbox.open())
            assert inbox.behind_s == 0
            began = time.monotonic()
            for number in range(_MESSAGES):
                user = models.UserPacket(payload=bytes(_MESSAGE_BYTES), topic=str(number))
                channel.send(models.DataPacket(user=user, participant_identity="ann").SerializeToString())
            behind_s = 0.0
            async with asyncio.timeout(45):
                while len(got) < _MESSAGES:
                    behind_s = max(behind_s, inbox.behind_s)
                    await asyncio.sleep(0.01)
            took_s = time.monotonic() - began
        finally:
            await inbox.aclose()
            await sending.stop()
    assert [(each.sender, each.topic, len(each.payload)) for each in got] == [
        ("ann", str(number), _MESSAGE_BYTES) for number in range(_MESSAGES)
    ]
    assert took_s >= (_MESSAGES * _MESSAGE_BYTES - _BURST_BYTES) / _BYTES_PER_S
    assert behind_s > 0
