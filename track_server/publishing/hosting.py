"""All hosted sessions: begun for publications, and attached to by the media workers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import structlog

from track.media.v1 import media_service_pb2 as media
from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import TRACK_TYPE_DATA
from track_server.access.principal import Principal
from track_server.errors import InvalidField, NotForDataTracks, PermissionDenied, PublicationEnded
from track_server.lifetime import Closing, Tasks
from track_server.publishing.attachment import Attachment
from track_server.publishing.ids import session_id
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.resources import Hosting
from track_server.publishing.routes import HOSTED
from track_server.publishing.session import HostedSession

log = structlog.get_logger(__name__)


class Sessions(Closing):
    """Owner of the hosted sessions, `async with`.

    ``on_stats``: told of every session's statistics, with its room and participant. ``stats_interval``: how often a
    room's are wanted, in seconds.
    """

    def __init__(
        self,
        hosting: Hosting,
        on_stats: Callable[[str, str, media.SessionStats], None],
        stats_interval: Callable[[str], float | None],
    ) -> None:
        self._hosting = hosting
        self._on_stats = on_stats
        self._stats_interval = stats_interval
        self._sessions: dict[str, HostedSession] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of the sessions; what they publish stays wanted. May be called twice."""
        await self._tasks.aclose()

    def restore(self) -> None:
        """Begins the sessions of all publications that an earlier run left."""
        for room, identity in {
            (found.room, found.participant_identity) for found in self._hosting.book.active() if found.route == HOSTED
        }:
            self._begin(room, identity, restored=True)

    def host(self, room: str, identity: str) -> HostedSession:
        """The session of that participant, begun where there is none, and told that what is wanted has changed."""
        session = self._sessions.get(session_id(room, identity)) or self._begin(room, identity)
        session.kick()
        return session

    def find(self, room: str, identity: str) -> HostedSession | None:
        """The session of that participant."""
        return self._sessions.get(session_id(room, identity))

    def refuse_data_beside_private(self, publication: Publication) -> None:
        """Raises NotForDataTracks for a new data track of a participant that has a private track.

        LiveKit's SDK cannot list data tracks (rtc 1.2.1), so who may not have the private one could not have it either.
        """
        room, identity = publication.room, publication.participant_identity
        beside = self._hosting.book.active_of(room, identity)
        private = any(self._hosting.restricted(room, found.publication_id) for found in beside)
        if private and publication.type == TRACK_TYPE_DATA:
            raise NotForDataTracks(
                f"participant {identity!r} has a private track, beside which no data track can be published; publish it"
                " under another participant_identity",
                field="participant_identity",
            )

    def unmute(self, room: str, publication_id: str) -> bool:
        """Has the session of the publication unmute its track; says whether there is one."""
        publication = self._hosting.book.find(room, publication_id)
        if publication is None or publication.route != HOSTED or publication.state == ENDED:
            return False
        session = self._sessions.get(session_id(room, publication.participant_identity))
        if session is None:
            return False
        session.carried.takeovers.unmute(publication_id)
        session.kick()
        return True

    def refresh_stats(self, room: str) -> None:
        """Tells the room's sessions how often statistics are wanted now."""
        for session in self._sessions.values():
            if session.room == room:
                session.want_stats(self._stats_interval(room))

    def hear_anew(self, room: str) -> None:
        """Who may have which tracks of the room is otherwise now."""
        for session in self._sessions.values():
            if session.room == room:
                session.hearing.look()

    def worker_came(self) -> None:
        """Another media worker is there, or has a place again: sessions that have none need wait no longer."""
        for session in self._sessions.values():
            session.worker_came()

    async def attach(
        self, worker: Principal, requests: AsyncIterator[media.AttachRequest]
    ) -> AsyncGenerator[media.AttachResponse]:
        """Serves one worker's session until either side ends it. Raises PublicationEnded, InvalidField, and
        PermissionDenied where the worker's token is not the session's: one session must not speak for another.
        """
        first = await anext(requests, None)
        if first is None or not first.HasField("hello"):
            raise InvalidField("the first message must be hello", field="hello")
        if not worker.unrestricted and worker.identity != first.hello.session_id:
            raise PermissionDenied("the access token is not that of the session")
        session = self._sessions.get(first.hello.session_id)
        if session is None:
            raise PublicationEnded("the session has nothing to publish")
        if first.hello.full_at:
            session.declined(first.hello)
            return
        attachment = Attachment()
        await session.attach(attachment, first.hello)
        reader = asyncio.create_task(self._read(session, attachment, requests), name=f"attached {session.session_id}")
        try:
            async for command in attachment.commands():
                yield command
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            session.detach(attachment)

    async def _read(
        self, session: HostedSession, attachment: Attachment, requests: AsyncIterator[media.AttachRequest]
    ) -> None:
        try:
            async for request in requests:
                match request.WhichOneof("report"):
                    case "track" if not attachment.leaving:
                        await session.carried.report(request.track)
                    case "stats":
                        self._on_stats(session.room, session.identity, request.stats)
                    case "audience":
                        session.told(request.audience)
                    case "ended":
                        await session.ended(request.ended)
                    case _:
                        pass
        except Exception:
            log.exception("attachment_broke", session_id=session.session_id)
        finally:
            attachment.gone.set()
            attachment.close()
            session.detach(attachment)

    def _begin(self, room: str, identity: str, *, restored: bool = False) -> HostedSession:
        session = HostedSession(self._hosting, room, identity, restored=restored)
        session.want_stats(self._stats_interval(room))
        self._sessions[session.session_id] = session
        self._tasks.spawn(self._run(session), name=f"session {session.session_id}")
        return session

    async def _run(self, session: HostedSession) -> None:
        while True:
            try:
                await session.run()
            except Exception:
                # The publications stay wanted: a fault of ours must not lose them.
                log.exception("session_broke", room=session.room, identity=session.identity)
                await asyncio.sleep(1.0)
            else:
                # Only then was the worker sent home.
                if not session.carried.wanted():
                    break
        del self._sessions[session.session_id]
