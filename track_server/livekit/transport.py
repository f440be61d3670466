"""The subscriber peer connection of a participant that wants no media.

LiveKit removes a participant whose transport is not up in time. So ICE and DTLS come up, on aiortc's transports, and
every offer is answered; there are no receivers, nothing is decoded, and there are no data channels unless they are
wanted.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from aiortc import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceServer,
    RTCIceTransport,
)
from aiortc.rtcicetransport import parse_stun_turn_uri
from aiortc.sdp import candidate_from_sdp, candidate_to_sdp
from livekit.protocol import rtc

from track_server.livekit.datachannel import DataInbox, OnMessage
from track_server.livekit.sdp import LocalEnd, Offer, idle_answer, parse_offer

log = structlog.get_logger(__name__)

SendRequest = Callable[[rtc.SignalRequest], Awaitable[None]]

_LOST: Final = frozenset({"closed", "failed"})

# LiveKit's ICE agent nominates at once if our check follows its own, and otherwise at its next tick, 200 ms later
# (measured: up after 40 ms instead of 210). A lite agent makes no checks.
_CHECK_DELAY_S: Final = 0.02
_DTLS_CLOSE_TIMEOUT_S: Final = 1.0


class TransportFailed(Exception):
    """The peer connection did not come up, or was lost; the text says why. Signalling may go on without it."""


class SubscriberTransport:
    """Answers LiveKit's offers and keeps one ICE and DTLS transport up.

    ``offer`` and ``trickle`` take what signalling brings, in order, without waiting; ``send`` carries the answers.
    Of ``ice_servers`` only TURN is used: a server that can be reached needs no STUN to learn our address, and LiveKit's
    default list names public ones. ``on_data``: data channels are wanted; told of each reliable data message. The
    transport is up once they are. Call ``start`` once; ``aclose`` may be called twice.
    """

    def __init__(
        self,
        ice_servers: Iterable[rtc.ICEServer],
        send: SendRequest,
        *,
        timeout_s: float,
        on_data: OnMessage | None = None,
    ) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._gatherer = RTCIceGatherer(relays(ice_servers))
        self._ice = RTCIceTransport(self._gatherer)
        self._dtls = RTCDtlsTransport(self._ice, [RTCCertificate.generateCertificate()])
        self._dtls.on("statechange", self._on_dtls_state)
        self._inbox = DataInbox(self._dtls, on_data) if on_data is not None else None
        self._signals: asyncio.Queue[rtc.SessionDescription | rtc.TrickleRequest] = asyncio.Queue()
        self._first_offer: asyncio.Future[Offer] = asyncio.get_running_loop().create_future()
        self._answers = 0
        self._settled = asyncio.Event()
        self._dtls_ended = asyncio.Event()
        self._failure = ""
        self._gathering: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._releasing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the transport is up now."""
        return not self._failure and self._dtls.state == "connected"

    @property
    def behind_s(self) -> float:
        """For how many seconds more data has come than is read."""
        return self._inbox.behind_s if self._inbox is not None else 0.0

    async def wait_connected(self) -> None:
        """Return once the transport is up; raises TransportFailed at the latest after the timeout."""
        await self._settled.wait()
        if self._failure:
            raise TransportFailed(self._failure)

    def start(self) -> None:
        """Begin to gather candidates; the timeout runs from here."""
        self._gathering = asyncio.create_task(self._gatherer.gather(), name="transport-gather")
        self._tasks = [
            asyncio.create_task(self._negotiate(self._gathering), name="transport-negotiate"),
            asyncio.create_task(self._connect(), name="transport-connect"),
        ]

    def offer(self, description: rtc.SessionDescription) -> None:
        """Take an offer; it is answered once the candidates are gathered."""
        self._signals.put_nowait(description)

    def trickle(self, trickle: rtc.TrickleRequest) -> None:
        """Take a candidate of the server."""
        if trickle.target == rtc.SUBSCRIBER:
            self._signals.put_nowait(trickle)

    async def aclose(self) -> None:
        """Close the connection; takes as long as an unreachable TURN server holds the gathering, 5 s at most."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="transport-close")
        await asyncio.shield(self._closing)

    async def _negotiate(self, gathering: asyncio.Task[None]) -> None:
        # Never cancelled while it gathers: aioice would lose the sockets that it has just opened.
        await asyncio.shield(gathering)
        while True:
            signal = await self._signals.get()
            try:
                if isinstance(signal, rtc.TrickleRequest):
                    await self._add_candidate(signal)
                else:
                    await self._answer(signal)
            except Exception as error:
                log.warning("transport_signal_rejected", exc_info=True)
                await self._fail(f"LiveKit's {type(signal).__name__} could not be used: {error}")
                return

    async def _answer(self, description: rtc.SessionDescription) -> None:
        offer = parse_offer(description.sdp)
        if not self._first_offer.done():
            # RFC 8445, 6.1.1: of two full agents the offering one controls; a lite one never does.
            self._ice._connection.ice_controlling = offer.ice_lite
        elif self._first_offer.result().transport != offer.transport:
            raise ValueError("ICE restart is not supported")
        self._answers += 1
        answer = rtc.SessionDescription(
            type="answer",
            sdp=idle_answer(offer, self._local_end(), version=self._answers, data=self._inbox is not None),
            id=description.id,
        )
        await self._send(rtc.SignalRequest(answer=answer))
        if not self._first_offer.done():
            self._first_offer.set_result(offer)

    async def _add_candidate(self, trickle: rtc.TrickleRequest) -> None:
        value = json.loads(trickle.candidateInit or "{}").get("candidate", "").removeprefix("candidate:")
        if value:
            candidate = candidate_from_sdp(value)
            # aioice speaks UDP only; an mDNS name would make it listen for multicast.
            if candidate.protocol.lower() == "udp" and not candidate.ip.endswith(".local"):
                await self._ice.addRemoteCandidate(candidate)
        if trickle.final:
            await self._ice.addRemoteCandidate(None)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                offer = await asyncio.shield(self._first_offer)
                if not offer.ice_lite:
                    await asyncio.sleep(_CHECK_DELAY_S)
                await self._ice.start(RTCIceParameters(offer.ice_ufrag, offer.ice_pwd, offer.ice_lite))
                if self._ice.state == "completed":
                    fingerprints = [RTCDtlsFingerprint(*fingerprint) for fingerprint in offer.fingerprints]
                    await self._dtls.start(RTCDtlsParameters(fingerprints))
                if self._inbox is not None and self._dtls.state == "connected":
                    await self._inbox.open()
        except TimeoutError:
            stage = "ICE" if self._ice.state != "completed" else "DTLS"
            if self._dtls.state == "connected":
                stage = "data channel"
            if not self._first_offer.done():
                stage = "no offer from LiveKit;"
            await self._fail(f"{stage} not connected within {self._timeout_s:g} s")
        except Exception as error:
            log.warning("transport_error", exc_info=True)
            await self._fail(f"transport error: {error}")
        else:
            if self._dtls.state == "connected":
                self._settled.set()
            else:
                await self._fail(f"ICE {self._ice.state}, DTLS {self._dtls.state}")

    def _local_end(self) -> LocalEnd:
        parameters = self._gatherer.getLocalParameters()
        fingerprints = [each for each in self._dtls.getLocalParameters().fingerprints if each.algorithm == "sha-256"]
        return LocalEnd(
            ice_ufrag=parameters.usernameFragment or "",
            ice_pwd=parameters.password or "",
            fingerprints=tuple((each.algorithm, each.value) for each in fingerprints),
            # aiortc derives the DTLS role from the ICE role in the same way.
            setup="passive" if self._ice.role == "controlling" else "active",
            candidates=tuple(candidate_to_sdp(each) for each in self._gatherer.getLocalCandidates()),
        )

    def _on_dtls_state(self) -> None:
        if self._dtls.state in _LOST:
            self._failure = self._failure or "transport lost"
            self._settled.set()
            self._dtls_ended.set()

    async def _fail(self, failure: str) -> None:
        self._failure = self._failure or failure
        self._settled.set()
        await asyncio.shield(self._released())

    def _released(self) -> asyncio.Task[None]:
        # One task and never cancelled: aioice does not go on with a close that was interrupted, and keeps its sockets.
        if self._releasing is None:
            self._releasing = asyncio.create_task(self._release(), name="transport-release")
        return self._releasing

    async def _release(self) -> None:
        if self._gathering is not None:
            await asyncio.gather(self._gathering, return_exceptions=True)
        if self._inbox is not None:
            await self._inbox.aclose()
        if self._dtls.state == "connected":
            await self._dtls.stop()
            # stop() cancels aiortc's task and does not wait for it; the task's last act is to say "closed".
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DTLS_CLOSE_TIMEOUT_S):
                    await self._dtls_ended.wait()
        else:
            await self._dtls.stop()
        await self._ice.stop()

    async def _close(self) -> None:
        self._failure = self._failure or "closed"
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._first_offer.cancel()
        await asyncio.shield(self._released())
        self._settled.set()


def relays(ice_servers: Iterable[rtc.ICEServer]) -> list[RTCIceServer]:
    """The TURN servers of LiveKit's list, TCP and TLS first: aiortc takes one, and what may be missing is UDP."""
    found: list[tuple[bool, RTCIceServer]] = []
    for server in ice_servers:
        for url in server.urls:
            try:
                parsed = parse_stun_turn_uri(url)
            except ValueError:
                log.warning("ice_server_ignored", url=url)
                continue
            if parsed["scheme"] in ("turn", "turns"):
                relay = RTCIceServer(urls=url, username=server.username, credential=server.credential)
                found.append((parsed["transport"] == "udp", relay))
    return [relay for _, relay in sorted(found, key=lambda each: each[0])]
