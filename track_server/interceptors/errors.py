"""Errors become statuses here, and nowhere else is a call aborted."""

import asyncio
import time
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio

from track.v1.error_pb2 import ErrorReason
from track_server.errors import Internal, TrackError, duration_of
from track_server.interceptors.context import REQUEST_ID, Call, Handler
from track_server.interceptors.method import Method
from track_server.interceptors.validation import InvalidRequest

log = structlog.get_logger(__name__)

DOMAIN: Final = "track.v1"
_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS: Final = "grpc-status-details-bin"

# Clients take 8 KiB of metadata by default. The message goes twice, percent-encoded (up to three bytes a byte) and in
# the details, which grow by a third in base64: 3 * 512 + 4/3 * 3072 is 5.5 KiB.
_MAX_MESSAGE_BYTES: Final = 512
_MAX_STATUS_BYTES: Final = 3072
_MAX_CAUSE_CHARS: Final = 500


class ErrorStatuses:
    """Turns what a handler raises into a gRPC status with `google.rpc` details."""

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""

        foreign = not method.ours

        async def handle(request: Any, call: Call) -> Any:
            try:
                response = await inner(request, call)
            except TrackError as error:
                await _abort(call, error)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    over = call.deadline is not None and time.monotonic() >= call.deadline
                    call.code = code_pb2.DEADLINE_EXCEEDED if over else code_pb2.CANCELLED
                    raise
                # Nobody cancelled this call: the error leaked from a task of the handler's. Passed on, it would leave
                # the caller waiting until its deadline.
                await _abort(call, _unexpected(call, error))
            except aio.AbortError:  # health and reflection choose their own status
                call.code = _code_of(call.context)
                raise
            except ExceptionGroup as group:
                await _abort(call, _first(call, group))
            except NotImplementedError as error:  # what generated code raises for an RPC that the servicer lacks
                if _code_of(call.context) != code_pb2.UNIMPLEMENTED:
                    await _abort(call, _unexpected(call, error))
                call.code = code_pb2.UNIMPLEMENTED
                await call.context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method.path} is not served here")
            except aio.InternalError as error:
                # The connection broke while a message was on its way. Aborted all the same: raised, it would fill the
                # log with traces of gRPC's own, and a caller that is still there after all must not wait.
                call.code = code_pb2.CANCELLED
                call.cause = _cause(error)
                await call.context.abort(grpc.StatusCode.CANCELLED, "the connection broke")
            except Exception as error:  # noqa: BLE001  logged with its trace there
                await _abort(call, _unexpected(call, error))
            if foreign:  # may have set a status and returned
                call.code = _code_of(call.context)
            return response

        return handle


def status_of(error: TrackError) -> status_pb2.Status:
    """The error as a status: ErrorInfo, BadRequest where fields are at fault, RetryInfo where trying again helps.

    Bounded to what fits into a call's metadata: further field violations and metadata are left out.
    """
    message = _cut(error.message, _MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=error.code, message=message)
    reason = ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    _add(status, error_details_pb2.ErrorInfo(domain=DOMAIN, reason=reason))
    if error.retry_delay_s is not None:
        _add(status, error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_delay_s)))
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=_cut(field, 256), description=_cut(text, 512), reason=reason)
        for field, text in _violations(error)
    ]
    _fill(status, error_details_pb2.BadRequest(), "field_violations", violations)
    if error.metadata:
        info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=reason)
        for name, value in error.metadata.items():
            before = status.ByteSize()
            info.metadata[_cut(name, 64)] = _cut(value, 256)
            if before + info.ByteSize() > _MAX_STATUS_BYTES:
                del info.metadata[_cut(name, 64)]
                break
        status.details[0].Pack(info)
    return status


def _violations(error: TrackError) -> list[tuple[str, str]]:
    if isinstance(error, InvalidRequest):
        return list(error.violations)
    return [(error.field, error.message)] if error.field else []


def _fill(status: status_pb2.Status, holder: error_details_pb2.BadRequest, name: str, entries: list[Any]) -> None:
    """Add ``holder`` with as many entries as there is room for."""
    for entry in entries:
        getattr(holder, name).append(entry)
        if status.ByteSize() + holder.ByteSize() + 64 > _MAX_STATUS_BYTES:
            del getattr(holder, name)[-1]
            break
    if getattr(holder, name):
        _add(status, holder)


def _add(status: status_pb2.Status, detail: Any) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _duration(seconds: float) -> duration_pb2.Duration:
    return duration_of(max(0.0, seconds))


def _cut(text: str, limit: int) -> str:
    """At most ``limit`` bytes of UTF-8, without what cannot be encoded."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode("utf-8", "ignore") + "..."


async def _abort(call: Call, error: TrackError) -> NoReturn:
    call.code = error.code
    call.reason = ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    if error.__cause__ is not None:
        call.cause = _cause(error.__cause__)
    status = status_of(error)
    await call.context.abort(
        _STATUS[error.code],
        status.message,
        ((REQUEST_ID, call.request_id), (_DETAILS, status.SerializeToString())),
    )
    raise AssertionError("abort returned")


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_CAUSE_CHARS]


def _unexpected(call: Call, error: BaseException) -> Internal:
    """What the caller sees of a fault of ours; the rest is in the log."""
    log.error("unexpected_error", method=call.method.path, request_id=call.request_id, exc_info=error)
    internal = Internal("internal error")
    internal.__cause__ = error
    return internal


def _first(call: Call, group: "ExceptionGroup[Exception]") -> TrackError:
    """The first error of a task group in which nothing but errors of ours happened; else a fault of ours."""
    ours, others = group.split(TrackError)
    if ours is None or others is not None:
        return _unexpected(call, group)
    leaf: BaseException = ours
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, TrackError)
    return leaf


def _code_of(context: "aio.ServicerContext[Any, Any]") -> int:
    code: Any = context.code()
    return int(code.value[0]) if isinstance(code, grpc.StatusCode) else int(code or 0)
