"""Whatever happens in a handler, the caller gets a clean status, at once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration

from tests.chained_server import Harness, drained, failure, metadata_of, until
from tests.test_errors import details
from track.v1 import event_pb2, publication_pb2, quality_pb2, tracks_pb2
from track_server import errors

LIST = tracks_pb2.ListTracksRequest(room="room")
WATCH = event_pb2.WatchEventsRequest(room="room")


async def test_an_unexpected_error_is_internal_and_its_text_and_trace_stay_in_the_log(harness: Harness) -> None:
    async def broken(request: Any, context: Any) -> Any:
        raise RuntimeError("password=hunter2")

    harness.on("ListTracks", broken)
    with structlog.testing.capture_logs() as logged:
        failed = await failure(harness.stub.ListTracks(LIST))
    assert failed.code() is grpc.StatusCode.INTERNAL
    assert failed.details() == "internal error"
    assert details(failed)["ErrorInfo"].reason == "INTERNAL"
    assert "hunter2" not in repr(failed)
    (entry,) = [entry for entry in logged if entry["event"] == "unexpected_error"]
    assert entry["exc_info"].__traceback__ is not None
    (line,) = await harness.logged(1)
    assert (line["level"], line["code"]) == ("error", "INTERNAL")
    assert line["request_id"] == metadata_of(failed, "x-request-id") == entry["request_id"]


async def test_a_handler_that_answers_nothing_or_the_wrong_type_is_internal(harness: Harness) -> None:
    for answer in (None, "text", 5, tracks_pb2.ListTracksRequest()):

        async def wrong(request: Any, context: Any, answer: Any = answer) -> Any:
            return answer

        harness.on("ListTracks", wrong)
        if answer is None or not hasattr(answer, "SerializeToString"):
            assert (await failure(harness.stub.ListTracks(LIST))).code() is grpc.StatusCode.INTERNAL


async def test_a_cancellation_that_leaks_from_a_handlers_task_does_not_leave_the_caller_waiting(
    harness: Harness,
) -> None:
    async def leaking(request: Any, context: Any) -> Any:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    async def leaking_stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event_pb2.WatchEventsResponse(cursor="1")
        raise asyncio.CancelledError

    harness.on("ListTracks", leaking)
    harness.on("WatchEvents", leaking_stream)
    with structlog.testing.capture_logs():
        assert (await failure(harness.stub.ListTracks(LIST))).code() is grpc.StatusCode.INTERNAL
        assert (await failure(drained(harness.stub.WatchEvents(WATCH)))).code() is grpc.StatusCode.INTERNAL


async def test_an_error_of_ours_out_of_a_task_group_is_itself_and_others_with_it_are_a_fault(harness: Harness) -> None:
    def raising(*inner: Exception) -> Any:
        async def handler(request: Any, context: Any) -> Any:
            raise ExceptionGroup("tasks", list(inner))

        return handler

    harness.on("ListTracks", raising(ExceptionGroup("inner", [errors.RoomNotFound("No room.")])))
    assert (await failure(harness.stub.ListTracks(LIST))).details() == "No room."
    harness.on("ListTracks", raising(errors.RoomNotFound("No room."), ValueError("secret")))
    with structlog.testing.capture_logs() as logged:
        assert (await failure(harness.stub.ListTracks(LIST))).details() == "internal error"
    assert logged[0]["event"] == "unexpected_error"


async def test_a_stream_that_fails_after_messages_gets_its_status_too(harness: Harness) -> None:
    async def failing(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event_pb2.WatchEventsResponse(cursor="1")
        yield event_pb2.WatchEventsResponse(cursor="2")
        raise errors.LiveKitUnavailable("LiveKit is away.", retry_delay_s=3)

    harness.on("WatchEvents", failing)
    call = harness.stub.WatchEvents(WATCH)
    assert [(await call.read()).cursor, (await call.read()).cursor] == ["1", "2"]
    failed = await failure(call.read())
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    assert details(failed)["RetryInfo"].retry_delay.seconds == 3
    (line,) = await harness.logged(1)
    assert (line["code"], line["sent"]) == ("UNAVAILABLE", 2)


async def test_a_caller_that_goes_away_ends_its_handler_and_is_logged_as_cancelled(harness: Harness) -> None:
    ended: list[str] = []

    async def endless(request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("unary")

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield event_pb2.WatchEventsResponse(cursor="1")
                await asyncio.sleep(0.01)
        finally:
            ended.append("stream")

    harness.on("ListTracks", endless)
    harness.on("WatchEvents", stream)
    unary = harness.stub.ListTracks(LIST)
    streaming = harness.stub.WatchEvents(WATCH)
    await streaming.read()
    await asyncio.sleep(0.02)
    unary.cancel()
    streaming.cancel()
    await until(lambda: sorted(ended) == ["stream", "unary"] and len(harness.lines()) == 2)
    assert {line["code"] for line in harness.lines()} == {"CANCELLED"}
    assert {line["level"] for line in harness.lines()} == {"info"}


async def test_a_reader_that_stops_and_goes_away_in_the_middle_of_a_write_is_no_fault_of_ours(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[bool] = []

    async def flood(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield event_pb2.WatchEventsResponse(cursor="x" * 60_000)
        finally:
            closed.append(not harness.lines())

    harness.on("WatchEvents", flood)
    with structlog.testing.capture_logs() as logged:
        call = harness.stub.WatchEvents(WATCH)
        await call.read()
        await asyncio.sleep(0.1)
        call.cancel()
        await until(lambda: closed and harness.lines())
    assert [line["code"] for line in harness.lines()] == ["CANCELLED"]
    assert logged == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert closed == [True], "the generator is closed before its call is over"


async def test_a_deadline_that_passes_is_logged_as_such(harness: Harness) -> None:
    async def slow(request: Any, context: Any) -> Any:
        await asyncio.sleep(60)

    harness.on("ListTracks", slow)
    assert (await failure(harness.stub.ListTracks(LIST, timeout=0.1))).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await harness.logged(1))[0]["code"] == "DEADLINE_EXCEEDED"


async def test_a_request_that_is_no_message_is_an_invalid_argument(harness: Harness) -> None:
    for path in ("/track.v1.TrackService/ListTracks", "/track.v1.TrackService/MuteTracks"):
        call: Any = harness.channel.unary_unary(path)
        failed = await failure(call(b"\xff\xff\xff\xff"))
        assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details(failed)["ErrorInfo"].reason == "INVALID_FIELD"
    stream: Any = harness.channel.unary_stream("/track.v1.TrackService/WatchEvents")
    assert (await failure(drained(stream(b"\xff\xff")))).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("name", "request_", "fields"),
    [
        ("ListTracks", tracks_pb2.ListTracksRequest(), ["room"]),
        ("ListTracks", tracks_pb2.ListTracksRequest(room="r" * 257, page_size=1001), ["room", "page_size"]),
        ("GetTrack", tracks_pb2.GetTrackRequest(room="room", track_sid="nonsense"), ["track_sid"]),
        (
            "MuteTracks",
            tracks_pb2.MuteTracksRequest(
                room="room",
                tracks=[tracks_pb2.TrackRef(track_sid="TR_ok"), tracks_pb2.TrackRef(track_sid="bad")],
                request_id="x" * 129,
            ),
            ["tracks[1].track_sid", "request_id"],
        ),
        ("PublishTrack", publication_pb2.PublishTrackRequest(room="room"), ["spec"]),
        (
            "PublishTrack",
            publication_pb2.PublishTrackRequest(
                room="room",
                spec=publication_pb2.PublicationSpec(
                    test_pattern=publication_pb2.TestPatternInput(), video=publication_pb2.VideoOptions(width=17)
                ),
            ),
            ["spec.video.width"],
        ),
        ("UpdateSubscriptions", tracks_pb2.UpdateSubscriptionsRequest(room="room"), ["updates"]),
        (
            "StreamQualityReports",
            quality_pb2.StreamQualityReportsRequest(room="room", interval=Duration(seconds=61)),
            ["interval"],
        ),
    ],
)
async def test_every_field_out_of_its_range_is_named(
    harness: Harness, name: str, request_: Any, fields: list[str]
) -> None:
    call = getattr(harness.stub, name)(request_)
    failed = await failure(drained(call) if name.startswith("Stream") else call)
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(failed)
    assert found["ErrorInfo"].reason == "INVALID_FIELD"
    violations = found["BadRequest"].field_violations
    assert [violation.field for violation in violations] == fields
    assert all(violation.description for violation in violations)
    assert (failed.details() or "").startswith(f"{fields[0]}: ")
    (line,) = await harness.logged(1)
    assert "room" not in line


async def test_a_request_with_hundreds_of_faults_names_as_many_as_fit(harness: Harness) -> None:
    request = tracks_pb2.MuteTracksRequest(
        room="room", tracks=[tracks_pb2.TrackRef(track_sid=f"bad {n}") for n in range(100)]
    )
    failed = await failure(harness.stub.MuteTracks(request))
    violations = details(failed)["BadRequest"].field_violations
    assert 3 < len(violations) < 100
    assert "and 97 more" in (failed.details() or "")


async def test_a_request_once_found_valid_does_not_make_another_valid(harness: Harness) -> None:
    async def echo(request: Any, context: Any) -> Any:
        return tracks_pb2.ListTracksResponse(next_page_token=request.room)

    harness.on("ListTracks", echo)
    for _ in range(2):
        for n in range(1500):
            if n % 100 == 0:
                assert (
                    await harness.stub.ListTracks(tracks_pb2.ListTracksRequest(room=f"{n}"))
                ).next_page_token == f"{n}"
        assert (await failure(harness.stub.ListTracks(tracks_pb2.ListTracksRequest()))).code() is (
            grpc.StatusCode.INVALID_ARGUMENT
        )
