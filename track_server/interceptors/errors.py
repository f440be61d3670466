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
from track_server.durations import duration_of
from track_server.errors import Internal, LimitExceeded, StoreUnavailable, TrackError
from track_server.interceptors.context import REQUEST_ID, Call, Handler
from track_server.interceptors.method import Method
from track_server.interceptors.validation import InvalidRequest
from track_server.store.records import StoreError
from track_server.texts import cleaned

log = structlog.get_logger(__name__)

DOMAIN: Final = "track.v1"
_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS: Final = "grpc-status-details-bin"

# Clients take 8 KiB of metadata by default. The message goes twice, percent-encoded (up to three bytes a byte) and in
# the details, which grow by a third in base64: 3 * 512 + 4/3 * 3072 is 5.5 KiB.
_MAX_MESSAGE_BYTES: Final = 512
_MAX_STATUS_BYTES: Final = 3072
_MAX_CAUSE_CHARS: Final = 500
_SERVICE: Final = "track.v1.TrackService"
# A caller's own clock began to run before ours: it cancels up to so much before the deadline as we know it (measured:
# 2 ms in the median, 40 ms at worst, with 300 calls at once).
_EARLY_S: Final = 0.1
# Statuses of refusals that are kept ready: making one takes 30 us, a fifth of what a refusal costs.
_READY: Final = 512


class ErrorStatuses:
    """Turns what a handler raises into a gRPC status with `google.rpc` details."""

    def __init__(self) -> None:
        self._ready: dict[tuple[Any, ...], tuple[str, bytes]] = {}

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""

        foreign = not method.ours

        async def handle(request: Any, call: Call) -> Any:
            try:
                response = await inner(request, call)
            except LimitExceeded as error:
                await self._refuse(call, error)
            except TrackError as error:
                await _abort(call, error)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    call.code = cancelled(call)
                    raise
                # Nobody cancelled this call: the error leaked from a task of the handler's. Passed on, it would leave
                # the caller waiting until its deadline.
                await _abort(call, _unexpected(call, error))
            except aio.AbortError:  # health and reflection choose their own status
                call.code = _code_of(call.context)
                raise
            except (ExceptionGroup, StoreError) as error:
                await _abort(call, public(error) or _unexpected(call, error))
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

    async def _refuse(self, call: Call, error: LimitExceeded) -> NoReturn:
        key = (error.limit, error.value, error.subject, error.field, error.retry_delay_s)
        ready = self._ready.get(key)
        if ready is None:
            if len(self._ready) >= _READY:
                self._ready.clear()
            status = status_of(error)
            ready = self._ready[key] = (status.message, status.SerializeToString())
        call.limit = error.limit
        await _send(call, error, *ready)


def status_of(error: TrackError) -> status_pb2.Status:
    """The error as a status: ErrorInfo, BadRequest where fields are at fault, QuotaFailure where a limit is reached,
    RetryInfo where trying again helps, and the error's own detail.

    Bounded to what fits into a call's metadata: further field violations and metadata are left out.
    """
    message = _cut(error.message, _MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=error.code, message=message)
    reason = ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    _add(status, error_details_pb2.ErrorInfo(domain=DOMAIN, reason=reason))
    if error.retry_delay_s is not None:
        _add(status, error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_delay_s)))
    if isinstance(error, LimitExceeded):
        _add(status, _quota_failure(error))
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=_cut(field, 256), description=_cut(text, 512), reason=reason)
        for field, text in _violations(error)
    ]
    _fill(status, error_details_pb2.BadRequest(), "field_violations", violations)
    if error.detail is not None and status.ByteSize() + error.detail.ByteSize() + 64 <= _MAX_STATUS_BYTES:
        _add(status, error.detail)
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


def _quota_failure(error: LimitExceeded) -> error_details_pb2.QuotaFailure:
    return error_details_pb2.QuotaFailure(
        violations=[
            error_details_pb2.QuotaFailure.Violation(
                subject=_cut(error.subject, 256),
                description=_cut(error.message, _MAX_MESSAGE_BYTES),
                api_service=_SERVICE,
                quota_metric=error.limit,
                quota_id=error.limit,
                quota_value=int(error.value),
            )
        ]
    )


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
    status = status_of(error)
    await _send(call, error, status.message, status.SerializeToString())


async def _send(call: Call, error: TrackError, message: str, details: bytes) -> NoReturn:
    call.code = error.code
    call.reason = ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    if error.__cause__ is not None:
        call.cause = _cause(error.__cause__)
    try:
        await call.context.abort(_STATUS[error.code], message, ((REQUEST_ID, call.request_id), (_DETAILS, details)))
    except aio.InternalError:
        # The connection broke while the status waited behind messages that nobody read. Raised, it would fill the log
        # with traces of gRPC's own; as a cancellation it ends the call.
        raise asyncio.CancelledError from None
    raise AssertionError("abort returned")


def _cause(error: BaseException) -> str:
    # FFmpeg's errors have the whole URL in them.
    return cleaned(f"{type(error).__name__}: {error}")[:_MAX_CAUSE_CHARS]


def _unexpected(call: Call, error: BaseException) -> Internal:
    """What the caller sees of a fault of ours; the rest is in the log."""
    log.error("unexpected_error", method=call.method.path, request_id=call.request_id, exc_info=error)
    internal = Internal("internal error")
    internal.__cause__ = error
    return internal


def public(error: BaseException) -> TrackError | None:
    """What the caller sees of an error; None where it is a fault of ours, of which it sees nothing.

    Of a task group in which nothing but errors of ours happened, the first.
    """
    if isinstance(error, TrackError):
        return error
    if isinstance(error, StoreError):
        refused = StoreUnavailable("the server's store does not work now")
        refused.__cause__ = error
        return refused
    if not isinstance(error, BaseExceptionGroup):
        return None
    ours, others = error.split(TrackError)
    if ours is None or others is not None:
        return None
    leaf: BaseException = ours
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return public(leaf)


def cancelled(call: Call) -> int:
    """The status of a call whose task was cancelled: CANCELLED, or DEADLINE_EXCEEDED where its deadline is over."""
    over = call.deadline is not None and time.monotonic() >= call.deadline - _EARLY_S
    return int(code_pb2.DEADLINE_EXCEEDED if over else code_pb2.CANCELLED)


def _code_of(context: "aio.ServicerContext[Any, Any]") -> int:
    code: Any = context.code()
    return int(code.value[0]) if isinstance(code, grpc.StatusCode) else int(code or 0)
