"""What a hosted session hears of its room, while a publication of it has the room's echo taken out."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from track.media.v1 import media_service_pb2 as media
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, Participant, Track
from track_server.publishing.entering import encryption_key
from track_server.publishing.ids import session_id
from track_server.publishing.resources import Hosting
from track_server.rooms.model import RoomModel
from track_server.rooms.reading import encrypted
from track_server.rooms.room import LiveRoom

log = structlog.get_logger(__name__)

_RENEW_S: Final = 600.0
"""How often the worker is told again: should its hidden participant be thrown out, it needs a token that is good."""


class Hearing:
    """Of the session of ``identity`` in ``room``, which joins once more for it, under an identity of its own: so the
    one that publishes needs no permission to receive. ``changed`` is called when the worker is to be told."""

    def __init__(self, hosting: Hosting, room: str, identity: str, changed: Callable[[], None]) -> None:
        self._hosting = hosting
        self._room = room
        self._identity = identity
        self._ear = ear_of(room, identity)
        self._changed = changed
        self._live: LiveRoom | None = None
        self._sids: list[str] | None = None
        """None: nothing is to be heard."""
        self._admitted = contextlib.ExitStack()

    @property
    def message(self) -> media.SessionHearing | None:
        """What the worker is told."""
        if self._sids is None:
            return None
        return media.SessionHearing(token=self._hosting.tokens.ear(self._room, self._ear), track_sids=self._sids)

    async def follow(self, live: LiveRoom) -> None:
        """Keeps it as the room and the publications are, until the room is closed."""
        self._live = live
        try:
            while not live.closed:
                self.look()
                try:
                    async with asyncio.timeout(None if self._sids is None else _RENEW_S):
                        await live.log.changed()
                except TimeoutError:
                    self._changed()
        except Exception:
            # The publications go on, with the echo.
            log.exception("hearing_broke", room=self._room, identity=self._identity)
        finally:
            self._live, self._sids = None, None
            self._admitted.close()

    def look(self) -> None:
        """Something may have to be heard that was not, or the other way round."""
        if self._live is None:
            return
        sids = self._wanted(self._live.model)
        if (sids is None) is not (self._sids is None):
            self._admitted.close()
            if sids is not None:
                self._admitted.enter_context(self._hosting.admit(self._room, self._ear, self._identity))
        if sids != self._sids:
            self._sids = sids
            self._changed()

    def _wanted(self, model: RoomModel) -> list[str] | None:
        book = self._hosting.book
        publications = book.active_of(self._room, self._identity)
        if not any(found.spec.audio.echo_cancellation for found in publications):
            return None
        key = bool(encryption_key(map(book.whole, publications)))
        subscriber = model.participants.get(self._identity) or Participant(identity=self._identity)
        return audible(model.tracks.values(), subscriber, self._hosting.may_have, key=key)


def audible(
    tracks: Iterable[Track], subscriber: Participant, may_have: Callable[[Track, Participant], bool], *, key: bool
) -> list[str]:
    """SIDs of the sound that loudspeakers play where the ``subscriber`` is: of all others, as far as it may have it.

    ``key``: it has one for what is end-to-end encrypted. Sorted.
    """
    return sorted(
        track.sid
        for track in tracks
        if track.type == TRACK_TYPE_AUDIO
        and track.participant_identity != subscriber.identity
        and (key or not encrypted(track))
        and may_have(track, subscriber)
    )


def ear_of(room: str, identity: str) -> str:
    """Identity of the hidden participant with which the session of ``identity`` hears."""
    return f"track-ear-{session_id(room, identity).removeprefix('SES_')}"
