"""A hosted session: one participant of one room, that publishes what the server desires."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Final

import structlog
from livekit import rtc
from livekit.rtc.room import ConnectError

from track.media.v1.media_service_pb2 import (
    AttachRequest,
    AttachResponse,
    AudienceReport,
    HostedTrackReport,
    SessionDesired,
    SessionEnded,
    SessionEndReason,
    SessionHello,
    SessionTicket,
)
from track_server.durations import seconds_of
from track_server.media.attachment import Attachment, Channels, ServerAwayError, SupersededError
from track_server.media.carriers import take_away
from track_server.media.ear import Ear
from track_server.media.entry import Entry
from track_server.media.far_end import FarEnd
from track_server.media.joins import Joins
from track_server.media.measuring import Measuring, read_carriers
from track_server.media.tracks import Tracks
from track_server.media.wire import Setup, StartSession

log = structlog.get_logger(__name__)

_REASONS: Final = {
    rtc.DisconnectReason.CLIENT_INITIATED: SessionEndReason.SESSION_END_REASON_STOPPED,
    rtc.DisconnectReason.DUPLICATE_IDENTITY: SessionEndReason.SESSION_END_REASON_DUPLICATE_IDENTITY,
    rtc.DisconnectReason.PARTICIPANT_REMOVED: SessionEndReason.SESSION_END_REASON_PARTICIPANT_REMOVED,
    rtc.DisconnectReason.ROOM_DELETED: SessionEndReason.SESSION_END_REASON_ROOM_CLOSED,
    rtc.DisconnectReason.ROOM_CLOSED: SessionEndReason.SESSION_END_REASON_ROOM_CLOSED,
}
_TERMINATION_GRACE_S: Final = 1.0
"""LiveKit ends the job when the participant is gone, and tells the participant's reason on another connection: it is
waited for so long. Three seconds after a dispatch was deleted, LiveKit removes the participant."""
_NEW_SID_S: Final = 3.0
_LAST_WORD_S: Final = 2.0
_LEAVE_S: Final = 3.0


class Session:
    """Runs from `run`'s call to its return. Owned by the child process."""

    def __init__(
        self,
        start: StartSession,
        ticket: SessionTicket,
        setup: Setup,
        channels: Channels,
        joins: Joins,
        leaving: Callable[[str], None],
    ) -> None:
        """`leaving` is called before it leaves the room, with "" or why it failed."""
        self._start, self._ticket, self._setup = start, ticket, setup
        self._joins = joins
        self._leaving = leaving
        self._chores: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._room = rtc.Room()
        loop = asyncio.get_running_loop()
        self._joined: asyncio.Future[rtc.Room] = loop.create_future()
        self._over: asyncio.Future[SessionEnded] = loop.create_future()
        far_end = FarEnd()
        self._tracks = Tracks(setup, self._room, self._joined, self._report, self._told, self._run_closing, far_end)
        self._ear = Ear(joins, start.url or setup.url, far_end)
        self._joined_as = ""
        self._entry = Entry(ticket)
        self._log = log.bind(session_id=ticket.session_id, generation=ticket.generation)
        self._attachment = Attachment(
            channels.stub(ticket.server_address),
            setup.api_key,
            setup.api_secret,
            self._hello,
            self._obey,
            setup.orphan_timeout_s,
        )
        self._measuring = Measuring(self._measure)

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """Attach with this key where the stream to the server is begun anew."""
        self._attachment.sign_with(api_key, api_secret)

    async def run(self) -> None:
        """Join, publish what is desired, and leave when it is over."""
        self._watch_room()
        connecting = asyncio.create_task(self._join(), name="session-join")
        attaching = asyncio.create_task(self._attach(), name="session-attach")
        measuring = asyncio.create_task(self._measuring.run(), name="session-stats")
        telling = asyncio.create_task(self._tracks.audience.run(), name="session-audience")
        hearing = asyncio.create_task(self._ear.run(), name="session-hearing")
        try:
            ended = await self._over
            hearing.cancel()
            failed = ended.reason == SessionEndReason.SESSION_END_REASON_CONNECTION_LOST
            self._log.info("session_over", reason=SessionEndReason.Name(ended.reason), detail=ended.detail)
            self._leaving(ended.detail if failed else "")
            await self._leave(connecting)
            self._attachment.end(ended)
            await asyncio.wait([attaching], timeout=_LAST_WORD_S)
        finally:
            self._tracks.close()
            tasks = {connecting, attaching, measuring, telling, hearing, *self._chores}
            for task in tasks - self._closing:
                task.cancel()
            await asyncio.wait(tasks)
            self._joined.cancel()
            await self._entry.aclose()

    def stop(self) -> None:
        """The worker shuts down."""
        self._end(SessionEndReason.SESSION_END_REASON_WORKER_STOPPING, "the media worker shuts down")

    def withdraw(self) -> None:
        """Whoever asked for it does not want it any more."""
        self._end(SessionEndReason.SESSION_END_REASON_STOPPED, "the session was withdrawn")

    async def terminate(self) -> None:
        """LiveKit regards the job as over."""
        joined_as = self._joined_as
        await asyncio.wait([self._over], timeout=_TERMINATION_GRACE_S)
        # After a full reconnect the job belongs to a participant that the SDK has replaced: it ends, we do not.
        stale = not self._room.isconnected() or self._room.local_participant.sid != joined_as
        if not self._joined.done() or not stale:
            self._end(SessionEndReason.SESSION_END_REASON_STOPPED, "LiveKit ended the job")

    def _end(self, reason: SessionEndReason.ValueType, detail: str) -> None:
        if not self._over.done():
            self._over.set_result(SessionEnded(reason=reason, detail=detail))

    # The room

    def _watch_room(self) -> None:
        self._room.on("disconnected", self._disconnected)
        self._room.on("reconnecting", self._reconnecting)
        self._room.on("reconnected", self._reconnected)
        self._room.on("local_track_republished", self._republished)
        self._room.on("participant_permissions_changed", self._permissions_changed)

    async def _join(self) -> None:
        if self._over.done():
            # Told so together with the ticket: joining might make a room anew that is deleted.
            return
        try:
            await self._entry.connect(self._joins, self._room, self._start.url or self._setup.url, self._start.token)
        except ConnectError as error:
            self._log.warning("session_join_failed", cause=str(error))
            self._end(SessionEndReason.SESSION_END_REASON_CONNECTION_LOST, "LiveKit did not let the session join")
        else:
            self._joined_as = self._room.local_participant.sid
            if self._ticket.room_sid not in ("", await self._room.sid):
                # It was deleted, or LiveKit lost it, and another one of its name made: perhaps by our joining.
                self._end(SessionEndReason.SESSION_END_REASON_OTHER_ROOM, "the room is another one now")
                return
            self._joined.set_result(self._room)

    async def _leave(self, connecting: "asyncio.Task[None]") -> None:
        self._tracks.close()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_LEAVE_S)
        self._entry.give_up()
        # A join that is under way takes a moment more, or over a minute.
        await asyncio.wait([connecting], timeout=_LEAVE_S)
        connecting.cancel()
        await asyncio.wait([connecting])
        await self._joins.leave(self._room)

    def _disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        name = rtc.DisconnectReason.Name(reason)
        known = _REASONS.get(reason, SessionEndReason.SESSION_END_REASON_CONNECTION_LOST)
        self._end(known, f"LiveKit ended the connection: {name}")

    def _reconnecting(self) -> None:
        self._tracks.connection_lost()

    def _reconnected(self) -> None:
        self._tracks.audience.connection_back()
        _ = self._spawn(self._look_after_reconnect(), "session-reconnected")

    async def _look_after_reconnect(self) -> None:
        # The SDK says that it has reconnected before it knows as whom. The same SID: it resumed, and all is as it was.
        deadline = time.monotonic() + _NEW_SID_S
        while self._room.local_participant.sid == self._joined_as:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.05)
        self._joined_as = self._room.local_participant.sid
        self._tracks.connected_anew()

    def _republished(self, publication: rtc.LocalTrackPublication) -> None:
        if not self._tracks.republished(publication.sid):
            # The connection came back before it was taken away.
            _ = self._spawn(take_away(self._room, publication.sid), "session-take-away")

    def _permissions_changed(self, participant: rtc.Participant) -> None:
        if isinstance(participant, rtc.LocalParticipant):
            self._tracks.permissions_changed(participant)

    # The server

    async def _attach(self) -> None:
        try:
            await self._attachment.run()
        except SupersededError:
            self._end(SessionEndReason.SESSION_END_REASON_STOPPED, "the session has moved on")
        except ServerAwayError:
            # Nobody would ever end it, and the server that comes back dispatches it anew where it is still wanted.
            self._end(SessionEndReason.SESSION_END_REASON_STOPPED, "the server is away, so nobody owns the session")

    def _hello(self) -> SessionHello:
        return SessionHello(
            session_id=self._ticket.session_id,
            generation=self._ticket.generation,
            worker_id=self._start.worker_id,
            tracks=self._tracks.reports(),
        )

    def _obey(self, response: AttachResponse) -> None:
        match response.WhichOneof("command"):
            case "desired" if not self._over.done():
                self._reconcile(response.desired)
            case "stop":
                self._end(SessionEndReason.SESSION_END_REASON_STOPPED, "the server told it to stop")
            case _:
                pass

    def _reconcile(self, desired: SessionDesired) -> None:
        if not self._entry.told(desired):
            # The server has it hosted anew where it is still wanted.
            self._end(SessionEndReason.SESSION_END_REASON_STOPPED, "it has to join anew for what is wanted now")
            return
        self._measuring.want(seconds_of(desired.stats_interval))
        self._tracks.want(desired)
        self._ear.want(desired)

    async def _measure(self) -> None:
        message = await read_carriers(self._tracks.carriers())
        if message.tracks:
            self._attachment.send_stats(AttachRequest(stats=message))

    def _run_closing(self, work: Coroutine[None, None, None]) -> None:
        task = self._spawn(work, "session-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=name)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    def _report(self, report: HostedTrackReport) -> None:
        self._attachment.send(AttachRequest(track=report))

    def _told(self, revision: int) -> None:
        self._attachment.send(AttachRequest(audience=AudienceReport(revision=revision)))
