"""Writes metadata into the attributes of publishers: one change at a time a participant, the newest state next."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from track.v1.track_pb2 import Participant
from track_server.errors import TrackError
from track_server.lifetime import Closing, Tasks
from track_server.limits.rates import Rates
from track_server.livekit.api import LiveKitApi, LiveKitNotFound, LiveKitRefusal
from track_server.metadata.attributes import PREFIX, changes, name_of
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

# What LiveKit has taken is in the room within milliseconds; a room that is polled shows it after a second.
_SHOWN_S: Final = 3.0
_RETRY_S: Final = 1.0
# LiveKit refused what it was asked: it will not like it better soon.
_REFUSED_S: Final = 30.0
# Texts of an attribute that are known to be ours, where the room shows one of them late.
_OURS: Final = 8

Wanted = Callable[[LiveRoom, str], Mapping[str, str]]


class Overwritten(Protocol):
    """Is told that a client wrote over an attribute: ``shown`` stands there, or nothing."""

    def __call__(self, live: LiveRoom, identity: str, track_sid: str, shown: str) -> None: ...


class _Participant:
    """What is known of the attributes of one participant."""

    def __init__(self) -> None:
        self.sid = ""
        self.kicked = asyncio.Event()
        self.running = False
        self.asked: dict[str, tuple[str, float]] = {}
        """What LiveKit has taken and the room did not show yet, with the time until which that is waited for."""
        self.confirmed: dict[str, str] = {}
        """What the room has shown as it is wanted."""
        self.ours: dict[str, deque[str]] = {}
        """What this service has written."""
        self.held: dict[str, float] = {}
        """Names that are left alone, until that time."""

    def joined(self, sid: str) -> None:
        """It is that session: one that came anew has none of the attributes of the one before."""
        if sid != self.sid:
            self.sid = sid
            self.asked.clear()
            self.confirmed.clear()

    def foreign(self, name: str, text: str, shown: str) -> bool:
        """Whether somebody else wrote what is ``shown`` in the place of the ``text`` that is wanted."""
        if self.confirmed.get(name) == text:
            return True
        return bool(shown) and name in self.ours and shown not in self.ours[name]

    def writes(self, texts: Mapping[str, str]) -> None:
        """They are about to be written."""
        for name, text in texts.items():
            self.ours.setdefault(name, deque(maxlen=_OURS)).append(text)
            if not text:
                self.confirmed.pop(name, None)

    def as_asked(self, attributes: Mapping[str, str], now: float) -> dict[str, str]:
        """The attributes as they are about to be."""
        self.asked = {name: asked for name, asked in self.asked.items() if asked[1] > now}
        return {**attributes, **{name: text for name, (text, _) in self.asked.items()}}


class Publisher(Closing):
    """Keeps attributes as they are wanted, `async with`.

    ``wanted``: what the attributes of a participant are to have, text by SID of its tracks in the room. ``overwritten``
    gives whoever is told of clients that write by themselves.
    ``per_second``: how often LiveKit is asked for one participant; what comes faster is put together.
    """

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        wanted: Wanted,
        overwritten: Callable[[], Overwritten],
        *,
        per_second: float,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._wanted = wanted
        self._overwritten = overwritten
        self._rates = Rates(per_second)
        self._participants: dict[tuple[str, str], _Participant] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Ends what is on its way. May be called twice."""
        await self._tasks.aclose()

    def kick(self, room: str, identity: str) -> None:
        """What is wanted of that participant, or what it has, may have changed."""
        known = self._participants.setdefault((room, identity), _Participant())
        known.kicked.set()
        if not known.running:
            known.running = True
            self._tasks.spawn(self._keep(room, identity, known), name=f"metadata of {identity} in {room}")

    def look(self, live: LiveRoom, participant: Participant) -> None:
        """The room shows the participant so. What a client has written over is told."""
        identity = participant.identity
        wanted = self._wanted(live, identity)
        known = self._participants.get((live.name, identity))
        if known is None:
            if wanted or any(name.startswith(PREFIX) for name in participant.attributes):
                self.kick(live.name, identity)
            return
        known.joined(participant.sid)
        now = asyncio.get_running_loop().time()
        for sid, text in wanted.items():
            name = name_of(sid)
            shown = participant.attributes.get(name, "")
            if shown == text:
                known.confirmed[name] = text
                known.asked.pop(name, None)
            elif known.held.get(name, 0.0) <= now and known.foreign(name, text, shown):
                known.confirmed.pop(name, None)
                known.asked.pop(name, None)
                self._overwritten()(live, identity, sid, shown)
        for name in [
            name for name, (text, _) in known.asked.items() if not text and name not in participant.attributes
        ]:
            del known.asked[name]
        self.kick(live.name, identity)

    def hold(self, room: str, identity: str, track_sid: str, until: float) -> None:
        """Leaves that attribute alone until then, in seconds of the event loop's clock; a time gone by ends it."""
        known = self._participants.setdefault((room, identity), _Participant())
        known.held[name_of(track_sid)] = until
        self.kick(room, identity)

    def forget(self, room: str) -> None:
        """The room is gone."""
        for key in [key for key in self._participants if key[0] == room and not self._participants[key].running]:
            del self._participants[key]

    async def _keep(self, room: str, identity: str, known: _Participant) -> None:
        try:
            while True:
                known.kicked.clear()
                wait_s = await self._write(room, identity, known)
                if known.kicked.is_set():
                    continue
                if wait_s is None:
                    return
                try:
                    async with asyncio.timeout(wait_s):
                        await known.kicked.wait()
                except TimeoutError:
                    pass
        finally:
            known.running = False
            if not known.held and not known.confirmed and self._participants.get((room, identity)) is known:
                del self._participants[room, identity]

    async def _write(self, room: str, identity: str, known: _Participant) -> float | None:
        """Writes what is to be written. Says when to look again at the latest, in seconds; None: nothing is to come."""
        loop = asyncio.get_running_loop()
        live = self._rooms.find(room)
        participant = live.model.participants.get(identity) if live is not None else None
        if live is None or participant is None:
            known.asked.clear()
            known.confirmed.clear()
            known.held.clear()
            return None
        known.joined(participant.sid)
        known.held = {name: until for name, until in known.held.items() if until > loop.time()}
        wanted = self._wanted(live, identity)
        for sid, text in wanted.items():
            if participant.attributes.get(name_of(sid)) == text:
                known.confirmed[name_of(sid)] = text
        texts = changes(wanted, known.as_asked(participant.attributes, loop.time()))
        texts = {name: text for name, text in texts.items() if name not in known.held}
        if not texts:
            times = [at for _, at in known.asked.values()] + list(known.held.values())
            return max(0.01, min(times) - loop.time()) if times else None
        if (pause_s := self._rates.take((room, identity), loop.time())) > 0:
            await asyncio.sleep(pause_s)
            known.kicked.set()  # what is wanted may be something newer by now
            return 0.0
        known.writes(texts)
        return await self._ask(room, identity, known, texts)

    async def _ask(self, room: str, identity: str, known: _Participant, texts: Mapping[str, str]) -> float | None:
        try:
            await self._api.set_attributes(room, identity, texts)
        except LiveKitNotFound:
            return _RETRY_S  # it has left, which the room does not show yet
        except LiveKitRefusal as error:
            log.warning("track_metadata_refused", room=room, identity=identity, code=error.twirp_code)
            until = asyncio.get_running_loop().time() + _REFUSED_S
            known.held.update(dict.fromkeys(texts, until))
            return _REFUSED_S
        except TrackError as error:
            log.warning("track_metadata_not_written", room=room, identity=identity, reason=error.message)
            return _RETRY_S
        until = asyncio.get_running_loop().time() + _SHOWN_S
        live = self._rooms.find(room)
        participant = live.model.participants.get(identity) if live is not None else None
        for name, text in texts.items():
            shown = participant.attributes.get(name, "") if participant is not None else ""
            if shown != text:
                known.asked[name] = (text, until)
        known.kicked.set()
        return 0.0
