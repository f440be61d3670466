"""A publication by LiveKit Ingress, for as long as it is wanted: created, followed in the room, and deleted."""

import asyncio
import random
from typing import Final

import structlog

from track.v1 import track_pb2
from track.v1.ingress_pb2 import IngressState, IngressType
from track.v1.publication_pb2 import Publication, PublicationEndCause
from track_server.errors import (
    IngressUnavailable,
    LiveKitError,
    PublishFailed,
    RoomNotFound,
    TrackError,
)
from track_server.publishing import lifecycle
from track_server.publishing.ingress.remnant import Ingresses, IngressRemnant
from track_server.publishing.kicks import Kicks
from track_server.publishing.lifecycle import ENDED, LIVE, PENDING, RESTARTING, STARTING
from track_server.publishing.spec import sdk_lower_layers
from track_server.rooms.model import Binding
from track_server.rooms.permissions import may_publish
from track_server.rooms.room import LiveRoom, now

log = structlog.get_logger(__name__)

OTHER_TYPE_S: Final = 2.0
"""Ingress publishes audio and video one after the other: the track of the other type is taken for the publication's
only where that of its own does not come."""
VANISHED_GRACE_S: Final = 2.0
_POLL_WAITING_S: Final = 1.0
_POLL_LIVE_S: Final = 5.0
_RETRY_FIRST_S: Final = 0.25
_RETRY_LAST_S: Final = 10.0

_END: Final = PublicationEndCause


class IngressPublication:
    """``run()`` keeps it published until it has ended. ``ingress_id``: LiveKit's, where an earlier run left it."""

    def __init__(self, parts: Ingresses, room: str, identity: str, publication_id: str, ingress_id: str = "") -> None:
        self.room = room
        self.identity = identity
        self.publication_id = publication_id
        self._parts = parts
        self._left = IngressRemnant(parts, room, identity, publication_id, ingress_id)
        self._gone_at: float | None = None
        self._other_at: float | None = None
        self._poll_at = 0.0
        self._removed = False
        self._failures = 0
        self._kicks = Kicks()

    def kick(self) -> None:
        """Says that something else is wanted."""
        self._kicks.give()

    def removed(self) -> None:
        """Somebody removed the participant from the room."""
        self._removed = True
        self._kicks.give()

    async def run(self) -> None:
        """Returns once it has ended and its ingress is deleted."""
        while self._wanted() is not None:
            try:
                async with self._parts.rooms.watch(self.room) as live, self._kicks.of(live):
                    await self._follow(live)
            except RoomNotFound:
                await self._end(_END.PUBLICATION_END_CAUSE_ROOM_CLOSED)
            except TrackError as error:
                await self._trouble(error)
                await self._pause()
        await self._delete()

    # Following.

    async def _follow(self, live: LiveRoom) -> None:
        while (publication := self._wanted()) is not None and not live.closed:
            self._kicks.clear()
            if self._removed:
                await self._end(_END.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED)
            elif not publication.ingress.ingress_id:
                await self._create(publication)
            else:
                await self._compare(live, publication)
                await self._ask()
            if self._wanted() is not None:
                await self._kicks.wait(_POLL_WAITING_S)
        if live.closed:
            await self._end(_END.PUBLICATION_END_CAUSE_ROOM_CLOSED)

    async def _create(self, publication: Publication) -> None:
        try:
            made = await self._left.existing() if self._left.unsure else None
            if made is None:
                await self._left.note("")
                made = await self._parts.ingress.create(_layered(self._parts.book.whole(publication)))
        except (IngressUnavailable, LiveKitError) as error:
            # Neither helps to try again.
            self._left.unsure = False
            await self._end(_END.PUBLICATION_END_CAUSE_FAILED, error)
            return
        self._failures = 0
        await self._left.note(made.ingress_id)
        current = self._wanted()
        if current is None:
            return
        changed = lifecycle.untroubled(current)
        if changed.state in (PENDING, RESTARTING):
            changed = lifecycle.move(changed, STARTING, now())
        changed.ingress.CopyFrom(made)
        await self._parts.book.take(changed)
        self._kicks.give()

    async def _compare(self, live: LiveRoom, publication: Publication) -> None:
        """Takes over what the room shows."""
        if not live.current:
            return
        participant = live.model.participants.get(self.identity)
        tracks = {
            sid: track
            for sid, track in live.model.tracks.items()
            if track.participant_identity == self.identity
            and participant is not None
            and participant.kind == track_pb2.PARTICIPANT_KIND_INGRESS
        }
        if participant is not None and tracks:
            self._left.participant_sid = participant.sid
        bound = self._bound(publication, tracks)
        if bound is not None:
            self._gone_at = None
            for sid in tracks:
                live.bind(sid, Binding(self.publication_id))
            if publication.state in (PENDING, RESTARTING):
                publication = lifecycle.move(publication, STARTING, now())
            publication = lifecycle.muted(lifecycle.live(publication, bound.sid, now()), bound.muted)
            publication.ingress.track_sids[:] = sorted(tracks)
            await self._parts.book.take(publication)
        elif publication.state == LIVE and publication.track_sid not in tracks:
            await self._missing(publication, participant)

    def _bound(self, publication: Publication, tracks: dict[str, track_pb2.Track]) -> track_pb2.Track | None:
        """The publication's track: the one that it was, else that of its type, else after a while another one."""
        known = tracks.get(publication.track_sid)
        own = (track for _, track in sorted(tracks.items()) if track.type == publication.type)
        found = known or next(own, None)
        if found is not None or not tracks:
            self._other_at = None
            return found
        loop = asyncio.get_running_loop()
        self._other_at = self._other_at or loop.time()
        if loop.time() - self._other_at < OTHER_TYPE_S:
            return None
        return tracks[min(tracks)]

    async def _missing(self, publication: Publication, participant: track_pb2.Participant | None) -> None:
        loop = asyncio.get_running_loop()
        if participant is not None and not may_publish(participant, publication.type, publication.spec.source):
            await self._end(_END.PUBLICATION_END_CAUSE_PERMISSION_REVOKED)
            return
        self._gone_at = self._gone_at or loop.time()
        if loop.time() - self._gone_at >= VANISHED_GRACE_S:
            self._gone_at = None
            changed = lifecycle.move(publication, RESTARTING, now(), "Ingress publishes nothing")
            changed.ingress.ClearField("track_sids")
            await self._parts.book.take(changed)

    async def _ask(self) -> None:
        """Takes over, now and then, what LiveKit says of the ingress."""
        loop = asyncio.get_running_loop()
        publication = self._wanted()
        if publication is None or loop.time() < self._poll_at:
            return
        self._poll_at = loop.time() + (_POLL_LIVE_S if publication.state == LIVE else _POLL_WAITING_S)
        told = await self._parts.ingress.find(publication.ingress.ingress_id)
        publication = self._wanted()
        if publication is None:
            return
        pulled = publication.spec.ingress.type == IngressType.INGRESS_TYPE_URL
        if told is None:
            await self._end(_END.PUBLICATION_END_CAUSE_FAILED, PublishFailed("somebody deleted the ingress"))
        elif told.state == IngressState.INGRESS_STATE_COMPLETE:
            await self._end(_END.PUBLICATION_END_CAUSE_SOURCE_ENDED)
        elif told.state == IngressState.INGRESS_STATE_ERROR and pulled:
            await self._end(_END.PUBLICATION_END_CAUSE_FAILED, _refused())
        else:
            failed = told.state == IngressState.INGRESS_STATE_ERROR
            changed = lifecycle.troubled(publication, _refused().problem()) if failed else publication
            if not failed and publication.HasField("problem"):
                changed = lifecycle.untroubled(publication)
            await self._parts.book.take(_with_state(changed, told.state))

    # Ending.

    async def _delete(self) -> None:
        """Deletes the ingress, and sees to it that its participant is gone: tried until LiveKit has done it."""
        known = self._parts.book.find(self.room, self.publication_id)
        if known is not None and known.ingress.ingress_id:
            self._left.ingress_id = known.ingress.ingress_id
        while not await self._left.remove():
            self._kicks.clear()
            await self._pause()

    async def _end(self, cause: PublicationEndCause.ValueType, error: TrackError | None = None) -> None:
        publication = self._wanted()
        if publication is not None:
            problem = error.problem() if error is not None else None
            await self._parts.book.take(lifecycle.end(publication, cause, now(), problem=problem))

    async def _trouble(self, error: TrackError) -> None:
        log.warning("ingress_trouble", publication_id=self.publication_id, reason=error.message)
        publication = self._wanted()
        if publication is not None:
            await self._parts.book.take(lifecycle.troubled(publication, error.problem()))

    def _wanted(self) -> Publication | None:
        found = self._parts.book.find(self.room, self.publication_id)
        return found if found is not None and found.state != ENDED else None

    async def _pause(self) -> None:
        self._failures += 1
        await self._kicks.wait(min(_RETRY_FIRST_S * 2**self._failures, _RETRY_LAST_S) * random.uniform(0.5, 1.0))


def _with_state(publication: Publication, state: "IngressState.ValueType") -> Publication:
    result = Publication()
    result.CopyFrom(publication)
    result.ingress.state = state
    return result


def _layered(publication: Publication) -> Publication:
    """It with its simulcast layers one by one, as Ingress is asked for them."""
    video = publication.spec.video
    if not video.simulcast or video.layers:
        return publication
    result = Publication()
    result.CopyFrom(publication)
    result.spec.video.layers.extend(sdk_lower_layers(video, publication.spec.source))
    result.spec.video.layers.add(width=video.width, height=video.height, max_bitrate_bps=video.max_bitrate_bps)
    return result


def _refused() -> PublishFailed:
    return PublishFailed("LiveKit Ingress could not take in or publish the media")
