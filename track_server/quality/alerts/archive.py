"""The alerts in the store: those that are on as records, those that ended in the journal.

Written a moment after they were told, many at a time. A record that an earlier run left is of an alert that was on when
that run ended without a word.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

from track.v1.quality_alert_pb2 import QualityAlert
from track_server.durations import seconds_of
from track_server.lifetime import Closing
from track_server.quality.alerts.messages import ended
from track_server.quality.clock import Moment
from track_server.store.backlog import Backlog
from track_server.store.journal import Addition, JournalEntry, RoomRetention
from track_server.store.records import Store, StoreError

KIND: Final = "quality_alert"
"""Of the journal, and of the records."""

_ENTRY_BYTES: Final = 2048
"""No alert is larger: two identities of 256 bytes, a SID and numbers."""

# So long changes are gathered before they are written.
_GATHER_S: Final = 0.2
# Most alerts of one write, and most changes that wait for one: beyond, the store cannot keep up.
_WRITE: Final = 500
_WAITING: Final = 20_000


class Archive(Closing):
    """Writes alerts and reads them again, `async with`. ``age_s``: how long those that ended are kept; ``most``: how
    many of a room."""

    def __init__(self, store: Store, *, age_s: float, most: int) -> None:
        self._store = store
        self._most = most
        store.journal.retain(KIND, age_s=age_s, of_room=RoomRetention(most, most * _ENTRY_BYTES))
        self._backlog = Backlog(
            self._write, gather_s=_GATHER_S, batch=_WRITE, most=_WAITING, lost="quality_alerts_not_kept"
        )

    async def aclose(self) -> None:
        """Writes what waits. May be called twice."""
        await self._backlog.aclose()

    async def load(self) -> None:
        """Ends what an earlier run left on, now and unproved: nobody looked in between. Raises StoreError."""
        for record in await self._store.list(KIND):
            alert = QualityAlert.FromString(record.body)
            number = _number(alert)
            known = await self._store.journal.find(KIND, record.room, mark=alert.alert_id, number=number)
            if known is None:
                # It cannot have ended before it began, wherever the clock was set to.
                now = Moment(max(time.time(), seconds_of(alert.start_time)), 0.0)
                self.keep(record.room, ended(alert, now, proved=False))
            else:
                await self._store.delete(KIND, record.room, alert.alert_id)
        await self.flush()

    def keep(self, room: str, alert: QualityAlert) -> None:
        """Has an alert written that went on, or that ended. The message is kept: do not change it afterwards."""
        self._backlog.keep((room, alert))

    async def flush(self) -> None:
        """Returns once all that was to be kept until now is in the store, or was given up."""
        await self._backlog.flush()

    async def ended(self, room: str, *, before: int | None, limit: int) -> list[JournalEntry]:
        """At most ``limit`` of the room's that ended, newest first, before that sequence number. Raises StoreError."""
        return await self._store.journal.newest(KIND, room, before=before, limit=limit)

    async def _write(self, batch: Sequence[tuple[str, QualityAlert]]) -> None:
        over = [(room, alert) for room, alert in batch if alert.HasField("end_time")]
        gone = {alert.alert_id for _, alert in over}
        # What went on and off within the batch was never known to be on.
        puts = [(room, alert) for room, alert in batch if alert.alert_id not in gone]
        await self._together(self._store.put(KIND, room, one.alert_id, one.SerializeToString()) for room, one in puts)
        # First the end, then the record away: what is between the two is seen by `load`.
        await self._store.journal.append_all(
            KIND,
            [Addition(room, alert.SerializeToString(), alert.alert_id, _number(alert)) for room, alert in over],
        )
        await self._together(self._store.delete(KIND, room, alert.alert_id) for room, alert in over)

    async def _together(self, writes: Iterable[Coroutine[Any, Any, object]]) -> None:
        """All at once, so that the store writes them together. Raises StoreError."""
        try:
            async with asyncio.TaskGroup() as group:
                for write in writes:
                    _ = group.create_task(write)
        except* StoreError as errors:
            raise StoreError(str(errors.exceptions[0])) from errors


def _number(alert: QualityAlert) -> int:
    """Of its entry: when it began, in seconds since 1970."""
    return max(0, int(seconds_of(alert.start_time)))
