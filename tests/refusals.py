"""How a call was refused: its status with the `google.rpc` details."""

import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

INTERNAL = re.compile(
    r"Traceback|File \"|\.py\b|/tmp|/home|/root|Errno|twirp|aiohttp|Exception|object at 0x|sqlite", re.IGNORECASE
)
"""What no caller may see: code, paths, Python's and libraries' own words."""


@dataclass(frozen=True)
class Refusal:
    """A failed call. ``fields``: those that BadRequest names. ``retry_s``: RetryInfo's delay, None without one.

    ``quota``: the limit, its value and for whom it counts, by QuotaFailure; None without one.
    """

    code: grpc.StatusCode
    message: str
    reason: str
    fields: tuple[str, ...]
    retry_s: float | None
    metadata: dict[str, str]
    quota: tuple[str, int, str] | None = None


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Awaits a call that must fail. Checks what holds of every failure: details, domain, no internal text."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return read(error)
    raise AssertionError(f"it was not refused: {answer}")


def read(error: grpc.aio.AioRpcError) -> Refusal:
    """The refusal behind a client's error."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what is needed
    assert status is not None, f"no details: {error.code()} {error.details()}"
    assert error.code() is not grpc.StatusCode.UNKNOWN
    assert status.message
    assert not INTERNAL.search(status.message), status.message
    info = error_details_pb2.ErrorInfo()
    fields: list[str] = []
    retry_s = quota = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            fields += [violation.field for violation in bad.field_violations]
            assert all(violation.description for violation in bad.field_violations)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_s = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Is(error_details_pb2.QuotaFailure.DESCRIPTOR):
            failure = error_details_pb2.QuotaFailure()
            detail.Unpack(failure)
            (exceeded,) = failure.violations
            quota = (exceeded.quota_metric, exceeded.quota_value, exceeded.subject)
    assert info.domain == "track.v1", status
    assert (quota is not None) == (info.reason == "LIMIT_EXCEEDED"), status
    return Refusal(error.code(), status.message, info.reason, tuple(fields), retry_s, dict(info.metadata), quota)


async def first(stream: Any) -> Any:
    """The first message of a stream, or its failure; the stream is cancelled."""
    try:
        return await anext(aiter(stream))
    finally:
        stream.cancel()
