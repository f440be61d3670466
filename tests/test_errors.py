"""Every error class of ours, as a caller gets it."""

import ast
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from tests.chained_server import Harness, failure, serving
from track.v1 import error_pb2, tracks_pb2
from track.v1.error_pb2 import ErrorReason
from track_server import errors
from track_server.durations import duration_of
from track_server.interceptors.errors import status_of


@pytest_asyncio.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    """A server of the whole chain, without authentication."""
    async with serving(tmp_path) as running:
        yield running


def _classes(base: type[errors.TrackError] = errors.TrackError) -> Iterator[type[errors.TrackError]]:
    yield base
    for below in base.__subclasses__():
        yield from _classes(below)


CLASSES = sorted(
    {kind for kind in _classes() if kind.__module__.startswith(errors.__name__) and kind is not errors.ProblemError},
    key=lambda kind: kind.__name__,
)


def details(error: aio.AioRpcError) -> dict[str, Any]:
    """The `google.rpc` details of a failure by the names of their types."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # a stub of the synchronous call
    assert status is not None
    return unpacked(status)


def unpacked(status: status_pb2.Status) -> dict[str, Any]:
    known: tuple[type[Message], ...] = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.QuotaFailure,
    )
    found: dict[str, Any] = {}
    for detail in status.details:
        for kind in known:
            message = kind()
            if detail.Unpack(message):
                found[kind.DESCRIPTOR.name] = message
    return found


async def fail_with(harness: Harness, error: BaseException) -> aio.AioRpcError:
    async def raising(request: Any, context: Any) -> Any:
        raise error

    harness.on("ListTracks", raising)
    return await failure(harness.stub.ListTracks(tracks_pb2.ListTracksRequest(room="room")))


# Made of what they are about; tests/interceptors/test_limits.py has them.
_PARTICULAR = (errors.LimitExceeded, errors.ConnectionTooOld)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind not in _PARTICULAR], ids=lambda kind: kind.__name__)
async def test_every_error_arrives_with_its_code_reason_and_details(
    harness: Harness, kind: type[errors.TrackError]
) -> None:
    error = kind("What went wrong.", field="tracks[2].track_sid", metadata={"line": "3"}, retry_delay_s=1.5)
    error.__cause__ = ValueError("inner secret")
    failed = await fail_with(harness, error)
    assert failed.code() is {status.value[0]: status for status in grpc.StatusCode}[kind.code]
    assert failed.details() == "What went wrong."
    found = details(failed)
    info = found["ErrorInfo"]
    assert info.domain == "track.v1"
    assert f"ERROR_REASON_{info.reason}" == ErrorReason.Name(kind.reason)
    assert dict(info.metadata) == {"line": "3"}
    (violation,) = found["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("tracks[2].track_sid", "What went wrong.")
    assert found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.5
    (line,) = await harness.logged(1)
    assert (line["code"], line["reason"]) == (code_pb2.Code.Name(kind.code), info.reason)
    assert line["cause"] == "ValueError: inner secret"
    assert "secret" not in str(failed.trailing_metadata())


async def test_details_that_do_not_apply_are_left_out(harness: Harness) -> None:
    assert set(details(await fail_with(harness, errors.RoomNotFound("No such room.")))) == {"ErrorInfo"}
    unavailable = details(await fail_with(harness, errors.LiveKitUnavailable("LiveKit is away.")))
    assert set(unavailable) == {"ErrorInfo", "RetryInfo"}
    assert unavailable["RetryInfo"].retry_delay.seconds == 1


def test_every_reason_of_the_contract_has_an_error_class_and_every_class_a_code() -> None:
    reasons = {kind.reason for kind in CLASSES}
    assert reasons == set(ErrorReason.values()) - {ErrorReason.ERROR_REASON_UNSPECIFIED}
    for kind in CLASSES:
        assert kind.code not in (code_pb2.OK, code_pb2.UNKNOWN)


async def test_a_stored_problem_fails_a_call_as_its_error_would(harness: Harness) -> None:
    problem = errors.LiveKitUnavailable("LiveKit is away.", retry_delay_s=2.25).problem("items[1]")
    failed = await fail_with(harness, errors.ProblemError(problem))
    found = details(failed)
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    assert found["ErrorInfo"].reason == "LIVEKIT_UNAVAILABLE"
    assert found["BadRequest"].field_violations[0].field == "items[1]"
    assert found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 2.25


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidField("x" * 100_000, field="y" * 100_000),
        errors.InvalidField("ü€😀" * 10_000, field="ü" * 10_000),
        errors.InvalidField("\ud800 broken", field="\udfff"),
        errors.InvalidExpression("bad", metadata={f"key-{n}": "v" * 1000 for n in range(1000)}),
        errors.InvalidField("\n\r\x00 %00", field="\x00"),
    ],
)
async def test_a_huge_or_odd_error_still_fits_into_a_calls_metadata(harness: Harness, error: errors.TrackError) -> None:
    failed = await fail_with(harness, error)
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(failed)["ErrorInfo"].domain == "track.v1"
    size = sum(len(name) + len(value) + 32 for name, value in failed.trailing_metadata() or ())
    assert size < 8192


def test_a_status_leaves_out_what_does_not_fit() -> None:
    error = errors.InvalidExpression("bad", metadata={f"key-{n:04}": "v" * 200 for n in range(1000)}, field="filter")
    status = status_of(error)
    assert status.ByteSize() <= 3072 + 256
    found = unpacked(status)
    assert 5 < len(found["ErrorInfo"].metadata) < 1000
    assert found["BadRequest"].field_violations[0].field == "filter"


def test_a_problem_carries_what_its_error_says() -> None:
    problem = errors.WorkerUnavailable("No worker.", field="own", retry_delay_s=0.5).problem()
    assert problem == error_pb2.Problem(
        code=code_pb2.UNAVAILABLE,
        reason=ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE,
        message="No worker.",
        field="own",
        retry_delay=duration_of(0.5),
    )


def _raised_texts() -> Iterator[tuple[str, str]]:
    """Place and text of every sentence with which an error of ours is made; `{}` for what is filled in."""
    kinds = {kind.__name__ for kind in _classes()}
    package = Path(errors.__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in kinds:
                continue
            sentence = node.args[0]
            if isinstance(sentence, ast.Constant) and isinstance(sentence.value, str):
                text = sentence.value
            elif isinstance(sentence, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in sentence.values)
            else:
                continue
            yield f"{path.relative_to(package)}:{node.lineno}", text


def test_every_message_is_one_sentence_in_lower_case_without_a_full_stop() -> None:
    texts = list(_raised_texts())
    assert len(texts) > 100
    # A name keeps its capital, and an abbreviation, a field or a path its own form.
    wrong = [
        f"{place}: {text!r}"
        for place, text in texts
        if text.endswith(".") or (text[:1].isupper() and text[1:2].islower() and not text.startswith("LiveKit"))
    ]
    assert wrong == []
