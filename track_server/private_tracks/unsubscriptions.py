"""Unsubscribing those that may not subscribe, where the SFU does not refuse by itself."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from track.v1 import track_pb2
from track_server.errors import TrackError
from track_server.lifetime import Closing, Tasks
from track_server.livekit.debug import DownTrack
from track_server.private_tracks.standing import Standing, asked_again, seen, uninvited
from track_server.rooms.causes import PRIVATE_TRACK, rule_cause
from track_server.rooms.subscriptions import Subscriptions

log = structlog.get_logger(__name__)

ASK_AGAIN_S: Final = 1.0
"""LiveKit takes up to 3 s for an unsubscription; one that is not seen by then was undone by the client."""
_ASKED_AT_ONCE: Final = 16


class Unsubscriptions(Closing):
    """Asks LiveKit, for one room. `async with` owns what is under way; ``changed`` is called after each answer."""

    def __init__(self, room: str, subscriptions: Subscriptions, changed: Callable[[], None]) -> None:
        self._room = room
        self._subscriptions = subscriptions
        self._changed = changed
        self._tasks = Tasks()
        self._asking: set[tuple[str, str]] = set()
        """Under way, by track SID and identity."""
        self._asked_at: dict[tuple[str, str], float] = {}
        self._slots = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def aclose(self) -> None:
        """Asks no more. May be called twice."""
        await self._tasks.aclose()

    def ask(
        self,
        standing: Standing,
        participants: Mapping[str, track_pb2.Participant],
        down: Sequence[DownTrack] | None,
        watcher_identity: str,
    ) -> None:
        """Asks for those that receive the track by the debug view's ``down`` first, then for everybody who is new.

        ``down``: None where nobody sees who receives it.
        """
        receiving = [copy.subscriber_identity for copy in seen(down or (), standing, watcher_identity)]
        now = self._now()
        for identity in [*receiving, *uninvited(standing, participants, watcher_identity, now, blind=down is None)]:
            pair = (standing.subject.track_sid, identity)
            if pair not in self._asking and now - self._asked_at.get(pair, -math.inf) >= ASK_AGAIN_S:
                self._asked_at[pair] = now
                sid = participants[identity].sid if identity in participants else ""
                # Counted at once: a task that is cancelled before it begins never says that it is over.
                standing.asking += 1
                self._asking.add(pair)
                self._tasks.spawn(self._ask(standing, identity, sid), name=f"unsubscribe {pair}")

    def forget(self, track_sid: str) -> None:
        """The track is gone."""
        for pair in [pair for pair in self._asked_at if pair[0] == track_sid]:
            del self._asked_at[pair]

    async def _ask(self, standing: Standing, identity: str, participant_sid: str) -> None:
        pair = (standing.subject.track_sid, identity)
        try:
            async with self._slots:
                cause = rule_cause(PRIVATE_TRACK)
                await self._subscriptions.update(self._room, identity, [pair[0]], subscribe=False, cause=cause)
            standing.asked[identity] = asked_again(standing.asked.get(identity), participant_sid, self._now())
        except TrackError as error:
            # It may just have left. While it is there, it is asked again at the next look.
            log.info("not_unsubscribed", room=self._room, identity=identity, track_sid=pair[0], reason=error.message)
        finally:
            standing.asking -= 1
            self._asking.remove(pair)
            self._changed()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
