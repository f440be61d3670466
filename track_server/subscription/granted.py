"""Subscriptions that were made through this service: they rest on a permission, and are taken away with it.

LiveKit keeps a subscription whoever asked for it, and knows nothing of the permission service. So who asked for which
is kept, also over a restart, as long as the track is there.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from track.v1 import access_pb2, event_pb2
from track_server.access.principal import Principal, remembered
from track_server.access.question import Question
from track_server.access.revocation import StandingEffect
from track_server.errors import PermissionDenied
from track_server.rooms.causes import PERMISSION_REVOKED, rule_cause
from track_server.rooms.subscriptions import Subscriptions
from track_server.store.records import Store

_KIND: Final = "subscription"
# Of a track that went away while its room was not watched nothing is heard: after so long it is not looked for again.
_KEPT_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Who subscribes to what."""

    room: str
    track_sid: str
    identity: str

    @property
    def key(self) -> str:
        return f"{self.track_sid} {self.identity}"


@dataclass(frozen=True, slots=True)
class _Granted:
    """By whom it was asked for, and what was asked of whoever decides. ``expire_time``: seconds since 1970 UTC."""

    principal: Principal
    question: Question
    expire_time: float


class GrantedSubscriptions:
    """Owner of the record. Listens to watched rooms (`Rooms.listen`) to forget what is gone.

    ``clock`` gives seconds since 1970 UTC.
    """

    def __init__(self, store: Store, subscriptions: Subscriptions, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._clock = clock
        self._granted: dict[_Place, _Granted] = {}
        """In the order in which they expire."""
        self._in_room: dict[str, set[_Place]] = {}
        """The places by room: what is gone is looked for in its own alone."""

    async def load(self) -> None:
        """Reads what an earlier run left."""
        records = await self._store.list(_KIND)
        for record in sorted(records, key=lambda record: record.expire_time or 0.0):
            sid, _, identity = record.key.partition(" ")
            principal = remembered(access_pb2.Principal.FromString(record.body))
            question = Question(access_pb2.PERMISSION_SUBSCRIBE, record.room, identity, sid)
            place = _Place(record.room, sid, identity)
            self._put(place, _Granted(principal, question, record.expire_time or 0.0))

    async def keep(self, principal: Principal, question: Question) -> None:
        """The subscription of the question was asked for by the principal."""
        place = _Place(question.room, question.track_sid, question.participant_identity)
        self._purge()
        expire_time = self._clock() + _KEPT_S
        self._put(place, _Granted(principal, question, expire_time))
        body = principal.message.SerializeToString()
        await self._store.put(_KIND, place.room, place.key, body, expire_time=expire_time)

    async def drop(self, room: str, track_sid: str, identity: str) -> None:
        """It was taken away."""
        place = _Place(room, track_sid, identity)
        if self._pop(place):
            await self._store.delete(_KIND, room, place.key)

    async def carry(self, room: str, old_sid: str, new_sid: str) -> None:
        """The track has another SID now."""
        for place in [place for place in self._in_room.get(room, ()) if place.track_sid == old_sid]:
            granted = self._granted[place]
            await self.drop(room, old_sid, place.identity)
            await self.keep(granted.principal, replace(granted.question, track_sid=new_sid))

    async def forget(self, room: str, track_sid: str) -> None:
        """The track is gone for good."""
        for place in [place for place in self._in_room.get(room, ()) if place.track_sid == track_sid]:
            await self.drop(room, track_sid, place.identity)

    def __call__(self) -> Iterable[StandingEffect]:
        """See Revocation.add."""
        self._purge()
        return [self._standing(place, granted) for place, granted in self._granted.items()]

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """Listens to watched rooms."""
        match event.WhichOneof("change"):
            case "track_unpublished":
                # That of a publication comes back under another SID: see LastingSubscriptions.
                if not event.track_unpublished.publication_id:
                    self._forget(room, track_sid=event.track_unpublished.sid)
            case "participant_left":
                self._forget(room, identity=event.participant_left.identity)
            case _:
                pass

    def _forget(self, room: str, *, track_sid: str = "", identity: str = "") -> None:
        """In memory alone: the record expires, and a subscription that is not there is taken away without harm."""
        for place in list(self._in_room.get(room, ())):
            if place.track_sid == track_sid or place.identity == identity:
                self._pop(place)

    def _purge(self) -> None:
        now = self._clock()
        expired = takewhile(lambda place: self._granted[place].expire_time <= now, self._granted)
        for place in list(expired):
            self._pop(place)

    def _put(self, place: _Place, granted: _Granted) -> None:
        """As the one that expires last."""
        self._granted.pop(place, None)
        self._granted[place] = granted
        self._in_room.setdefault(place.room, set()).add(place)

    def _pop(self, place: _Place) -> bool:
        """Returns whether it was there."""
        if self._granted.pop(place, None) is None:
            return False
        places = self._in_room[place.room]
        places.discard(place)
        if not places:
            del self._in_room[place.room]
        return True

    def _standing(self, place: _Place, granted: _Granted) -> StandingEffect:
        async def end(error: PermissionDenied) -> None:
            cause = rule_cause(PERMISSION_REVOKED, error.message)
            await self._subscriptions.update(
                place.room, place.identity, [place.track_sid], subscribe=False, cause=cause
            )
            await self.drop(place.room, place.track_sid, place.identity)

        return StandingEffect(granted.principal, granted.question, end)
