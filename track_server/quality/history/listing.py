"""Pages of the history, oldest first."""

import asyncio
import contextlib
from typing import Final

from track.v1.quality_pb2 import ListQualityReportsRequest, ListQualityReportsResponse, QualityPoint
from track_server.durations import nanoseconds_of, seconds_of
from track_server.errors import InvalidPageToken, StoreUnavailable
from track_server.paging import DEFAULT_PAGE_SIZE, page_token, position_in
from track_server.quality.history.archive import LONG_S, PointArchive
from track_server.store.records import StoreError

# A call looks at so many points at most.
_LOOKED_AT: Final = 20_000

_Place = tuple[int, str, int, str]
"""Of a point: its time in ns, track, hop, and the client's end of it. Unique in a room, and growing."""

_BEFORE_ALL: Final[_Place] = (-1, "", 0, "")


class HistoryListing:
    """Answers ListQualityReports."""

    def __init__(self, archive: PointArchive) -> None:
        self._archive = archive

    async def page(self, request: ListQualityReportsRequest) -> ListQualityReportsResponse:
        """A page. Raises InvalidPageToken, StoreUnavailable."""
        query = _query(request)
        window_s = int(seconds_of(request.window)) or LONG_S
        begin_ns = nanoseconds_of(request.begin_time) if request.HasField("begin_time") else 0
        end_ns = nanoseconds_of(request.end_time) if request.HasField("end_time") else None
        place = _place(request.page_token, query)
        size = request.page_size or DEFAULT_PAGE_SIZE
        answer = ListQualityReportsResponse()
        looked_at = 0
        since_s = max(begin_ns, place[0]) / 1e9
        try:
            async with contextlib.aclosing(self._archive.after(request.room, window_s, since_s)) as chunks:
                async for chunk in chunks:
                    for point in chunk:
                        here = _place_of(point)
                        # Twice: it was written while it was read.
                        if here <= place or here[0] < begin_ns:
                            continue
                        if end_ns is not None and here[0] >= end_ns:
                            return answer
                        if len(answer.points) == size or looked_at == _LOOKED_AT:
                            answer.next_page_token = page_token(place, query)
                            return answer
                        looked_at += 1
                        place = here
                        if _chosen(point, request):
                            answer.points.append(point)
                    await asyncio.sleep(0)
        except StoreError as error:
            raise StoreUnavailable("the history cannot be read now") from error
        return answer


def _chosen(point: QualityPoint, request: ListQualityReportsRequest) -> bool:
    return request.track_sid in ("", point.track_sid) and request.participant_identity in (
        "",
        point.measurement.participant_identity,
    )


def _place_of(point: QualityPoint) -> _Place:
    measurement = point.measurement
    return point.time.ToNanoseconds(), point.track_sid, measurement.hop, measurement.participant_identity


def _query(request: ListQualityReportsRequest) -> tuple[str, ...]:
    asked = ListQualityReportsRequest()
    asked.CopyFrom(request)
    asked.ClearField("page_size")
    asked.ClearField("page_token")
    return ("quality_reports", asked.SerializeToString(deterministic=True).hex())


def _place(token: str, query: tuple[str, ...]) -> _Place:
    if not token:
        return _BEFORE_ALL
    match position_in(token, query):
        case (int(time_ns), str(sid), int(hop), str(identity)):
            return time_ns, sid, hop, identity
    raise InvalidPageToken("the page token is damaged", field="page_token")
