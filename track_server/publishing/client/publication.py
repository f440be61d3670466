"""A publication by a participant's client, for as long as it is wanted.

Asked of the companion, followed in the room, and asked again wherever the participant comes back.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from track.control.v1 import control_pb2 as control
from track.control.v1.control_pb2 import Reply
from track.v1 import track_pb2
from track.v1.publication_pb2 import Publication, PublicationEndCause
from track_server.control.commands import Target, plan_of
from track_server.control.companion import consent_of
from track_server.deadline import Deadline
from track_server.errors import (
    CompanionMissing,
    ConsentRefused,
    LiveKitUnavailable,
    ParticipantNotFound,
    PublicationEnded,
    RoomNotFound,
    TargetPermission,
    TrackError,
)
from track_server.publishing import attempts, lifecycle
from track_server.publishing.client import commands
from track_server.publishing.client.changes import Changes
from track_server.publishing.client.commands import Clients
from track_server.publishing.client.entry import Entry
from track_server.publishing.client.patience import UNSEEN_S, Patience
from track_server.publishing.client.presence import Presence
from track_server.publishing.client.steps import (
    as_in_room,
    consented,
    elsewhere,
    restarting,
    taken,
    without_media,
)
from track_server.publishing.kicks import Kicks
from track_server.rooms.model import Binding
from track_server.rooms.permissions import may_publish
from track_server.rooms.room import LiveRoom, now

log = structlog.get_logger(__name__)

_END: Final = PublicationEndCause
# These may pass: the page loads, the network comes back.
_PASSING: Final = (CompanionMissing, LiveKitUnavailable)

Do = Callable[[Target], Awaitable[Reply]]


class ClientPublication:
    """``run()`` keeps it published until it has ended."""

    def __init__(self, clients: Clients, room: str, identity: str, publication_id: str) -> None:
        self.room = room
        self.identity = identity
        self.publication_id = publication_id
        self._clients = clients
        self._target: Target | None = None
        """The connection in which it is published."""
        self._asked_sid = ""
        """The connection that was asked last."""
        self._patience = Patience(clients.return_s)
        self._presence = Presence(clients.api, room, identity)
        self._kicks = Kicks()
        self._entry = Entry(clients.book, room, publication_id)
        self._changes = Changes(self._moved, self._settled)

    @property
    def published(self) -> bool:
        """Whether a connection of the participant has published it."""
        return self._target is not None

    def kick(self) -> None:
        """Says that something else is wanted."""
        self._kicks.give()

    def removed(self) -> None:
        """Somebody removed the participant from the room."""
        self._presence.removed = True
        self._kicks.give()

    async def run(self) -> None:
        """Returns once it has ended, and the client was told where it did not know."""
        told = False
        while not told:
            try:
                async with self._clients.rooms.watch(self.room) as live, self._kicks.of(live):
                    await self._follow(live)
                    if not live.closed and self._entry.to_withdraw():
                        await commands.withdraw(self._clients, live, self.identity, self.publication_id)
                    told = True
            except RoomNotFound:
                await self._entry.end(_END.PUBLICATION_END_CAUSE_ROOM_CLOSED)
                told = True
            except TrackError as error:
                log.warning("client_trouble", publication_id=self.publication_id, reason=error.message)
                await self._entry.trouble(error)
                await self._kicks.wait(self._patience.pause())
        await self.aclose()

    async def aclose(self) -> None:
        """Lets go of the client, and of the changes that are followed. May be called twice."""
        self._target = None
        await self._changes.aclose()

    async def change(self, do: Do, deadline: Deadline) -> Reply:
        """Has the client do what may give the track another SID, and follows it there, also after ``deadline``.

        The last reply: ACCEPTED where the deadline came first, UNSPECIFIED where it is followed no more. Raises what
        Companion raises, PublicationEnded, and LiveKitUnavailable while it is not published.
        """
        target = self._target
        if self._entry.wanted() is None:
            raise PublicationEnded("the publication has ended", field="publication_id")
        if target is None:
            raise LiveKitUnavailable("the participant's client does not publish it at this moment")
        return await self._changes.make(lambda: do(target), deadline)

    # Following.

    async def _follow(self, live: LiveRoom) -> None:
        """Does what is due, whenever something changed, until it has ended or the room is closed."""
        while (publication := self._entry.wanted()) is not None and not live.closed:
            self._kicks.clear()
            pause: float | None = None
            if self._presence.removed:
                await self._entry.end(_END.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED)
            elif live.current:
                participant = await self._presence.participant(live)
                if participant is None:
                    pause = await self._without(ParticipantNotFound("the participant is not in the room"))
                elif self._target is None or self._target.sid != participant.sid:
                    pause = await self._publish(live, participant, publication)
                else:
                    pause = await self._compare(live, participant, self._target, publication)
            if self._entry.wanted() is not None:
                await self._kicks.wait(pause)
        if live.closed:
            await self._entry.end(_END.PUBLICATION_END_CAUSE_ROOM_CLOSED)

    async def _without(self, why: TrackError) -> float | None:
        """There is nobody to publish it now. Says when to look again, in seconds; ends it after a while."""
        self._target = None
        self._presence.lost()
        left = self._patience.without(asyncio.get_running_loop().time())
        if left <= 0:
            never = not (current := self._entry.wanted()) or not current.lineage
            cause = _END.PUBLICATION_END_CAUSE_FAILED if never else _END.PUBLICATION_END_CAUSE_CLIENT
            await self._entry.end(cause, why)
            return None
        await self._entry.take(lambda found: restarting(found, why))
        return min(left + 0.01, self._patience.pause())

    async def _publish(
        self, live: LiveRoom, participant: track_pb2.Participant, publication: Publication
    ) -> float | None:
        """Has the client publish it. Says when to look again, in seconds; None: when something changes."""
        if not may_publish(participant, publication.type, publication.spec.source):
            await self._not_allowed(publication)
            return None
        target = Target(self.room, self.identity, participant.sid)
        if self._asked_sid != target.sid:
            self._asked_sid = target.sid
            self._patience.newcomer()
        await self._entry.take(elsewhere)
        asking = asyncio.create_task(self._ask(target), name=f"publish {self.publication_id}")
        try:
            if not await self._kicks.until_done(asking, lambda: self._holds(live, target)):
                return None
            track_sid = asking.result()
            if (current := self._entry.wanted()) is not None and current.muted:
                await commands.mute_again(self._clients, live, self.identity, track_sid)
        except ConsentRefused as error:
            consent = consent_of(error)
            await self._entry.take(lambda found: consented(found, consent))
            await self._entry.end(_END.PUBLICATION_END_CAUSE_CLIENT, error)
            return None
        except _PASSING as error:
            self._kicks.clear()
            return await self._without(error)
        except TrackError as error:
            self._kicks.clear()
            return await self._failed(error)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        self._target = target
        await self._live_as(live, track_sid)
        return None

    async def _ask(self, target: Target) -> str:
        """The SID under which the client has it. Raises what Companion raises."""

        async def heard(reply: Reply) -> None:
            if reply.status in (control.COMMAND_STATUS_ACCEPTED, control.COMMAND_STATUS_DONE):
                self._patience.answered()
                await self._entry.take(lambda found: consented(taken(found), reply.consent))

        current = self._entry.wanted()
        if current is None:
            raise PublicationEnded("the publication has ended")
        plan = plan_of(current, attempts.wanted_now(current), restored=bool(current.lineage))
        return await commands.published(self._clients, target, plan, heard)

    def _holds(self, live: LiveRoom, target: Target) -> bool:
        return self._entry.wanted() is not None and self._presence.holds(live, target)

    async def _not_allowed(self, publication: Publication) -> None:
        if publication.lineage:
            await self._entry.end(_END.PUBLICATION_END_CAUSE_PERMISSION_REVOKED)
        else:
            error = TargetPermission(f"participant {self.identity!r} may not publish this source")
            await self._entry.end(_END.PUBLICATION_END_CAUSE_FAILED, error)

    async def _failed(self, error: TrackError) -> float | None:
        """The client tried, and could not. Says when to try again, in seconds."""
        self._target = None
        current = self._entry.wanted()
        if current is None:
            return None
        tried = attempts.failed(current, error.problem(), now())
        following = attempts.next_try(tried, now(), random.random())
        if following is None:
            await self._entry.take(lambda _: tried)
            await self._entry.end(_END.PUBLICATION_END_CAUSE_FAILED, error)
            return None
        publication, pause = following
        await self._entry.take(lambda _: restarting(publication, error))
        return pause

    async def _live_as(self, live: LiveRoom, track_sid: str) -> None:
        self._patience.published()
        current = self._entry.wanted()
        if current is not None:
            live.bind(track_sid, Binding(self.publication_id))
            await self._entry.take(
                lambda found: attempts.with_condition(lifecycle.live(taken(found), track_sid, now()))
            )

    async def _compare(
        self, live: LiveRoom, participant: track_pb2.Participant, target: Target, publication: Publication
    ) -> float | None:
        """Takes over what the room shows of it. Says when to look again, in seconds; None: when something changes."""
        track = live.model.tracks.get(publication.track_sid)
        if track is not None:
            try:
                commands.refuse_foreign(live, self.identity, track.sid)
            except TrackError as error:
                # It was claimed before the room showed it.
                if track.publication_id == self.publication_id:
                    live.bind(track.sid, None)
                return await self._failed(error)
            self._patience.there()
            if track.publication_id != self.publication_id:
                live.bind(track.sid, Binding(self.publication_id))
            await self._entry.take(lambda found: as_in_room(found, muted=track.muted))
            return None
        if self._changes:
            return None
        if not may_publish(participant, publication.type, publication.spec.source):
            await self._not_allowed(publication)
            return None
        left = self._patience.gone(asyncio.get_running_loop().time())
        if left > 0:
            return left
        if self._patience.seen:
            await self._entry.end(_END.PUBLICATION_END_CAUSE_CLIENT)
            return None
        await self._entry.take(without_media)
        with contextlib.suppress(TrackError):
            if (track_sid := await self._ask(target)) != publication.track_sid:
                await self._live_as(live, track_sid)
        self._patience.ask_again()
        return UNSEEN_S

    async def _moved(self, track_sid: str) -> None:
        """A change gave the track that SID."""
        live, current = self._clients.rooms.find(self.room), self._entry.wanted()
        commands.refuse_foreign(live, self.identity, track_sid)
        if live is not None and current is not None and current.track_sid != track_sid:
            await self._live_as(live, track_sid)

    def _settled(self) -> None:
        self._patience.ask_again()
        self._kicks.give()
