"""The level RESUBSCRIBE: subscriptions are taken away and given back, none is lost and none made."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

import structlog

from track.v1 import event_pb2, publication_pb2
from track.v1.publication_pb2 import Evidence
from track_server.deadline import Deadline
from track_server.errors import LiveKitUnavailable, NotSupported, TrackError
from track_server.livekit.debug import DebugView, DownTrack
from track_server.publishing.gaps import GapWatch
from track_server.rooms.causes import SUBSCRIPTIONS_CARRIED, rule_cause
from track_server.rooms.room import LiveRoom
from track_server.rooms.subscriptions import Subscriptions
from track_server.store.records import Store

log = structlog.get_logger(__name__)

_KIND: Final = "resubscription"
_LOOK_S: Final = 0.05
_TICK_S: Final = 3.5
"""LiveKit carries out a change of subscriptions within its reconciler's tick of 3 s, and half a second to do so."""


class Subscribers(Protocol):
    """Who subscribes to publications, and is carried over from one SID to the next: see LastingSubscriptions."""

    def subscribed(self, room: str, publication_id: str) -> frozenset[str]:
        """Those for whom it was asked for through this service."""

    async def carry(self, live: LiveRoom, publication_id: str, watch: GapWatch) -> None:
        """Has those who were subscribed to the old track of ``watch`` subscribed to the new one, and others not."""


class Resubscribing:
    """What it took away and has not given back outlasts a restart of the server: see ``restore``."""

    def __init__(
        self, subscriptions: Subscriptions, debug: DebugView | None, subscribers: Subscribers, store: Store
    ) -> None:
        self._subscriptions = subscriptions
        self._debug = debug
        self._subscribers = subscribers
        self._store = store

    async def down(self, live: LiveRoom, track_sid: str) -> list[DownTrack] | None:
        """LiveKit's copies of the track, this service's own left out; None where nobody can see them."""
        if self._debug is None:
            return None
        try:
            copies = await self._debug.down_tracks(live.name)
        except LiveKitUnavailable:
            return None
        own = live.watcher_identity
        return [copy for copy in copies if copy.track_sid == track_sid and copy.subscriber_identity != own]

    async def again(
        self, live: LiveRoom, track_sid: str, publication_id: str, cause: event_pb2.EventCause
    ) -> "Evidence.ValueType":
        """Takes the subscriptions of the track away and gives them back; returns where both were seen.

        Raises NotSupported where nobody knows who is subscribed. What was taken away is given back in any case.
        """
        copies = await self.down(live, track_sid)
        seen = copies is not None
        identities = frozenset(copy.subscriber_identity for copy in copies or ())
        if not seen and publication_id:
            identities = self._subscribers.subscribed(live.name, publication_id)
        if not seen and not identities:
            raise NotSupported(
                "nobody knows who is subscribed: LiveKit's debug view is off, and no subscription was made here"
            )
        if not identities:
            return publication_pb2.EVIDENCE_DEBUG_VIEW
        await self._store.put(_KIND, live.name, track_sid, "\n".join(sorted(identities)).encode())
        try:
            await self._set(live.name, identities, track_sid, cause, subscribe=False)
            away = await self._until(live, track_sid, identities, lambda found: not found)
        finally:
            await self._give_back(live.name, track_sid, identities, cause)

        def subscribed(found: Sequence[DownTrack]) -> bool:
            return {copy.subscriber_identity for copy in found if copy.bound} >= identities

        back = away and await self._until(live, track_sid, identities, subscribed)
        return publication_pb2.EVIDENCE_DEBUG_VIEW if back else publication_pb2.EVIDENCE_UNSPECIFIED

    async def restore(self) -> None:
        """Gives back what a run that broke off has taken away."""
        for record in await self._store.list(_KIND):
            cause = rule_cause(SUBSCRIPTIONS_CARRIED)
            await self._give_back(record.room, record.key, record.body.decode().split("\n"), cause)

    async def _give_back(
        self, room: str, track_sid: str, identities: Collection[str], cause: event_pb2.EventCause
    ) -> None:
        await self._set(room, identities, track_sid, cause, subscribe=True)
        await self._store.delete(_KIND, room, track_sid)

    async def _until(
        self,
        live: LiveRoom,
        track_sid: str,
        identities: Collection[str],
        holds: Callable[[Sequence[DownTrack]], bool],
    ) -> bool:
        """Looks until it holds of the copies for those; says whether that was seen. Takes LiveKit's time where nobody
        sees it."""
        deadline = Deadline.after(_TICK_S)
        while True:
            copies = await self.down(live, track_sid)
            if copies is None:
                await asyncio.sleep(deadline.remaining_s())
                return False
            if holds([copy for copy in copies if copy.subscriber_identity in identities]):
                return True
            if deadline.remaining_s() <= _LOOK_S:
                return False
            await asyncio.sleep(_LOOK_S)

    async def _set(
        self,
        room: str,
        identities: Collection[str],
        track_sid: str,
        cause: event_pb2.EventCause,
        *,
        subscribe: bool,
    ) -> None:
        async def one(identity: str) -> None:
            try:
                await self._subscriptions.update(room, identity, [track_sid], subscribe=subscribe, cause=cause)
            except TrackError as error:
                # It may just have left.
                log.info("not_resubscribed", room=room, identity=identity, track_sid=track_sid, reason=error.message)

        await asyncio.gather(*(one(identity) for identity in identities))
