"""The owner of manual choices, in memory and in the store: how a subscriber is to have a track, as somebody chose."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Final
from weakref import WeakValueDictionary

import structlog

from track.v1.track_pb2 import Track
from track_server.alarms import Alarms
from track_server.errors import Draining
from track_server.lifetime import Closing, Tasks
from track_server.publishing.book import Book
from track_server.publishing.lifecycle import ENDED
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.store.records import Store, StoreError
from track_server.subscription.choice import Choice, Chosen, decoded
from track_server.subscription.lineages import Lineage, Lineages

log = structlog.get_logger(__name__)

_KIND: Final = "subscription_choice"

Listener = Callable[[str, str, str], None]
"""Told of the room, the subscriber's identity and the track's SID. It must neither wait nor raise."""


class Choices(Closing):
    """All of them, `async with`. One holds until it is released or expires; and see Following.

    ``lives``: what keeps the rooms watched in which there are any.
    """

    def __init__(self, store: Store, book: Book, lives: Lives) -> None:
        self._store = store
        self._book = book
        self._lives = lives
        self._rooms: dict[str, Lineages[Choice]] = {}
        self._listeners: list[Listener] = []
        self._turns: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()
        self._alarms = Alarms(self._expire)
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go; the choices stay. May be called twice."""
        await self._alarms.aclose()
        await self._tasks.settle()
        await self._tasks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left of tracks, and of publications that have not ended."""
        for record in await self._store.list(_KIND):
            key, _, identity = record.key.partition(" ")
            try:
                chosen, choice = decoded(record.room, key, identity, record.body)
            except (KeyError, ValueError, TypeError):
                log.exception("subscription_choice_not_read", room=record.room, key=record.key)
                continue
            if chosen.publication_id:
                publication = self._book.find(record.room, chosen.publication_id)
                if publication is None or publication.state == ENDED:
                    await self._store.delete(_KIND, record.room, record.key)
                    continue
                chosen = Chosen.of_publication(publication)
            self._rooms.setdefault(record.room, Lineages[Choice]()).add(chosen).choices[identity] = choice

    def restore(self) -> None:
        """Begins the time of what an earlier run left."""
        for chosen, choice in list(self.all()):
            self._alarms.set(_alarm(chosen, choice.participant_identity), choice.expire_time)

    # Reading.

    def of(self, room: str, identity: str, track_sid: str) -> Choice | None:
        """What was chosen for that subscriber of that track, and has not expired."""
        lineages = self._rooms.get(room)
        lineage = lineages.of_sid(track_sid) if lineages is not None else None
        choice = lineage.choices.get(identity) if lineage is not None else None
        if choice is None or (choice.expire_time is not None and choice.expire_time <= time.time()):
            return None
        return choice

    def rooms(self) -> Sequence[str]:
        """Rooms in which anything was chosen."""
        return list(self._rooms)

    def concerns(self, room: str) -> bool:
        """Whether anything was chosen in the room."""
        return room in self._rooms

    def all(self) -> Iterator[tuple[Chosen, Choice]]:
        """Every choice, with the track that it is about."""
        for lineages in self._rooms.values():
            for lineage in lineages.all():
                for choice in lineage.choices.values():
                    yield lineage.chosen, choice

    def of_publication(self, room: str, publication_id: str) -> dict[str, bool]:
        """Whether those for whom it was chosen are to have the publication, by identity."""
        lineages = self._rooms.get(room)
        lineage = lineages.of_key(publication_id) if lineages is not None else None
        return {} if lineage is None else {who: choice.subscribe for who, choice in lineage.choices.items()}

    def lineages(self, room: str) -> Lineages[Choice] | None:
        """The tracks about which there are choices in the room."""
        return self._rooms.get(room)

    def key_of(self, track: Track) -> str:
        """The ``track`` of choices about it."""
        lineages = self._rooms.get(track.room)
        lineage = lineages.of_sid(track.sid) if lineages is not None else None
        return lineage.chosen.key if lineage is not None else Chosen.of(track).key

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of every choice that was made, has changed, or is over; also that its track has another
        SID. What is told is so here, and stored where a call asked for it."""
        self._listeners.append(listener)

    # Choosing.

    async def choose(self, live: LiveRoom, track: Track, choice: Choice) -> None:
        """Takes it at once, in the place of the one before, and returns when it is stored.

        Raises StoreError: then all is as before. Who is cancelled meanwhile has chosen all the same.
        """
        await self._lives.want(live)
        await asyncio.shield(self._tasks.begin(self._choose(live, track, choice), name="store a subscription choice"))

    async def _choose(self, live: LiveRoom, track: Track, choice: Choice) -> None:
        identity = choice.participant_identity
        async with self._turn(live.name, choice.track, identity):
            lineages = self._rooms.setdefault(live.name, Lineages[Choice]())
            lineages.follow(live)
            lineage = lineages.of_key(choice.track) or lineages.add(Chosen.of(track))
            before = lineage.choices.get(identity)
            lineage.choices[identity] = choice
            self._lives.held(live)
            try:
                await self._write(lineage.chosen, choice)
            except StoreError:
                if before is not None:
                    lineage.choices[identity] = before
                else:
                    self._drop(lineage, identity)
                raise
            self._alarms.set(_alarm(lineage.chosen, identity), choice.expire_time)
        self._tell(lineage, identity)

    async def release(self, room: str, identity: str, track_sid: str) -> Choice | None:
        """Gives a choice up; returns it once it is out of the store, None where there is none.

        Raises StoreError. Who is cancelled meanwhile has given it up all the same.
        """
        releasing = self._release(room, identity, track_sid)
        return await asyncio.shield(self._tasks.begin(releasing, name="release a subscription choice"))

    async def _release(self, room: str, identity: str, track_sid: str) -> Choice | None:
        lineages = self._rooms.get(room)
        lineage = lineages.of_sid(track_sid) if lineages is not None else None
        if lineage is None:
            return None
        async with self._turn(room, lineage.chosen.key, identity):
            choice = lineage.choices.get(identity)
            if choice is None:
                return None
            await self._store.delete(_KIND, room, _key(lineage.chosen, identity))
            self._drop(lineage, identity)
        self._tell(lineage, identity)
        return choice

    # What becomes of them: see Following.

    def moved(self, lineage: Lineage[Choice], *, keep: bool) -> None:
        """Its track has another SID. ``keep``: that is to be stored."""
        for identity in list(lineage.choices):
            if keep:
                self._spawn(self._keep(lineage, identity))
            self._tell(lineage, identity)

    def end(self, lineage: Lineage[Choice], identity: str | None = None) -> None:
        """What was chosen of it is over, of that subscriber or of all."""
        for who in list(lineage.choices) if identity is None else [identity]:
            if who in lineage.choices:
                self._drop(lineage, who)
                self._spawn(self._delete(lineage.chosen, who))
                self._tell(lineage, who)

    async def _expire(self, alarm: str) -> None:
        """The time of a choice has come."""
        room, key, identity = json.loads(alarm)
        lineages = self._rooms.get(room)
        lineage = lineages.of_key(key) if lineages is not None else None
        choice = lineage.choices.get(identity) if lineage is not None else None
        if lineage is None or choice is None or choice.expire_time is None or choice.expire_time > time.time():
            return
        log.info("subscription_choice_expired", room=room, identity=identity, track_sid=lineage.chosen.track_sid)
        # The store forgets it by itself.
        self._drop(lineage, identity)
        self._tell(lineage, identity)

    # Keeping.

    def _drop(self, lineage: Lineage[Choice], identity: str) -> None:
        """Takes it out of memory."""
        choice = lineage.choices.pop(identity, None)
        if choice is not None and choice.expire_time is not None and choice.expire_time > time.time():
            # Else it is the alarm that does this.
            self._alarms.set(_alarm(lineage.chosen, identity), None)
        room, lineages = lineage.chosen.room, self._rooms.get(lineage.chosen.room)
        if lineages is None or lineage.choices:
            return
        lineages.remove(lineage)
        if not lineages:
            del self._rooms[room]
            self._lives.settle(room)

    async def _keep(self, lineage: Lineage[Choice], identity: str) -> None:
        """Stores as which SID its track is in the room."""
        async with self._turn(lineage.chosen.room, lineage.chosen.key, identity):
            choice = lineage.choices.get(identity)
            if choice is not None:
                await self._write(lineage.chosen, choice)

    async def _delete(self, chosen: Chosen, identity: str) -> None:
        async with self._turn(chosen.room, chosen.key, identity):
            lineages = self._rooms.get(chosen.room)
            lineage = lineages.of_key(chosen.key) if lineages is not None else None
            if lineage is None or identity not in lineage.choices:
                await self._store.delete(_KIND, chosen.room, _key(chosen, identity))

    async def _write(self, chosen: Chosen, choice: Choice) -> None:
        key = _key(chosen, choice.participant_identity)
        await self._store.put(_KIND, chosen.room, key, choice.encoded(chosen), expire_time=choice.expire_time)

    def _turn(self, room: str, key: str, identity: str) -> asyncio.Lock:
        """Held by whoever writes that one."""
        turn = self._turns.get((room, key, identity))
        if turn is None:
            turn = self._turns[room, key, identity] = asyncio.Lock()
        return turn

    def _tell(self, lineage: Lineage[Choice], identity: str) -> None:
        for listener in self._listeners:
            listener(lineage.chosen.room, identity, lineage.chosen.track_sid)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def run() -> None:
            try:
                await work
            except StoreError as error:
                log.warning("subscription_choice_not_stored", reason=str(error))

        with contextlib.suppress(Draining):
            self._tasks.spawn(run(), name="keep subscription choice")


def _key(chosen: Chosen, identity: str) -> str:
    return f"{chosen.key} {identity}"


def _alarm(chosen: Chosen, identity: str) -> str:
    return json.dumps([chosen.room, chosen.key, identity])
