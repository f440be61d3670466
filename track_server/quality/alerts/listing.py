"""Pages of alerts: those that are on, then those that ended, newest first."""

from typing import Final

from track.v1.quality_alert_pb2 import ListQualityAlertsRequest, ListQualityAlertsResponse, QualityAlert
from track_server.cel import compile_filter, in_time
from track_server.errors import InvalidPageToken, StoreUnavailable
from track_server.paging import DEFAULT_PAGE_SIZE, Position, page_token, position_in
from track_server.quality.alerts.alerts import Alerts
from track_server.quality.alerts.archive import Archive
from track_server.store.records import StoreError

# A call looks at so many that ended, at most, read so many at a time.
_LOOKED_AT: Final = 5000
_CHUNK: Final = 250

_ON, _ENDED = 0, 1
_MAX_SEQUENCE: Final = 2**63


class AlertListing:
    """Answers ListQualityAlerts."""

    def __init__(self, alerts: Alerts, archive: Archive) -> None:
        self._alerts = alerts
        self._archive = archive

    async def page(self, request: ListQualityAlertsRequest) -> ListQualityAlertsResponse:
        """A page. Raises InvalidExpression, InvalidPageToken, StoreUnavailable."""
        matches = in_time(compile_filter(request.filter, "alert"))
        query = ("quality_alerts", request.room, request.filter, str(request.active_only))
        size = request.page_size or DEFAULT_PAGE_SIZE
        # (_ON, start, id) of the last one that was looked at, or (_ENDED, sequence, "").
        after = _after(request.page_token, query)
        answer = ListQualityAlertsResponse()
        if after[0] == _ON:
            on = sorted(self._alerts.active(request.room), key=_begun, reverse=True)
            for alert in on:
                if request.page_token and _begun(alert) >= (after[1], after[2]):
                    continue
                if matches(alert):
                    answer.alerts.append(alert)
                    if len(answer.alerts) == size:
                        answer.next_page_token = page_token((_ON, *_begun(alert)), query)
                        return answer
        if request.active_only:
            return answer
        before = after[1] if after[0] == _ENDED else None
        assert before is None or isinstance(before, int)
        try:
            await self._archive.flush()
            looked_at = 0
            while looked_at < _LOOKED_AT:
                rows = await self._archive.ended(request.room, before=before, limit=_CHUNK)
                for row in rows:
                    if len(answer.alerts) == size:
                        answer.next_page_token = page_token((_ENDED, before or _MAX_SEQUENCE - 1, ""), query)
                        return answer
                    before = row.sequence
                    alert = QualityAlert.FromString(row.body)
                    if matches(alert):
                        answer.alerts.append(alert)
                if len(rows) < _CHUNK:
                    return answer
                looked_at += len(rows)
        except StoreError as error:
            raise StoreUnavailable("the alerts cannot be read now") from error
        answer.next_page_token = page_token((_ENDED, before or _MAX_SEQUENCE - 1, ""), query)
        return answer


def _begun(alert: QualityAlert) -> tuple[int, str]:
    return alert.start_time.ToNanoseconds(), alert.alert_id


def _after(token: str, query: tuple[str, ...]) -> Position:
    if not token:
        return (_ON, 0, "")
    match position_in(token, query):
        case (0, int(start), str(alert_id)):
            return (_ON, start, alert_id)
        case (1, int(before), str()) if 0 < before < _MAX_SEQUENCE:
            return (_ENDED, before, "")
    raise InvalidPageToken("the page token is damaged", field="page_token")
