"""A permission service in the test's own process, which does what the test wants: also what no honest one does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self

import grpc
from google.protobuf.message import Message
from grpc import aio

from tests.livekit_process import ReservedPort
from track.permission.v1 import permission_service_pb2 as pb

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["PermissionService"]
Question = pb.CheckPermissionRequest
Answer = pb.CheckPermissionResponse


def allowed(lifetime_s: float = 60, **fields: Any) -> Answer:
    """An allow that may be kept."""
    answer = Answer(decision=pb.DECISION_ALLOWED, **fields)
    answer.lifetime.FromMilliseconds(round(lifetime_s * 1000))
    return answer


def denied(reason: str = "not you", lifetime_s: float = 60) -> Answer:
    """A denial that may be kept."""
    answer = Answer(decision=pb.DECISION_DENIED, reason=reason)
    answer.lifetime.FromMilliseconds(round(lifetime_s * 1000))
    return answer


class PermissionPeer:
    """`async with` starts it; it may be stopped and started again at the same address.

    ``decide`` answers each question. ``raw`` has, by the name of an RPC, the bytes that are sent instead of the answer,
    and ``fails`` the status. ``credentials`` of the server, for TLS; ``token``: the bearer that callers must send.
    """

    def __init__(self, *, credentials: grpc.ServerCredentials | None = None, token: str = "") -> None:
        self.decide: Callable[[Question], Answer] = lambda question: allowed()
        self.raw: dict[str, bytes] = {}
        self.fails: dict[str, grpc.StatusCode] = {"IssueTrackToken": grpc.StatusCode.UNIMPLEMENTED}
        self.issued = pb.IssueTrackTokenResponse(decision=pb.DECISION_ALLOWED)
        self.answering = asyncio.Event()
        """Cleared: questions wait."""
        self.answering.set()
        self.calls: list[str] = []
        """Names of the RPCs called."""
        self.questions: list[Question] = []
        self.batches: list[int] = []
        """How many questions each BatchCheckPermissions had."""
        self.reports: list[pb.ReportPermissionIssueRequest] = []
        self.issues: list[pb.IssueTrackTokenRequest] = []
        self.credentials = credentials
        self.token = token
        self.consistency_token = ""
        self._port = ReservedPort()
        self._server: aio.Server | None = None
        self._watches: dict[asyncio.Queue[bytes | None], None] = {}

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._port.number}"

    @property
    def watched(self) -> int:
        """How many follow the changes."""
        return len(self._watches)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self._port.release()

    async def start(self) -> None:
        """Listens."""
        server = aio.server(options=(("grpc.http2.min_ping_interval_without_data_ms", 10_000),))
        handlers = {rpc.name: self._handler(rpc.name, streams=rpc.server_streaming) for rpc in _SERVICE.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),))
        if self.credentials is None:
            server.add_insecure_port(self.address)
        else:
            server.add_secure_port(self.address, self.credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Is away, at once."""
        server, self._server = self._server, None
        if server is not None:
            self.hang_up()
            await server.stop(0)

    def hang_up(self) -> None:
        """Ends the streams of changes."""
        for watch in self._watches:
            watch.put_nowait(None)

    def change(self, *changes: pb.PermissionChange, token: str = "") -> None:
        """Tells everybody who follows."""
        message = pb.WatchPermissionsResponse(changes=changes, consistency_token=token)
        self.say(message.SerializeToString())

    def say(self, raw: bytes) -> None:
        """Sends that to everybody who follows the changes."""
        for watch in self._watches:
            watch.put_nowait(raw)

    def _handler(self, name: str, *, streams: bool) -> "grpc.RpcMethodHandler[Any, Any]":
        # Without a deserializer and serializer: bytes in, bytes out.
        if streams:
            return grpc.unary_stream_rpc_method_handler(self._watch)

        async def handle(raw: bytes, context: "aio.ServicerContext[Any, Any]") -> bytes:
            await self._admit(name, context)
            answer = await getattr(self, f"_{name}")(raw)
            if name in self.fails:
                await context.abort(self.fails[name], "as the test wants")
            made: bytes = self.raw[name] if name in self.raw else answer.SerializeToString()
            return made

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _admit(self, name: str, context: "aio.ServicerContext[Any, Any]") -> None:
        self.calls.append(name)
        sent = dict(context.invocation_metadata() or ()).get("authorization")
        if self.token and sent != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong bearer")

    async def _CheckPermission(self, raw: bytes) -> Message:
        return await self._answer(Question.FromString(raw))

    async def _BatchCheckPermissions(self, raw: bytes) -> Message:
        request = pb.BatchCheckPermissionsRequest.FromString(raw)
        self.batches.append(len(request.checks))
        return pb.BatchCheckPermissionsResponse(results=[await self._answer(check) for check in request.checks])

    async def _answer(self, question: Question) -> Answer:
        self.questions.append(question)
        answer = self.decide(question)
        await self.answering.wait()
        return answer

    async def _IssueTrackToken(self, raw: bytes) -> Message:
        self.issues.append(pb.IssueTrackTokenRequest.FromString(raw))
        return self.issued

    async def _ReportPermissionIssue(self, raw: bytes) -> Message:
        self.reports.append(pb.ReportPermissionIssueRequest.FromString(raw))
        return pb.ReportPermissionIssueResponse()

    async def _watch(self, raw: bytes, context: "aio.ServicerContext[Any, Any]") -> AsyncIterator[bytes]:
        await self._admit("WatchPermissions", context)
        if "WatchPermissions" in self.fails:
            await context.abort(self.fails["WatchPermissions"], "as the test wants")
        messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watches[messages] = None
        try:
            yield pb.WatchPermissionsResponse(consistency_token=self.consistency_token).SerializeToString()
            while (message := await messages.get()) is not None:
                yield message
        finally:
            del self._watches[messages]
