"""The calls to the permission service. Each has a deadline, and an answer that breaks the contract is a failure."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc import aio

from track.permission.v1 import permission_service_pb2 as pb
from track_server.errors import PermissionServiceUnavailable
from track_server.permission_client.answers import Answers, MalformedAnswer
from track_server.permission_client.connection import Connection

MAX_QUESTIONS: Final = 500
"""Of a batch, by the contract."""

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["PermissionService"].full_name
# With these the service says that it does not understand the question, or the consistency token in it.
_NOT_UNDERSTOOD: Final = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE}
)


class NoAnswer(PermissionServiceUnavailable):
    """The service does not answer; the cause tells why. ``not_understood``: it answered that the question is wrong."""

    def __init__(self, cause: BaseException, *, not_understood: bool = False) -> None:
        super().__init__("the permission service does not answer")
        self.__cause__ = cause
        self.not_understood = not_understood


class PermissionClient:
    """Asks the permission service through ``connection``; an answer may take ``timeout_s``.

    All methods raise PermissionServiceUnavailable: NoAnswer, MalformedAnswer. Nothing is retried but questions, once
    and at once, where the connection broke.
    """

    def __init__(self, connection: Connection, *, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._answers = Answers()

    async def check(
        self, questions: Sequence[pb.CheckPermissionRequest]
    ) -> list[pb.CheckPermissionResponse | MalformedAnswer]:
        """The decisions on 1 to MAX_QUESTIONS questions, in order; malformed ones in their place."""
        if len(questions) == 1:
            try:
                return [self._answers.decision(await self._ask("CheckPermission", questions[0]))]
            except MalformedAnswer as error:
                return [error]
        batch = pb.BatchCheckPermissionsRequest(checks=questions)
        return self._answers.decisions(await self._ask("BatchCheckPermissions", batch), len(questions))

    async def issue(self, request: pb.IssueTrackTokenRequest) -> pb.IssueTrackTokenResponse | None:
        """The decision on a token; None where the service does not issue any."""
        try:
            raw = await self._call("IssueTrackToken", request, self._timeout_s)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise _no_answer(error) from error
        return self._answers.token(raw)

    async def report(self, request: pb.ReportPermissionIssueRequest) -> None:
        """Tells of a disagreement."""
        try:
            await self._call("ReportPermissionIssue", request, self._timeout_s)
        except aio.AioRpcError as error:
            raise _no_answer(error) from error

    async def changes(self) -> AsyncGenerator[pb.WatchPermissionsResponse]:
        """The stream of changes, until it ends, which is NoAnswer. Only its first message must come in time."""
        await self._connection.renew()
        method: Any = self._connection.channel.unary_stream(f"/{_SERVICE}/WatchPermissions")
        try:
            call = method(
                pb.WatchPermissionsRequest().SerializeToString(),
                metadata=self._connection.metadata,
                wait_for_ready=True,
            )
        except aio.UsageError as error:
            raise NoAnswer(error) from error
        try:
            async with asyncio.timeout(self._timeout_s):
                raw = await call.read()
            while raw is not aio.EOF:
                yield self._answers.changes(raw)
                raw = await call.read()
        except aio.AioRpcError as error:
            raise _no_answer(error) from error
        except TimeoutError as error:
            raise NoAnswer(error) from error
        except asyncio.CancelledError as error:
            if _cancelled():
                raise
            raise NoAnswer(error) from error
        finally:
            call.cancel()
        raise NoAnswer(EOFError("the stream of changes ended"))

    async def _ask(self, method: str, request: Message) -> bytes:
        until = asyncio.get_running_loop().time() + self._timeout_s
        try:
            try:
                return await self._call(method, request, self._timeout_s)
            except aio.AioRpcError as error:
                left = until - asyncio.get_running_loop().time()
                if error.code() is not grpc.StatusCode.UNAVAILABLE or left <= 0:
                    raise
                return await self._call(method, request, left)
        except aio.AioRpcError as error:
            raise _no_answer(error) from error

    async def _call(self, method: str, request: Message, timeout_s: float) -> bytes:
        # Undecoded: what gRPC cannot decode, it would drop without a word.
        try:
            stub: Any = self._connection.channel.unary_unary(f"/{_SERVICE}/{method}")
            raw: bytes = await stub(request.SerializeToString(), metadata=self._connection.metadata, timeout=timeout_s)
        except aio.UsageError as error:
            raise NoAnswer(error) from error
        except asyncio.CancelledError as error:
            if _cancelled():
                raise
            raise NoAnswer(error) from error
        return raw


def _no_answer(error: aio.AioRpcError) -> NoAnswer:
    fault = ConnectionError(f"{error.code().name}: {error.details()}")
    return NoAnswer(fault, not_understood=error.code() in _NOT_UNDERSTOOD)


def _cancelled() -> bool:
    """Whether the running task was. Else gRPC has raised it for a call whose channel was closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
