"""The history: a point where something was measured, every 5 s and every 60 s, by page, within its bounds."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.quality.rooms import infos
from tests.quality.told_room import BEGIN_S, SetClock, ToldRoom, store_at
from track.v1.quality_alert_pb2 import QualityHop
from track.v1.quality_pb2 import ListQualityReportsRequest, QualityPoint
from track_server.durations import duration_of, seconds_of, timestamp_at
from track_server.errors import InvalidPageToken, StoreUnavailable
from track_server.quality.history.archive import PointArchive
from track_server.quality.history.history import History
from track_server.quality.history.listing import HistoryListing

MIB = 1 << 20


class Run:
    """One run of a server."""

    def __init__(self, archive: PointArchive, names: tuple[str, ...]) -> None:
        self.archive, self.clock = archive, SetClock()
        self.history = History(archive)
        self.rooms = [ToldRoom(self.clock, self.history.assessed, name=name) for name in names]
        self.told = self.rooms[0]
        self.listing = HistoryListing(archive)

    async def points(self, window_s: float | None = 5, **query: object) -> list[QualityPoint]:
        """Of all pages."""
        request = ListQualityReportsRequest(room="room", **query)  # type: ignore[arg-type]
        if window_s is not None:
            request.window.CopyFrom(duration_of(window_s))
        found: list[QualityPoint] = []
        while True:
            answer = await self.listing.page(request)
            found += answer.points
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token


@contextlib.asynccontextmanager
async def running(directory: Path, *, room_bytes: int = MIB, names: tuple[str, ...] = ("room",)) -> AsyncIterator[Run]:
    async with (
        store_at(directory) as store,
        PointArchive(store.journal, room_bytes=room_bytes, max_bytes=64 * MIB) as archive,
    ):
        yield Run(archive, names)


def times(points: list[QualityPoint]) -> list[float]:
    return [seconds_of(point.time) - BEGIN_S for point in points]


async def test_there_is_a_point_every_five_seconds_and_one_every_minute_also_before_they_are_written(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as run:
        run.told.pass_s(121)
        short, long = await run.points(), await run.points(60)
        assert times(short) == [6.0 + 5 * number for number in range(24)]
        assert times(long) == [61.0, 121.0]
        assert [point.time for point in await run.points(None)] == [point.time for point in long]
        point = short[-1]
        assert (point.track_sid, point.publisher_identity) == ("TR_a", "alice")
        assert point.measurement.hop == QualityHop.QUALITY_HOP_UPLINK
        assert point.measurement.bitrate_bps.value == pytest.approx(40_000)
        assert point.measurement.audio_mos > 4
        assert not point.measurement.HasField("frozen")
        assert seconds_of(point.measurement.window) == pytest.approx(5, abs=1.01)
        assert seconds_of(long[-1].measurement.window) == pytest.approx(60, abs=1.01)


async def test_the_history_outlives_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.told.pass_s(61)
        before = await run.points()
    async with running(tmp_path) as run:
        assert await run.points() == before
        assert len(await run.points(60)) == 1


async def test_where_nobody_measured_there_is_no_point(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.told.live.update(infos({"alice": ["TR_a", "TR_v"]}))
        run.told.pass_s(16)
        run.told.pass_s(30, told=False)
        run.told.pass_s(15)
        assert {point.track_sid for point in await run.points()} == {"TR_a"}
        silent = [time for time in times(await run.points()) if 21 < time <= 46]
        assert not silent
        assert max(times(await run.points())) > 50


async def test_times_that_no_calendar_has_are_taken_for_what_they_count(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.told.pass_s(16)
        for seconds, found in ((10**15, 0), (-(10**15), 3)):
            request = ListQualityReportsRequest(room="room")
            request.window.FromSeconds(5)
            request.begin_time.seconds = seconds
            request.begin_time.nanos = -5
            assert len((await run.listing.page(request)).points) == found


async def test_what_is_chosen_comes_by_page_in_its_order_written_or_not(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        for _ in range(10):
            run.told.pass_s(60)
            await run.archive.write()
        assert not run.archive.waiting
        run.told.pass_s(100)
        whole = await run.points()
        assert times(whole) == [6.0 + 5 * number for number in range(139)]
        assert await run.points(page_size=7) == whole
        assert await run.points(track_sid="TR_a", participant_identity="alice") == whole
        assert not await run.points(track_sid="TR_other")
        assert not await run.points(participant_identity="bob")
        begin, end = timestamp_at(BEGIN_S + 301), timestamp_at(BEGIN_S + 651)
        part = await run.points(begin_time=begin, end_time=end, page_size=10)
        assert times(part) == [301.0 + 5 * number for number in range(70)]
        page = await run.listing.page(ListQualityReportsRequest(room="room", page_size=1))
        with pytest.raises(InvalidPageToken):
            await run.points(page_token=page.next_page_token, track_sid="TR_a")
        with pytest.raises(InvalidPageToken):
            await run.points(page_token="x")


async def test_points_that_are_written_while_they_are_read_come_once(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.told.pass_s(60)
        before = await run.points()
        chunks = run.archive.after("room", 5, 0.0)
        async with contextlib.aclosing(chunks):
            # It has begun: what waits now is read after what is stored.
            first = await anext(chunks)
            assert first == before
        await run.archive.write()
        assert await run.points() == before


async def test_a_room_has_its_bound_of_bytes_the_oldest_go_first(tmp_path: Path) -> None:
    async with running(tmp_path, room_bytes=3_000, names=("room", "other")) as run:
        for _ in range(12):
            for told in run.rooms:
                told.pass_s(60)
            await run.archive.write()
        kept = await run.points()
        assert 0 < len(kept) < 12 * 24
        assert times(kept)[-1] > run.clock.monotonic_s - 70


async def test_what_the_store_fails_to_take_waits(tmp_path: Path) -> None:
    async with store_at(tmp_path) as store, PointArchive(store.journal, room_bytes=MIB, max_bytes=MIB) as archive:
        run = Run(archive, ("room",))
        run.told.pass_s(31)
        await store.aclose()
        await archive.write()
        assert archive.waiting == 6
        with pytest.raises(StoreUnavailable):
            await run.points()
