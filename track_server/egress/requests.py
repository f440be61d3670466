"""The calls about recordings: start, stop, get, list."""

import asyncio
from dataclasses import dataclass

from track.v1 import access_pb2, publication_pb2
from track.v1 import egress_pb2 as pb
from track.v1.egress_pb2 import TrackEgress
from track.v1.event_pb2 import EventCause
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO, Track
from track_server.access.access import Access
from track_server.access.bounds import Description
from track_server.access.causes import cause_of
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.cel import compile_filter, in_time
from track_server.deadline import Deadline
from track_server.egress import course
from track_server.egress.outputs import Places, shown
from track_server.egress.recording import Means
from track_server.egress.recordings import Recordings, egress_id_of
from track_server.egress.targets import refuse_unrecordable
from track_server.errors import (
    EgressNotFound,
    InvalidField,
    InvalidOptions,
    PublicationEnded,
    PublicationNotFound,
    TrackNotFound,
)
from track_server.paging import Order, page_of
from track_server.rooms.room import LiveRoom, now

# A track that was published a moment ago may not have been told yet.
_TOLD_S = 0.5


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, under which id it is found in the record, and what names the operation."""

    principal: Principal
    request_id: str
    operation_key: str

    @property
    def cause(self) -> EventCause:
        """What it is to those who watch the room."""
        return cause_of(self.principal, request_id=self.request_id)


class EgressCalls:
    """Answers StartTrackEgress, StopTrackEgress, GetTrackEgress and ListTrackEgress."""

    def __init__(self, means: Means, recordings: Recordings, places: Places, access: Access) -> None:
        self._means = means
        self._recordings = recordings
        self._places = places
        self._access = access

    async def start(
        self, caller: Caller, request: pb.StartTrackEgressRequest, deadline: Deadline
    ) -> pb.StartTrackEgressResponse:
        """Starts it, and waits until it records.

        Raises RoomNotFound, TrackNotFound, PublicationNotFound, PublicationEnded, PermissionDenied, NotForDataTracks,
        EncryptionKeyNeeded, NotSupported, InvalidField, InvalidOptions, DestinationNotAllowed, EgressInProgress,
        EgressUnavailable, LimitExceeded, LiveKitUnavailable, StoreError.
        """
        self._places.check(request.output)
        egress_id = egress_id_of(caller.operation_key)
        begun_before = self._means.book.find(request.room, egress_id)
        if begun_before is not None:
            # An earlier run was ended while it answered the same call.
            return pb.StartTrackEgressResponse(egress=await self._recording(begun_before, deadline))
        async with self._means.rooms.watch(request.room) as live:
            egress = await self._asked(caller, request, live, egress_id, deadline)
            self._recordings.admit(egress)
            place = self._recordings.place(egress, egress.output, live.model.tracks, live)
            sids = frozenset(filter(None, (egress.track_sid, egress.audio_track_sid)))
            await self._means.starts.check(request.room, place, sids)
            if request.validate_only:
                egress.output.CopyFrom(shown(egress.output))
                for name in ("egress_id", "state", "create_time"):
                    egress.ClearField(name)
                return pb.StartTrackEgressResponse(egress=egress)
            # Once more without a pause: of calls at the same time one gets the place.
            self._recordings.admit(egress)
            self._recordings.place(egress, egress.output, live.model.tracks, live)
            driven = await self._recordings.begin(egress, place, caller.cause)
            try:
                await asyncio.wait({driven.begun}, timeout=deadline.remaining_s())
            finally:
                # Who was told of it by then, or hung up, finds it however it ends.
                driven.begun.cancel()
            if not driven.begun.cancelled():
                driven.begun.result()
        return pb.StartTrackEgressResponse(egress=await self._recording(egress, deadline))

    async def stop(
        self, caller: Caller, request: pb.StopTrackEgressRequest, deadline: Deadline
    ) -> pb.StopTrackEgressResponse:
        """Has it end, and waits for its result. Raises EgressNotFound."""
        egress = self._find(request.room, request.egress_id)
        if request.validate_only or course.ended(egress):
            return pb.StopTrackEgressResponse(egress=egress)
        await self._recordings.stop(egress, caller.cause)

        def over() -> bool:
            current = self._means.book.get(egress.egress_id)
            return current is None or course.ended(current)

        await self._means.book.until(over, deadline.remaining_s())
        return pb.StopTrackEgressResponse(egress=self._find(request.room, request.egress_id))

    async def get(self, request: pb.GetTrackEgressRequest) -> pb.GetTrackEgressResponse:
        """One. Raises EgressNotFound."""
        egress = self._find(request.room, request.egress_id)
        timeline = await self._means.timelines.of(egress) if request.with_timeline else []
        return pb.GetTrackEgressResponse(egress=egress, timeline=timeline)

    def list_page(self, request: pb.ListTrackEgressRequest) -> pb.ListTrackEgressResponse:
        """A page. Raises InvalidExpression, InvalidPageToken."""
        matches = in_time(compile_filter(request.filter, "egress"))
        found, token = page_of(
            (egress for egress in self._means.book.of_room(request.room) if matches(egress)),
            lambda egress: (egress.create_time.ToNanoseconds(), egress.egress_id),
            size=request.page_size,
            token=request.page_token,
            query=("egress", request.room, request.filter),
            order=Order(frozenset({0, 1})),
        )
        return pb.ListTrackEgressResponse(egress=found, next_page_token=token)

    def _find(self, room: str, egress_id: str) -> TrackEgress:
        egress = self._means.book.find(room, egress_id)
        if egress is None:
            raise EgressNotFound(f"no recording {egress_id!r} in the room", field="egress_id")
        return egress

    async def _recording(self, egress: TrackEgress, deadline: Deadline) -> TrackEgress:
        """It once it records, is over, or the deadline comes."""

        def settled() -> bool:
            current = self._means.book.get(egress.egress_id)
            return current is None or current.state != course.STARTING

        await self._means.book.until(settled, deadline.remaining_s())
        return self._find(egress.room, egress.egress_id)

    async def _asked(
        self, caller: Caller, request: pb.StartTrackEgressRequest, live: LiveRoom, egress_id: str, deadline: Deadline
    ) -> TrackEgress:
        """What is asked for, its target found, allowed, and such that it can be recorded."""
        principal = caller.principal
        track = await self._target(live, request, "track_sid", "publication_id", deadline)
        await self._require(principal, live.name, track)
        refuse_unrecordable(track, request.output, request.WhichOneof("target") or "")
        egress = TrackEgress(
            egress_id=egress_id,
            room=live.name,
            track_sid=track.sid,
            publication_id=request.publication_id,
            audio_publication_id=request.audio_publication_id,
            output=request.output,
            state=course.STARTING,
            create_time=now(),
            creator_identity=principal.identity,
            creator=principal.message,
        )
        field = request.WhichOneof("audio")
        if field is not None:
            audio = await self._target(live, request, "audio_track_sid", "audio_publication_id", deadline)
            await self._require(principal, live.name, audio)
            refuse_unrecordable(audio, request.output, field)
            if track.type != TRACK_TYPE_VIDEO or audio.type != TRACK_TYPE_AUDIO:
                raise InvalidOptions("an audio track goes with a video track", field=field)
            if request.output.WhichOneof("output") != "file":
                raise InvalidOptions("audio and video together go to a file alone", field="output.websocket_url")
            egress.audio_track_sid = audio.sid
        return egress

    async def _target(
        self, live: LiveRoom, request: pb.StartTrackEgressRequest, sid_field: str, id_field: str, deadline: Deadline
    ) -> Track:
        """The track of that SID, or that the publication of that id has now."""
        publication_id = getattr(request, id_field)
        sid, field = getattr(request, sid_field), sid_field
        if publication_id:
            field, sid = id_field, self._sid_of(live.name, publication_id, id_field)
        await live.until(lambda: sid in live.model.tracks, min(_TOLD_S, deadline.remaining_s()))
        track = live.model.tracks.get(sid)
        if track is None:
            raise TrackNotFound(f"no track {sid!r} in the room", field=field)
        return track

    def _sid_of(self, room: str, publication_id: str, field: str) -> str:
        publication = self._means.find_publication(room, publication_id)
        if publication is None:
            raise PublicationNotFound(f"no publication {publication_id!r} in the room", field=field)
        if publication.state == publication_pb2.PUBLICATION_STATE_ENDED:
            raise PublicationEnded("the publication has ended", field=field)
        if not publication.track_sid:
            raise InvalidField("the publication has no track in the room yet", field=field)
        return publication.track_sid

    async def _require(self, principal: Principal, room: str, track: Track) -> None:
        question = Question(
            access_pb2.PERMISSION_RECORD,
            room,
            track.participant_identity,
            track.sid,
            Description(type=track.type, source=track.source),
        )
        await self._access.require(principal, question)
