"""Subscriptions to publications last over changes of the SID: LiveKit knows them by the SID alone, and forgets them."""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from typing import Final

import structlog

from track.v1.publication_pb2 import Publication
from track_server.durations import seconds_of
from track_server.errors import TrackError
from track_server.lifetime import Closing, Tasks
from track_server.publishing.book import Book
from track_server.publishing.gaps import GapWatch
from track_server.publishing.lifecycle import ENDED
from track_server.rooms.causes import SUBSCRIPTIONS_CARRIED, rule_cause
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.subscriptions import Subscriptions
from track_server.store.records import Store, StoreError
from track_server.subscription.granted import GrantedSubscriptions
from track_server.subscription.restrictions import Restrictions

log = structlog.get_logger(__name__)

_KIND: Final = "lasting_subscription"
_SUBSCRIBED, _UNSUBSCRIBED = b"1", b"0"
SETTLED_S: Final = 5.0
"""Who joined longer ago and does not have a track does not want it: LiveKit subscribes joiners within 3 s."""
_SHOWN_S: Final = 10.0
_AGAIN_S: Final = 0.5
"""LiveKit subscribes participants by itself when a track is published. What was asked a moment too early is lost."""


class LastingSubscriptions(Closing):
    """What was asked for with UpdateSubscriptions, by publication and participant; `async with`. See Subscribers.

    Where LiveKit's debug view is on, also what clients themselves chose is carried over.
    """

    def __init__(
        self,
        rooms: Rooms,
        subscriptions: Subscriptions,
        store: Store,
        book: Book,
        granted: GrantedSubscriptions,
        rules: Restrictions,
    ) -> None:
        self._rooms = rooms
        self._subscriptions = subscriptions
        self._store = store
        self._book = book
        self._granted = granted
        self._rules = rules
        self._asked: dict[tuple[str, str], dict[str, bool]] = {}
        """Whether subscribed, by room and publication id, and then by identity."""
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of what is under way. May be called twice."""
        await self._tasks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left of publications that have not ended."""
        for record in await self._store.list(_KIND):
            publication_id, _, identity = record.key.partition(" ")
            publication = self._book.find(record.room, publication_id)
            if publication is None or publication.state == ENDED:
                await self._store.delete(_KIND, record.room, record.key)
            else:
                asked = self._asked.setdefault((record.room, publication_id), {})
                asked[identity] = record.body == _SUBSCRIBED

    async def asked(self, room: str, publication_id: str, identity: str, *, subscribe: bool) -> None:
        """It was asked for. Raises StoreError."""
        self._asked.setdefault((room, publication_id), {})[identity] = subscribe
        body = _SUBSCRIBED if subscribe else _UNSUBSCRIBED
        await self._store.put(_KIND, room, f"{publication_id} {identity}", body)

    def subscribed(self, room: str, publication_id: str) -> frozenset[str]:
        """Those for whom it was asked for."""
        asked = self._asked.get((room, publication_id), {})
        return frozenset(identity for identity, wanted in asked.items() if wanted)

    def announced(self, before: Publication | None, after: Publication) -> None:
        """Listens to the Book."""
        if after.state == ENDED:
            self._spawn(self._forget(after), "forget subscriptions")
        elif before is not None and after.track_sid and before.track_sid != after.track_sid:
            self._spawn(self._moved(after), "carry subscriptions")

    async def carry(self, live: LiveRoom, publication_id: str, watch: GapWatch) -> None:
        """See Subscribers."""
        publication = self._book.find(live.name, publication_id)
        if publication is None or publication.state == ENDED:
            return
        seen: dict[str, bool] = {}
        if watch.sees:
            old_sid = watch.gaps.old_sid
            seen = {identity: True for sid, identity in watch.at_first if sid == old_sid}
            if not self._rules.restricted(live.name, publication_id):
                seen |= {identity: False for identity in _settled(live, publication) if identity not in seen}
        # What was asked for through this service is there already, or is what a client has undone since.
        known = self._asked.get((live.name, publication_id), {})
        await self._ask_all(live.name, publication.track_sid, {**known, **seen} if watch.sees else known)

    async def _moved(self, publication: Publication) -> None:
        room, new_sid = publication.room, publication.track_sid
        for entry in publication.lineage:
            if entry.track_sid != new_sid:
                await self._granted.carry(room, entry.track_sid, new_sid)
        asked = self._asked.get((room, publication.publication_id))
        if not asked:
            return
        async with self._rooms.watch(room) as live:
            if await live.until(lambda: new_sid in live.model.tracks or live.closed, _SHOWN_S) and not live.closed:
                await self._ask_all(room, new_sid, dict(asked))

    async def _ask_all(self, room: str, track_sid: str, wanted: dict[str, bool]) -> None:
        """Asks LiveKit, twice for those who are not to have it."""
        await asyncio.gather(*(self._ask(room, track_sid, who, subscribe=value) for who, value in wanted.items()))
        without = [identity for identity, value in wanted.items() if not value]
        if without:
            self._spawn(self._unsubscribe_again(room, track_sid, without), "unsubscribe again")

    async def _unsubscribe_again(self, room: str, track_sid: str, identities: Iterable[str]) -> None:
        await asyncio.sleep(_AGAIN_S)
        await asyncio.gather(*(self._ask(room, track_sid, identity, subscribe=False) for identity in identities))

    async def _ask(self, room: str, track_sid: str, identity: str, *, subscribe: bool) -> None:
        live = self._rooms.find(room)
        if not subscribe and live is not None and live.current and identity not in live.model.participants:
            # LiveKit would look for it for three seconds. Who is to have it may have joined a moment ago.
            return
        try:
            cause = rule_cause(SUBSCRIPTIONS_CARRIED)
            await self._subscriptions.update(room, identity, [track_sid], subscribe=subscribe, cause=cause)
        except TrackError as error:
            # It may just have left.
            log.info("subscription_not_carried", room=room, identity=identity, reason=error.message)

    async def _forget(self, publication: Publication) -> None:
        for entry in publication.lineage:
            await self._granted.forget(publication.room, entry.track_sid)
        asked = self._asked.pop((publication.room, publication.publication_id), {})
        for identity in asked:
            await self._store.delete(_KIND, publication.room, f"{publication.publication_id} {identity}")

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        async def run() -> None:
            try:
                await work
            except (TrackError, StoreError) as error:
                log.warning("subscriptions_not_carried", what=name, reason=str(error))

        self._tasks.spawn(run(), name=name)


def _settled(live: LiveRoom, publication: Publication) -> list[str]:
    """Who could have subscribed to the publication, and was there for long enough."""
    return [
        identity
        for identity, participant in live.model.participants.items()
        if identity != publication.participant_identity
        and participant.permission.can_subscribe
        and time.time() - seconds_of(participant.join_time) > SETTLED_S
    ]
