"""Who may subscribe to the tracks of a session: LiveKit is told, before a restricted track is published.

LiveKit's permission is one for all tracks of a participant: who is not listed in it may subscribe to nothing, and a
track that is not listed is for nobody, so what is published afterwards is closed until it is listed.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

import structlog
from livekit import rtc

from track.media.v1.media_service_pb2 import SessionAudience, SessionDesired
from track_server.pulse import Pulse

log = structlog.get_logger(__name__)

_ANSWER_S: Final = 3.0
_RETRY_S: Final = 0.5

Permissions = Mapping[str, frozenset[str] | None]
"""SIDs of the tracks that an identity may subscribe to (None: all), by identity. Who is not in it may have none."""


class AudienceTeller:
    """Tells LiveKit. `run` does it for as long as the session lasts; everything else may be called at any time.

    `sids`: the tracks that are published now, as publication id and SID: a publication may have two
    for a moment. `told`: called with the revision that LiveKit
    has, also where it had it already.
    """

    def __init__(
        self,
        room: "asyncio.Future[rtc.Room]",
        sids: Callable[[], Collection[tuple[str, str]]],
        told: Callable[[int], None],
    ) -> None:
        self._room = room
        self._sids = sids
        self._told = told
        self._audience = SessionAudience()
        self._restricted: frozenset[str] = frozenset()
        self._leaving: set[str] = set()
        """Restricted publications that are not desired any more, but are in the room still."""
        self._connection = 0
        """Counts the connections to LiveKit: a new one has forgotten what the one before was told."""
        self._connected = True
        self._said: Permissions | None = None
        """What LiveKit was told on this connection. None: nothing, so that everybody may subscribe to everything."""
        self._guarded: frozenset[str] = frozenset()
        """The restricted publications of which LiveKit knows: they may be published now."""
        self._kick = asyncio.Event()
        self._changed = Pulse()

    def want(self, desired: SessionDesired) -> None:
        """Takes over what the server says."""
        self._leaving |= self._restricted - {track.publication_id for track in desired.tracks}
        self._restricted = frozenset(track.publication_id for track in desired.tracks if track.restricted)
        if desired.HasField("audience"):
            self._audience = desired.audience
        elif not self._restricted:
            self._audience = SessionAudience()
        self.kick()

    def kick(self) -> None:
        """Says that something has changed: a track that was published is to be listed."""
        self._kick.set()

    def left(self, publication_id: str) -> None:
        """A publication that is not desired any more has been taken away."""
        self._leaving.discard(publication_id)
        self.kick()

    def restricts(self, publication_id: str) -> bool:
        """Whether not everybody may subscribe to it."""
        return publication_id in self._restricted

    async def passage(self, publication_id: str) -> None:
        """Returns when the track may be published."""
        while not self._connected or (self.restricts(publication_id) and publication_id not in self._guarded):
            await self._changed.wait()

    def connection_lost(self) -> None:
        """Restricted tracks wait until LiveKit was told again."""
        self._connection += 1
        self._connected = False
        self._said, self._guarded = None, frozenset()

    def connection_back(self) -> None:
        """There is a connection again, old or new."""
        self._connected = True
        self._wake()
        self.kick()

    async def run(self) -> None:
        """Keeps LiveKit told. Runs until it is cancelled."""
        room = await asyncio.shield(self._room)
        while True:
            await self._kick.wait()
            self._kick.clear()
            if not self._connected:
                continue
            try:
                told = await self._tell(room)
            except Exception:
                # Of the SDK's. Nobody else would say it, and restricted tracks would wait for ever.
                log.exception("audience_not_told")
                told = False
            if not told:
                await asyncio.sleep(_RETRY_S)
                self.kick()

    async def _tell(self, room: rtc.Room) -> bool:
        """Says what is wanted now; returns whether LiveKit has it."""
        audience, connection = self._audience, self._connection
        guarded = frozenset(track.publication_id for track in audience.restricted)
        closed = self._restricted | self._leaving
        if guarded:
            wanted: Permissions | None = permissions_of(audience, self._sids(), closed)
        else:
            # Nothing is opened before the last restricted track is gone.
            wanted = self._said if closed else None
        opening = bool(self._leaving) and not guarded
        if wanted != self._said:
            say(room, wanted)
            if not await _answered(room) or connection != self._connection:
                return False
            self._said = wanted
        self._guarded = guarded
        self._wake()
        if audience.revision and not opening:
            self._told(audience.revision)
        return True

    def _wake(self) -> None:
        self._changed.beat()


def permissions_of(
    audience: SessionAudience, sids: Collection[tuple[str, str]], restricted: Collection[str]
) -> Permissions:
    """What each identity may subscribe to, where `sids` are those of the publications that are in the room.

    Who may subscribe to every restricted track is given everything, also what comes later; the others get the SIDs of
    media tracks one by one. A publication in `restricted` of which `audience` does not tell is nobody's.
    """
    named = {track.publication_id: frozenset(track.participant_identities) for track in audience.restricted}
    for publication_id in restricted:
        named.setdefault(publication_id, frozenset())
    result: dict[str, frozenset[str] | None] = {}
    for identity in frozenset(audience.everybody).union(*named.values()):
        if all(identity in may for may in named.values()):
            result[identity] = None
            continue
        may_have = frozenset(
            sid
            for publication_id, sid in sids
            if _listed(sid) and identity in named.get(publication_id, audience.everybody)
        )
        if may_have:
            result[identity] = may_have
    return result


def say(room: rtc.Room, permissions: Permissions | None) -> None:
    """Sends it to LiveKit. None: everybody may subscribe to everything."""
    room.local_participant.set_track_subscription_permissions(
        allow_all_participants=permissions is None,
        participant_permissions=[
            rtc.ParticipantTrackPermission(
                participant_identity=identity, allow_all=may_have is None, allowed_track_sids=sorted(may_have or ())
            )
            for identity, may_have in sorted((permissions or {}).items())
        ],
    )


def _listed(sid: str) -> bool:
    # The SDK takes its process down for the SID of a data track in the list (rtc 1.2.1).
    return sid.startswith("TR_")


async def _answered(room: rtc.Room) -> bool:
    """Waits for LiveKit's answer to a later message: it takes them in order and does not answer to permissions.

    The SDK sends each message from a task of its own: without an answer in between they could overtake each other.
    """
    try:
        # The SDK itself gives up after 5 s, without a word; that the participant may not do it is an answer too.
        async with asyncio.timeout(_ANSWER_S):
            await room.local_participant.set_attributes({})
    except TimeoutError:
        log.warning("audience_not_answered")
        return False
    return True
