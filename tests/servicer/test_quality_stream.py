"""StreamQualityReports of real tracks: windows, filters, changes alone, alerts, and streams that go on elsewhere."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from tests.livekit_process import TOOLS, LiveKitProcess
from tests.participants import microphone, participant
from tests.publications import TONE, pattern, publish
from tests.quality.streaming.told import View, asked
from tests.refusals import first, refusal
from tests.servicer.quality_calls import DEADLINE_S, STALLED, alerts, pushed_picture, until
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2, tracks_pb2
from track.v1.quality_alert_pb2 import QUALITY_HOP_UPLINK
from track.v1.quality_pb2 import StreamQualityReportsResponse, TrackQualityReport


class Reader:
    """A stream, and what is put together of it."""

    def __init__(self, client: Client, room: str, **fields: Any) -> None:
        self._request = asked(room=room, **fields)
        self._client = client
        self.call = client.StreamQualityReports(self._request)
        self.view = View(None, only_changes=self._request.only_changes)  # type: ignore[arg-type]  # it is filled here

    async def until(self, condition: Callable[[], Any]) -> StreamQualityReportsResponse:
        """Reads on until it holds; the last message."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    message = await self.call.read()
                    assert isinstance(message, StreamQualityReportsResponse), "the stream has ended"
                    self.view.add(message)
                    if condition():
                        return message
        except TimeoutError:
            raise AssertionError(f"it never came true; last: {self.view.messages[-1:]}") from None

    async def until_report(self, sid: str, condition: Callable[[TrackQualityReport], Any]) -> TrackQualityReport:
        """Reads on until the track's report is so."""
        await self.until(lambda: sid in self.view.reports and condition(self.view.reports[sid]))
        return self.view.reports[sid]

    def resume(self) -> None:
        """The connection breaks, and another stream goes on where it left."""
        self.call.cancel()
        self._request.cursor = self.view.cursor
        self.call = self._client.StreamQualityReports(self._request)


@contextlib.asynccontextmanager
async def reading(client: Client, room: str, **fields: Any) -> AsyncIterator[Reader]:
    reader = Reader(client, room, **fields)
    try:
        yield reader
    finally:
        reader.call.cancel()


def uplinks(report: TrackQualityReport) -> list[Any]:
    return [found for found in report.measurements if found.hop == QUALITY_HOP_UPLINK]


async def test_measurements_are_of_the_windows_asked_for_shortest_first(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    async with reading(admin, room, windows_s=[5, 1]) as reader:

        def measured(report: TrackQualityReport) -> bool:
            found = uplinks(report)
            return len(found) == 2 and found[1].window.ToNanoseconds() > 3e9 and found[0].HasField("bitrate_bps")

        report = await reader.until_report(tone.track_sid, measured)
    short, long = uplinks(report)
    assert short.window.ToNanoseconds() < long.window.ToNanoseconds()
    assert short.participant_identity == report.participant_identity


async def test_two_readers_with_different_filters_get_their_own(admin: Client, room: str) -> None:
    tone, video = await asyncio.gather(
        publish(admin, room, TONE, "speaker"), publish(admin, room, pattern(320, 180, 10), "screen")
    )
    sounds, muted = "report.type == TrackType.TRACK_TYPE_AUDIO", "report.muted"
    async with (
        reading(admin, room, filter=sounds, only_changes=True) as first_reader,
        reading(admin, room, filter=muted, only_changes=True) as second_reader,
    ):
        await first_reader.until(lambda: list(first_reader.view.reports) == [tone.track_sid])
        await second_reader.until(lambda: not second_reader.view.reports)
        ref = tracks_pb2.TrackRef(track_sid=video.track_sid)
        await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref]))
        await second_reader.until(lambda: list(second_reader.view.reports) == [video.track_sid])
        await admin.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=[ref]))
        gone = await second_reader.until(lambda: not second_reader.view.reports)
        assert list(gone.gone_track_sids) == [video.track_sid]
        assert list(first_reader.view.reports) == [tone.track_sid]


async def test_changes_alone_are_told(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        tone = await publish(admin, room, TONE)
        async with reading(admin, room, only_changes=True) as reader, reading(admin, room) as every:
            await reader.until(lambda: {mic.sid, tone.track_sid} <= reader.view.reports.keys())
            ref = tracks_pb2.TrackRef(track_sid=tone.track_sid)
            await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref]))
            await reader.until_report(tone.track_sid, lambda report: report.muted)
            # Numbers move all the time.
            await every.until(lambda: len(every.view.messages) > 8)
        assert all(message.reports or message.gone_track_sids for message in reader.view.messages)
        assert len(reader.view.messages) < len(every.view.messages)


async def test_a_stream_goes_on_after_its_connection_broke_with_what_ended_and_went(admin: Client, room: str) -> None:
    async with pushed_picture(admin, room) as pushed:
        tone = await publish(admin, room, TONE)
        # It keeps the room followed, and tells nothing else.
        async with (
            reading(admin, room, interval_s=60, only_changes=True),
            reading(admin, room, only_changes=True) as reader,
        ):
            await reader.until(lambda: {pushed.sid, tone.track_sid} <= reader.view.reports.keys())
            await reader.until_report(pushed.sid, lambda report: report.measurements)
            pushed.flows.clear()

            def stalled(report: TrackQualityReport) -> bool:
                return any(alert.kind == STALLED and not alert.HasField("end_time") for alert in report.alerts)

            report = await reader.until_report(pushed.sid, stalled)
            alert_id = next(alert.alert_id for alert in report.alerts if alert.kind == STALLED)
            reader.call.cancel()
            pushed.flows.set()
            request = publication_pb2.UnpublishTrackRequest(room=room, publication_id=tone.publication_id)
            await admin.UnpublishTrack(request)

            async def over() -> bool:
                found = await alerts(admin, room)
                return any(alert.alert_id == alert_id and alert.HasField("end_time") for alert in found)

            await until(over)
            reader.resume()
            message = await reader.until(lambda: True)
            assert not message.resync
            assert tone.track_sid in message.gone_track_sids
            assert alert_id in reader.view.over


async def test_a_cursor_that_is_not_known_begins_again_and_says_so(admin: Client, room: str) -> None:
    tone = await publish(admin, room, TONE)
    async with reading(admin, room, cursor="0123456789ab-7", only_changes=True) as reader:
        message = await reader.until(lambda: True)
        assert message.resync
        assert [report.track_sid for report in message.reports] == [tone.track_sid]
        assert not (await reader.until(lambda: True)).resync


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"filter": "report.nothing"}, "INVALID_EXPRESSION", "filter"),
        ({"filter": "report.track_sid"}, "INVALID_EXPRESSION", "filter"),
        ({"filter": "track.muted"}, "INVALID_EXPRESSION", "filter"),
        ({"cursor": "yesterday"}, "INVALID_CURSOR", "cursor"),
        ({"windows_s": [0.5]}, "INVALID_FIELD", "windows[0]"),
        ({"windows_s": [1, 2, 3, 4]}, "INVALID_FIELD", "windows"),
    ],
)
async def test_bad_requests_are_refused(
    admin: Client, room: str, fields: dict[str, Any], reason: str, field: str
) -> None:
    await publish(admin, room, TONE)
    refused = await refusal(first(admin.StreamQualityReports(asked(room=room, **fields))))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refused.fields == (field,)
    if reason == "INVALID_EXPRESSION":
        assert int(refused.metadata["line"]) == 1
        assert int(refused.metadata["column"]) >= 1


async def test_a_misspelt_level_is_told_what_was_meant(admin: Client, room: str) -> None:
    await publish(admin, room, TONE)
    bad = "report.measurements.exists(m, m.level == QualityLevel.POOR)"
    refused = await refusal(first(admin.StreamQualityReports(asked(room=room, filter=bad))))
    assert refused.metadata["suggestion"] == "QualityLevel.QUALITY_LEVEL_POOR"


async def test_grpcurl_filters_and_resumes(track: TrackProcess, admin: Client, room: str) -> None:
    tone, other = await asyncio.gather(publish(admin, room, TONE, "a"), publish(admin, room, TONE, "b"))
    token = track.token("admin", room_admin=True, room=room)

    async def message(**fields: Any) -> Any:
        """The first message of a stream."""
        process = await asyncio.create_subprocess_exec(
            *(str(TOOLS / "grpcurl"), "-plaintext", "-H", f"authorization: Bearer {token}"),
            *("-d", json.dumps({"room": room, **fields}), track.address),
            "track.v1.TrackService/StreamQualityReports",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        text = ""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not text.endswith("\n}\n"):
                    line = await process.stdout.readline()
                    assert line, text
                    text += line.decode()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
        return json.loads(text)

    chosen = await message(filter='report.participant_identity == "a"')
    assert [report["track_sid"] for report in chosen["reports"]] == [tone.track_sid]
    begun = await message(interval="2s", only_changes=True)
    assert {report["track_sid"] for report in begun["reports"]} == {tone.track_sid, other.track_sid}
    await admin.UnpublishTrack(publication_pb2.UnpublishTrackRequest(room=room, track_sid=other.track_sid))
    resumed = await message(interval="2s", only_changes=True, cursor=begun["cursor"])
    assert resumed["gone_track_sids"] == [other.track_sid]
    assert "resync" not in resumed
