"""Force-unpublish: any participant's track is taken out of the room."""

from typing import Final

import structlog

from track.v1 import publication_pb2, track_pb2
from track.v1.event_pb2 import EventCause
from track.v1.publication_pb2 import Publication, UnpublishTrackRequest, UnpublishTrackResponse
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.control.companion import Companion
from track_server.control.targets import target_of
from track_server.deadline import Deadline
from track_server.errors import TrackError
from track_server.livekit.api import LiveKitApi
from track_server.publishing import lifecycle
from track_server.publishing.book import Book
from track_server.publishing.ending import METHODS, Ending
from track_server.publishing.ids import hosted
from track_server.publishing.questions import ending_track
from track_server.publishing.routes import CLIENT, HOSTED
from track_server.publishing.secrets import shown
from track_server.rooms.reading import find_track, look
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.withholding import Withholding

log = structlog.get_logger(__name__)

MODERATION: Final = publication_pb2.PUBLICATION_END_CAUSE_MODERATION
COMPANION: Final = publication_pb2.UNPUBLISH_METHOD_COMPANION
PERMISSION: Final = publication_pb2.UNPUBLISH_METHOD_PERMISSION

# A companion answers within milliseconds. A client that does not obey is not waited for: the permission is taken away.
_COMPANION_S: Final = 3.0
_HOSTED_S: Final = 2.0


class Unpublishing:
    """Answers UnpublishTrack by SID."""

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        access: Access,
        book: Book,
        ending: Ending,
        companion: Companion,
        withholding: Withholding,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._access = access
        self._book = book
        self._ending = ending
        self._companion = companion
        self._withholding = withholding

    async def unpublish(
        self, principal: Principal, request: UnpublishTrackRequest, deadline: Deadline, cause: EventCause
    ) -> UnpublishTrackResponse:
        """Takes the track out of the room, and waits for it to be gone. ``cause``: the call, to those who watch.

        Raises RoomNotFound, PermissionDenied, TrackNotFound, LiveKitUnavailable.
        """
        async with self._rooms.watch(request.room) as live:
            publication = self._published(request.room, request.track_sid)
            known = live.model.tracks.get(request.track_sid)
            if known is None and publication is None:
                # It may have been published a moment ago.
                known = (await look(self._api, live.name)).tracks.get(request.track_sid)
            await self._access.require(principal, ending_track(live.name, known, publication))
            if publication is not None and publication.route != CLIENT:
                if request.validate_only:
                    return UnpublishTrackResponse(publication=publication, method=METHODS[publication.route])
                return await self._ending.end(publication, MODERATION, deadline, cause)
            track = find_track({known.sid: known} if known is not None else {}, request.track_sid, "track_sid")
            if self._hosted(live, track):
                return await self._take_out_hosted(live, track, request, deadline, cause)
            if request.validate_only:
                return await self._foreseen(live, track, publication)
            return await self._take_out(live, track, publication, request, deadline, cause)

    async def _take_out(
        self,
        live: LiveRoom,
        track: track_pb2.Track,
        publication: Publication | None,
        request: UnpublishTrackRequest,
        deadline: Deadline,
        cause: EventCause,
    ) -> UnpublishTrackResponse:
        if publication is not None:
            # First: its route must not bring it back. It tells the companion to take it away.
            publication = await self._ending.begin(publication, MODERATION, cause)
        live.causes.expect("track_unpublished", track.sid, cause)
        answer = UnpublishTrackResponse(publication=publication, stage=publication_pb2.STAGE_REQUESTED)
        patience = Deadline.after(min(_COMPANION_S, deadline.remaining_s() / 2))
        asked = publication is not None or await self._ask(live, track, patience)
        if asked and await _gone(live, track, patience):
            answer.method = COMPANION
            return _seen(answer, gone=True)
        await self._end_others(live, track, cause)
        withheld = await self._withholding.take(live, track, deadline, cause, give_back=request.restore_permission)
        answer.method = PERMISSION
        answer.also_unpublished.extend(withheld.also)
        answer.permission_restored = withheld.restored is True
        return _seen(answer, withheld.gone)

    async def _take_out_hosted(
        self,
        live: LiveRoom,
        track: track_pb2.Track,
        request: UnpublishTrackRequest,
        deadline: Deadline,
        cause: EventCause,
    ) -> UnpublishTrackResponse:
        """Takes out a track of this service's own that is no publication's: not yet, or not any more."""
        answer = UnpublishTrackResponse(method=publication_pb2.UNPUBLISH_METHOD_HOSTED_SESSION)
        if request.validate_only:
            return answer
        # Its session is about to tell that it is there, or to take it away by itself.
        patience = min(_HOSTED_S, deadline.remaining_s() / 2)
        await self._book.until(lambda: self._published(live.name, track.sid) is not None, patience)
        publication = self._published(live.name, track.sid)
        if publication is not None:
            return await self._ending.end(publication, MODERATION, deadline, cause)
        answer.stage = publication_pb2.STAGE_REQUESTED
        return _seen(answer, await _gone(live, track, deadline))

    async def _ask(self, live: LiveRoom, track: track_pb2.Track, deadline: Deadline) -> bool:
        """Asks the companion; says whether there is one that does what it is asked."""
        identity = track.participant_identity
        try:
            await self._companion.unpublish(target_of(live, identity), track.sid, deadline)
        except TrackError as error:
            log.info("companion_did_not_unpublish", room=live.name, identity=identity, reason=error.message)
            return False
        return True

    async def _foreseen(
        self, live: LiveRoom, track: track_pb2.Track, publication: Publication | None
    ) -> UnpublishTrackResponse:
        """What would be done."""
        answer = UnpublishTrackResponse(publication=publication)
        try:
            target = target_of(live, track.participant_identity)
            by_companion = await self._companion.has_companion(target, Deadline.after(_COMPANION_S))
        except TrackError:
            by_companion = False
        if by_companion:
            answer.method = COMPANION
        else:
            answer.method = PERMISSION
            answer.also_unpublished.extend(await self._withholding.preview(live.name, track))
        return answer

    async def _end_others(self, live: LiveRoom, track: track_pb2.Track, cause: EventCause) -> None:
        """Ends the participant's other publications that go with the permission: they must not be brought back."""
        for other in self._book.active_of(live.name, track.participant_identity, CLIENT):
            data = track.type == other.type == track_pb2.TRACK_TYPE_DATA
            if data or (track.type != track_pb2.TRACK_TYPE_DATA and other.spec.source == track.source):
                await self._ending.begin(other, MODERATION, cause)

    def _hosted(self, live: LiveRoom, track: track_pb2.Track) -> bool:
        """Whether this service publishes it. What a participant says of itself is not enough."""
        participant = live.model.participants.get(track.participant_identity)
        ours = self._book.active_of(live.name, track.participant_identity, HOSTED)
        return bool(ours) and participant is not None and hosted(live.name, participant)

    def _published(self, room: str, track_sid: str) -> Publication | None:
        """The publication whose track it is."""
        found = (
            known
            for known in self._book.active()
            # An ingress publishes more than the one track that stands for its publication.
            if known.room == room and track_sid in (*lifecycle.there(known), *known.ingress.track_sids)
        )
        publication = next(found, None)
        return shown(publication) if publication is not None else None


async def _gone(live: LiveRoom, track: track_pb2.Track, deadline: Deadline) -> bool:
    return await live.until(
        lambda: live.closed or (live.current and track.sid not in live.model.tracks), deadline.remaining_s()
    )


def _seen(answer: UnpublishTrackResponse, gone: bool) -> UnpublishTrackResponse:
    if gone:
        answer.stage = publication_pb2.STAGE_OBSERVED
        answer.evidence = publication_pb2.EVIDENCE_ROOM
    return answer
