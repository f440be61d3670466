"""The actions in the store: each when it is taken, and again when more is known of it."""

import time
from collections.abc import AsyncIterator
from typing import Final

from track.v1.quality_policy_pb2 import QualityAction, QualityVerdict
from track_server.durations import seconds_of
from track_server.quality.acting.messages import judged
from track_server.store.journal import Addition, Journal, RoomRetention

KIND: Final = "quality_action"
"""Of the journal."""
_ENTRY_BYTES: Final = 2048
"""Room for each on average: identities, reason and numbers have some 300 bytes."""
_CHUNK: Final = 500
_JUDGED_S: Final = 240.0
"""So long after an action its verdict is known, if it ever is: the longest settle and observe times, and a minute."""


class ActionHistory:
    """Writes them and reads them again. ``age_s``: how long they are kept; ``most``: how many of a room, about."""

    def __init__(self, journal: Journal, *, age_s: float, most: int) -> None:
        self._journal = journal
        # Each has two entries: taken, and judged.
        journal.retain(KIND, age_s=age_s, of_room=RoomRetention(2 * most, 2 * most * _ENTRY_BYTES))

    async def add(self, room: str, action: QualityAction, *, version: int = 0) -> None:
        """``version``: 0 when it is taken, greater when more is known of it. Raises StoreError."""
        await self._journal.append_all(KIND, [Addition(room, action.SerializeToString(), action.action_id, version)])

    async def newest(self, room: str) -> AsyncIterator[tuple[int, QualityAction]]:
        """All that are kept of the room, newest first, each as it is known last, with a number that falls.

        Raises StoreError.
        """
        latest: dict[str, QualityAction] = {}
        before: int | None = None
        while True:
            rows = await self._journal.newest(KIND, room, before=before, limit=_CHUNK)
            for row in rows:
                before = row.sequence
                if row.number:
                    if row.mark not in latest:
                        latest[row.mark] = QualityAction.FromString(row.body)
                    continue
                action = latest.pop(row.mark, None) or QualityAction.FromString(row.body)
                yield row.sequence, _settled(action)
            if len(rows) < _CHUNK:
                return


def _settled(action: QualityAction) -> QualityAction:
    """An action whose verdict was never told: this service ended before, or its room did."""
    open_verdict = action.verdict == QualityVerdict.QUALITY_VERDICT_UNSPECIFIED
    if open_verdict and time.time() - seconds_of(action.time) > _JUDGED_S:
        return judged(action, None, None)
    return action
