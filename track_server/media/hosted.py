"""One track that a session publishes: from opening its input until it is taken away."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from livekit import rtc

from track.media.v1.media_service_pb2 import (
    HOSTED_TRACK_STATE_FAILED,
    HOSTED_TRACK_STATE_PUBLISHED,
    HOSTED_TRACK_STATE_SOURCE_ENDED,
    HOSTED_TRACK_STATE_UNSPECIFIED,
    DesiredTrack,
    HostedTrackReport,
    HostedTrackState,
)
from track_server import errors
from track_server.media.carriers import Carrier
from track_server.mediachange import digest

log = structlog.get_logger(__name__)


class HostedTrack:
    """Publishes a desired track as soon as the room is there, and feeds it. Ends by itself where its input ends or it
    fails; `aclose` takes it away at any time. `changed` is called after every change of `state`.
    """

    def __init__(
        self,
        desired: DesiredTrack,
        create_carrier: Callable[[DesiredTrack], Carrier],
        room: "asyncio.Future[rtc.Room]",
        passage: Callable[[str], Awaitable[None]],
        changed: Callable[["HostedTrack"], None],
        after: "HostedTrack | None" = None,
    ) -> None:
        """`passage` returns when the publication may be published. `after` is what it replaces: it is taken away
        first."""
        self.desired = desired
        self.name = desired.spec.name
        """LiveKit's, as long as it is there: what is desired may have another one before another track is begun."""
        self.state: HostedTrackState.ValueType = HOSTED_TRACK_STATE_UNSPECIFIED
        self._error: errors.TrackError | None = None
        self._create_carrier = create_carrier
        self._room = room
        self._passage = passage
        self._changed = changed
        self._carrier: Carrier | None = None
        self._revoked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = False
        self._producing: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._host(after), name=f"track-{desired.publication_id}")

    async def aclose(self) -> None:
        """Take it away. May be called twice."""
        if not self._closing:
            self._closing = True
            self._task.cancel()
            # At once, also where it is just being published, which is waited for.
            if self._producing is not None:
                self._producing.cancel()
        await asyncio.wait([self._task])

    def revoke(self) -> None:
        """Tell it that the participant may no longer publish it: LiveKit has taken it away."""
        if not self._revoked.done():
            self._revoked.set_result(None)

    def report(self) -> HostedTrackReport:
        """What there is to say about it."""
        report = HostedTrackReport(publication_id=self.desired.publication_id, state=self.state)
        report.attempt, report.change = self.desired.attempt, self.desired.change
        report.digest = digest(self.desired.spec)
        if self.state == HOSTED_TRACK_STATE_PUBLISHED and self._carrier is not None:
            report.track_sid = self._carrier.sid
        if self._error is not None:
            report.problem.CopyFrom(self._error.problem())
        return report

    def change(self, desired: DesiredTrack) -> None:
        """Takes over what can change while it is there: see mediachange.in_place."""
        self.desired = desired
        if self._carrier is not None:
            self._carrier.change(desired.spec)

    def mute(self, muted: bool) -> None:
        """Have it muted or not."""
        if muted != self.desired.muted:
            self.desired.muted = muted
            if self._carrier is not None:
                self._carrier.mute(muted)

    @property
    def carrier(self) -> Carrier | None:
        """What carries it, while it is published."""
        return self._carrier if self.state == HOSTED_TRACK_STATE_PUBLISHED else None

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""
        return self.state in (HOSTED_TRACK_STATE_FAILED, HOSTED_TRACK_STATE_SOURCE_ENDED)

    async def _host(self, after: "HostedTrack | None") -> None:
        try:
            await self._open_and_publish(after)
            self.state = HOSTED_TRACK_STATE_SOURCE_ENDED
        except errors.TrackError as error:
            self._fail(error)
        except Exception as error:  # whatever the SDK or a decoder throws ends this track alone
            log.exception("hosted_track_broke", publication_id=self.desired.publication_id)
            failure = errors.Internal("the media worker failed")
            failure.__cause__ = error
            self._fail(failure)
        self._changed(self)

    def _fail(self, error: errors.TrackError) -> None:
        # Here a field is one of the spec; who reads it sees the whole request, or the publication.
        error.field = error.field and f"spec.{error.field}"
        log.info(
            "hosted_track_failed",
            publication_id=self.desired.publication_id,
            reason=error.message,
            cause=repr(error.__cause__),
        )
        self.state, self._error = HOSTED_TRACK_STATE_FAILED, error

    async def _open_and_publish(self, after: "HostedTrack | None") -> None:
        try:
            # Before the other one goes, so that a file goes on where it is.
            self._carrier = carrier = self._create_carrier(self.desired)
        except Exception:
            if after is not None:
                await after.aclose()
            raise
        try:
            if after is not None:
                await after.aclose()
            await carrier.open()
            live = asyncio.Event()
            producing = asyncio.create_task(carrier.produce(live), name=f"produce-{self.desired.publication_id}")
            self._producing = producing
            try:
                await self._publish(carrier)
                live.set()
                await asyncio.wait({producing, self._revoked}, return_when=asyncio.FIRST_COMPLETED)
                if self._revoked.done():
                    raise errors.TargetPermission("the participant may no longer publish this track")
                producing.result()
            finally:
                producing.cancel()
                await asyncio.wait([producing])
        finally:
            if self._room.done() and not self._room.cancelled() and self._room.exception() is None:
                await carrier.unpublish(self._room.result())
            await carrier.aclose()

    async def _publish(self, carrier: Carrier) -> None:
        room = await asyncio.shield(self._room)
        await self._passage(self.desired.publication_id)
        if self._revoked.done():
            raise errors.TargetPermission("the participant may not publish this track")
        # Not to be cancelled half-way: the SDK would publish it all the same, and nobody would take it away.
        publishing = asyncio.create_task(carrier.publish(room), name=f"publish-{self.desired.publication_id}")
        try:
            await asyncio.shield(publishing)
        except asyncio.CancelledError:
            await asyncio.wait([publishing])
            raise
        self.state = HOSTED_TRACK_STATE_PUBLISHED
        self._changed(self)
