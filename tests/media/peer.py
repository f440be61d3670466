"""The server's end of MediaService: it records what sessions report, and says what a test says."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
import jwt
from google.protobuf import json_format
from livekit import api

from tests.livekit_process import LiveKitProcess
from track.media.v1.media_service_pb2 import (
    HOSTED_TRACK_STATE_PUBLISHED,
    AttachRequest,
    AttachResponse,
    DesiredTrack,
    HostedTrackReport,
    HostedTrackState,
    SessionAudience,
    SessionDesired,
    SessionEnded,
    SessionHello,
    SessionStats,
    SessionStop,
    SessionTicket,
)
from track.media.v1.media_service_pb2_grpc import MediaServiceServicer, add_MediaServiceServicer_to_server
from track.v1.publication_pb2 import AudioOptions, PublicationSpec, VideoCodec, VideoOptions
from track.v1.track_pb2 import TrackSource

DEADLINE_S = 45.0


class PeerSession:
    """A session, as the server sees it."""

    def __init__(self, room: str, identity: str) -> None:
        self.room_sid = ""
        """Of the room that is meant."""
        self.session_id = f"ms-{uuid.uuid4().hex[:8]}"
        self.room, self.identity = room, identity
        self.generation = 1
        self.hellos: list[SessionHello] = []
        self.reports: list[HostedTrackReport] = []
        self.stats: list[SessionStats] = []
        self.audiences: list[int] = []
        """Revisions of the audiences that LiveKit was told."""
        self.ended: SessionEnded | None = None
        self.attached = 0
        self._desired = SessionDesired()
        self._outboxes: set[asyncio.Queue[AttachResponse | None]] = set()

    def desire(
        self, *tracks: DesiredTrack, stats_interval_s: float = 0, audience: SessionAudience | None = None
    ) -> None:
        self._desired = SessionDesired(tracks=tracks, audience=audience)
        if stats_interval_s:
            self._desired.stats_interval.FromMilliseconds(int(stats_interval_s * 1000))
        self._tell(AttachResponse(desired=self._desired))

    def stop(self) -> None:
        self._tell(AttachResponse(stop=SessionStop()))

    def _tell(self, response: AttachResponse) -> None:
        for outbox in self._outboxes:
            outbox.put_nowait(response)

    @contextlib.contextmanager
    def commands(self) -> Any:
        outbox: asyncio.Queue[AttachResponse | None] = asyncio.Queue()
        outbox.put_nowait(AttachResponse(desired=self._desired))
        self._outboxes.add(outbox)
        try:
            yield outbox
        finally:
            self._outboxes.discard(outbox)

    async def heard(self, request: AttachRequest) -> None:
        match request.WhichOneof("report"):
            case "hello":
                self.hellos.append(request.hello)
            case "track":
                self.reports.append(request.track)
            case "audience":
                self.audiences.append(request.audience.revision)
            case "stats":
                self.stats.append(request.stats)
            case "ended":
                self.ended = request.ended

    async def until(self, condition: Callable[[], object], within_s: float = DEADLINE_S) -> None:
        """Wait until the condition holds."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not seen in {within_s} s; reports: {self.reports}, ended: {self.ended}") from None

    async def report_of(
        self, publication_id: str, state: HostedTrackState.ValueType = HOSTED_TRACK_STATE_PUBLISHED, after: int = 0
    ) -> HostedTrackReport:
        """Wait for a report, looking at those from number `after` on."""

        def found() -> list[HostedTrackReport]:
            return [r for r in self.reports[after:] if r.publication_id == publication_id and r.state == state]

        await self.until(found)
        return found()[0]


class MediaPeer(MediaServiceServicer):
    """A real gRPC server on a loopback port. `async with` starts and ends it; it may be stopped and started again."""

    def __init__(self, livekit: LiveKitProcess) -> None:
        self._livekit = livekit
        self._sessions: dict[str, PeerSession] = {}
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self._api = api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            session.stop()
            await session.until(partial(_detached, session))
        await self.stop()
        await self._api.aclose()

    async def start(self) -> None:
        options = (("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 5_000))
        self._server = grpc.aio.server(options=options)
        add_MediaServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()

    async def stop(self) -> None:
        """Break every stream, as a server that dies does."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def dispatch(
        self, agent_name: str, room: str, *tracks: DesiredTrack, stats_interval_s: float = 0
    ) -> PeerSession:
        """Have a session hosted in a room, which is made if it is not there."""
        session = self.adopt(room, *tracks, stats_interval_s=stats_interval_s)
        await self.dispatch_again(agent_name, session)
        return session

    def adopt(self, room: str, *tracks: DesiredTrack, stats_interval_s: float = 0) -> PeerSession:
        """Know a session that somebody else starts."""
        session = PeerSession(room, f"host-{uuid.uuid4().hex[:8]}")
        self._sessions[session.session_id] = session
        session.desire(*tracks, stats_interval_s=stats_interval_s)
        return session

    def ticket(self, session: PeerSession) -> str:
        """The ticket of a session, as JSON."""
        ticket = SessionTicket(
            session_id=session.session_id,
            generation=session.generation,
            participant_identity=session.identity,
            server_address=f"127.0.0.1:{self._port}",
            room_sid=session.room_sid,
        )
        return json_format.MessageToJson(ticket)

    async def dispatch_again(self, agent_name: str, session: PeerSession) -> None:
        """Dispatch a session at its present generation."""
        await self._api.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name=agent_name, room=session.room, metadata=self.ticket(session))
        )

    async def Attach(self, request_iterator: Any, context: Any) -> AsyncIterator[AttachResponse]:
        claims = self._claims(dict(context.invocation_metadata())["authorization"])
        first = await anext(request_iterator)
        session = self._sessions[first.hello.session_id]
        assert claims["sub"] == session.session_id
        assert claims["video"]["agent"] is True
        if first.hello.generation < session.generation:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "superseded")
        await session.heard(first)
        with session.commands() as commands:
            session.attached += 1
            listening = asyncio.create_task(self._listen(session, request_iterator))
            listening.add_done_callback(lambda _: commands.put_nowait(None))
            try:
                while (command := await commands.get()) is not None:
                    yield command
            finally:
                session.attached -= 1
                listening.cancel()
                await asyncio.wait([listening])

    async def _listen(self, session: PeerSession, requests: Any) -> None:
        async for request in requests:
            await session.heard(request)

    def _claims(self, authorization: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            authorization.removeprefix("Bearer "), self._livekit.api_secret, algorithms=["HS256"]
        )
        return claims


def _detached(session: PeerSession) -> bool:
    return not session.attached


def pattern(publication_id: str, width: int = 320, height: int = 180, fps: float = 15, **more: Any) -> DesiredTrack:
    """A test pattern, small unless said otherwise."""
    video = VideoOptions(
        codec=more.pop("codec", VideoCodec.VIDEO_CODEC_VP8),
        width=width,
        height=height,
        frames_per_second=fps,
        max_bitrate_bps=more.pop("bitrate", 400_000),
        simulcast=more.pop("simulcast", False),
    )
    spec = PublicationSpec(name=publication_id, source=TrackSource.TRACK_SOURCE_CAMERA, video=video)
    spec.test_pattern.SetInParent()
    return desired(publication_id, spec, **more)


def tone(publication_id: str, frequency_hz: float = 1000, level_dbfs: float = -10, **more: Any) -> DesiredTrack:
    """A tone."""
    spec = PublicationSpec(name=publication_id, source=TrackSource.TRACK_SOURCE_MICROPHONE, audio=audio())
    spec.tone.frequency_hz = frequency_hz
    spec.tone.level_dbfs = level_dbfs
    return desired(publication_id, spec, **more)


def audio() -> AudioOptions:
    """Audio options with the defaults filled in."""
    return AudioOptions(max_bitrate_bps=48_000, dtx=False, red=True)


def data(publication_id: str, rate: float = 20, **more: Any) -> DesiredTrack:
    """A data track."""
    spec = PublicationSpec(name=publication_id)
    spec.data.frames_per_second = rate
    spec.data.frame_bytes = more.pop("frame_bytes", 64)
    spec.data.payload = more.pop("payload", b"")
    return desired(publication_id, spec, **more)


def desired(publication_id: str, spec: PublicationSpec, *, muted: bool = False, attempt: int = 1) -> DesiredTrack:
    """A desired track."""
    return DesiredTrack(publication_id=publication_id, spec=spec, muted=muted, attempt=attempt)
