"""Subscriptions to publications last over changes of the SID: LiveKit knows them by the SID alone, and forgets them."""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from typing import Final

import structlog

from track.v1.publication_pb2 import Publication
from track_server.deadline import Deadline
from track_server.durations import seconds_of
from track_server.errors import TrackError
from track_server.lifetime import Closing, Tasks
from track_server.private_tracks.restrictions import Restrictions
from track_server.publishing.book import Book
from track_server.publishing.gaps import GapWatch
from track_server.publishing.lifecycle import ENDED
from track_server.rooms.causes import SUBSCRIPTIONS_CARRIED, rule_cause
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.subscription.choices import Choices
from track_server.subscription.controller.asking import Asking

log = structlog.get_logger(__name__)

SETTLED_S: Final = 5.0
"""Who joined longer ago and does not have a track does not want it: LiveKit subscribes joiners within 3 s."""
_SHOWN_S: Final = 10.0
_ASKED_S: Final = 3.0
"""How long LiveKit may be away."""
_AGAIN_S: Final = 0.5
"""LiveKit subscribes participants by itself when a track is published. What was asked a moment too early is lost."""


class LastingSubscriptions(Closing):
    """Carries what was chosen with UpdateSubscriptions from one track of a publication to the next; `async with`. See
    Subscribers.

    Where LiveKit's debug view is on, also what clients themselves chose is carried over.
    """

    def __init__(self, rooms: Rooms, asking: Asking, book: Book, choices: Choices, rules: Restrictions) -> None:
        self._rooms = rooms
        self._asking = asking
        self._book = book
        self._choices = choices
        self._rules = rules
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of what is under way. May be called twice."""
        await self._tasks.aclose()

    def subscribed(self, room: str, publication_id: str) -> frozenset[str]:
        """Those for whom it was chosen."""
        asked = self._choices.of_publication(room, publication_id)
        return frozenset(identity for identity, wanted in asked.items() if wanted)

    def announced(self, before: Publication | None, after: Publication) -> None:
        """Listens to the Book."""
        if before is not None and after.state != ENDED and after.track_sid and before.track_sid != after.track_sid:
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
        # What was chosen through this service is there already, or is what a client has undone since.
        known = self._choices.of_publication(live.name, publication_id)
        await self._ask_all(live.name, publication.track_sid, {**known, **seen} if watch.sees else known)

    async def _moved(self, publication: Publication) -> None:
        room, new_sid = publication.room, publication.track_sid
        asked = self._choices.of_publication(room, publication.publication_id)
        if not asked:
            return
        async with self._rooms.watch(room) as live:
            if await live.until(lambda: new_sid in live.model.tracks or live.closed, _SHOWN_S) and not live.closed:
                await self._ask_all(room, new_sid, asked)

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
        cause, deadline = rule_cause(SUBSCRIPTIONS_CARRIED), Deadline.after(_ASKED_S)
        try:
            await self._asking.ask(room, identity, [track_sid], subscribe=subscribe, cause=cause, deadline=deadline)
        except TrackError as error:
            # It may just have left.
            log.info("subscription_not_carried", room=room, identity=identity, reason=error.message)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        async def run() -> None:
            try:
                await work
            except TrackError as error:
                log.warning("subscriptions_not_carried", what=name, reason=error.message)

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
