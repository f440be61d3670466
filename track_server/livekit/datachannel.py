"""The data channels of a peer connection, as far as a participant needs them that only takes reliable messages."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog
from aiortc import RTCDataChannel, RTCDtlsTransport, RTCSctpTransport
from aiortc.rtcsctptransport import RTCSctpCapabilities
from google.protobuf.message import DecodeError
from livekit.protocol import models

from track_server.allowance import Allowance
from track_server.livekit.sdp import MAX_MESSAGE_BYTES, SCTP_PORT

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DataMessage:
    """A data message of a participant. ``sender``, ``sender_sid``: its identity and connection, as LiveKit says; empty
    for LiveKit's own API."""

    sender: str
    sender_sid: str
    topic: str
    payload: bytes = field(repr=False)


OnMessage: TypeAlias = Callable[[DataMessage], None]
"""Is told of a data message. It must neither wait nor raise."""

# Labels of LiveKit's data channels; it opens three, of which the others carry lossy messages and data tracks.
_RELIABLE: Final = "_reliable"

# What is read at most. SCTP is done in Python here, a kilobyte in about 0.4 ms, and everybody in the room may send.
# Beyond, it is read later: the window fills, and LiveKit keeps megabytes for who reads slowly.
_BYTES_PER_S: Final = 128 * 1024.0
_BURST_BYTES: Final = 256 * 1024.0
_WINDOW_BYTES: Final = 128 * 1024
_PAUSE_S: Final = 0.02


class DataInbox:
    """Takes what LiveKit sends over data channels, on a DTLS transport. ``aclose`` may be called twice."""

    def __init__(self, dtls: RTCDtlsTransport, on_message: OnMessage) -> None:
        self._told = on_message
        self._sctp = _Sctp(dtls)
        self._sctp.on("datachannel", self._on_channel)
        self._opened = asyncio.Event()

    async def open(self) -> None:
        """Returns once messages are taken. The DTLS transport is connected before."""
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=MAX_MESSAGE_BYTES), SCTP_PORT)
        await self._opened.wait()

    @property
    def behind_s(self) -> float:
        """For how many seconds more has come than is read: messages are late by as much, at least."""
        return self._sctp.behind_s

    async def aclose(self) -> None:
        """Takes no more."""
        await self._sctp.stop()

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label == _RELIABLE:
            channel.on("message", self._on_message)
            self._opened.set()
        else:
            # LiveKit then sends nothing of what everybody in the room would get over it.
            channel.close()

    def _on_message(self, message: str | bytes) -> None:
        if isinstance(message, str):
            return
        try:
            packet = models.DataPacket.FromString(message)
        except DecodeError:
            log.debug("data_packet_unreadable", bytes=len(message))
            return
        if packet.WhichOneof("value") == "user":
            user, sid = packet.user, packet.participant_sid or packet.user.participant_sid
            self._told(DataMessage(packet.participant_identity, sid, user.topic, user.payload))


class _Sctp(RTCSctpTransport):
    """aiortc's, which reads no faster than it may."""

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        super().__init__(dtls, SCTP_PORT)
        self._advertised_rwnd = _WINDOW_BYTES
        self._allowance = Allowance(_BYTES_PER_S, _BURST_BYTES)
        self._behind_since: float | None = None

    @property
    def behind_s(self) -> float:
        """For how long more has come than is read."""
        return 0.0 if self._behind_since is None else time.monotonic() - self._behind_since

    async def _handle_data(self, data: bytes) -> None:
        # The DTLS transport waits for this before it reads on.
        waited = False
        while not self._allowance.take(len(data), time.monotonic()):
            waited = True
            self._behind_since = self._behind_since or time.monotonic()
            await asyncio.sleep(_PAUSE_S)
        if not waited:
            self._behind_since = None
        try:
            await super()._handle_data(data)
        except Exception:
            # Out of here it would end the whole transport without a word.
            log.warning("data_channel_error", exc_info=True)
