"""All recordings: started, stopped, shown, and brought through a restart of this server."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import structlog

from track.v1 import access_pb2, event_pb2
from track.v1 import egress_pb2 as pb
from track.v1.egress_pb2 import EgressRule, TrackEgress
from track.v1.event_pb2 import EventCause
from track.v1.track_pb2 import Track
from track_server.access.principal import remembered
from track_server.access.question import Question
from track_server.access.revocation import StandingEffect
from track_server.config import Settings
from track_server.egress import course, outputs
from track_server.egress.course import STOPPED
from track_server.egress.parts import part_for
from track_server.egress.paths import TIME
from track_server.egress.recording import Means, RecordingCourse
from track_server.egress.targets import refuse_unrecordable
from track_server.errors import EgressInProgress, LimitExceeded, PermissionDenied, TrackError, TrackNotFound
from track_server.lifetime import Closing, Tasks
from track_server.rooms.causes import rule_cause
from track_server.rooms.room import LiveRoom, now

log = structlog.get_logger(__name__)

_RULE: Final = "egress_rule"
_CHANGES: Final = frozenset({"track_published", "track_unpublished"})


class Recordings(Closing):
    """Owner of the courses of all recordings, `async with`."""

    def __init__(self, means: Means, settings: Settings) -> None:
        self._means = means
        self._settings = settings
        self._courses: dict[str, RecordingCourse] = {}
        self._places: dict[str, str] = {}
        """Where those write, by their ids."""
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of them: they go on at LiveKit. May be called twice."""
        await self._tasks.aclose()

    async def restore(self) -> None:
        """Goes on with what an earlier run left."""
        await self._means.starts.restore()
        for egress in self._means.book.active():
            # Nobody waits for it any more.
            self._drive(egress.egress_id, None).begun.cancel()
        self._means.follow()

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """Listens to watched rooms."""
        if event.WhichOneof("change") in _CHANGES:
            self._kick(lambda egress: egress.room == room)

    def publication_moved(self, room: str, publication_id: str) -> None:
        """A publication changed: its track, or that it ended."""
        self._kick(
            lambda egress: (
                egress.room == room and publication_id in (egress.publication_id, egress.audio_publication_id)
            )
        )

    def contribute(self, room: str, snapshot: event_pb2.RoomSnapshot) -> None:
        """The recordings of the room that have not ended."""
        snapshot.egress.extend(egress for egress in self._means.book.of_room(room) if not course.ended(egress))

    def moved(self, before: TrackEgress | None, after: TrackEgress, cause: EventCause | None) -> None:
        """The book's announcement: tells who watches the room, and the recording's course."""
        told = event_pb2.RoomEvent(egress_moved=after)
        if cause is not None:
            told.cause.CopyFrom(cause)
        self._means.rooms.announce(after.room, told)
        if (driven := self._courses.get(after.egress_id)) is not None:
            driven.kick()
        if before is None or before.state != after.state:
            log.info("egress_moved", egress_id=after.egress_id, room=after.room, state=pb.EgressState.Name(after.state))

    def admit(self, egress: TrackEgress) -> None:
        """Raises LimitExceeded where there is no room for one more."""
        limits, active = self._settings, list(self._means.book.active())
        if len(active) >= limits.max_egress:
            raise LimitExceeded("max_egress", limits.max_egress, "server")
        if sum(other.room == egress.room for other in active) >= limits.max_egress_per_room:
            raise LimitExceeded("max_egress_per_room", limits.max_egress_per_room, f"room {egress.room}")

    def place(self, egress: TrackEgress, output: pb.EgressOutput, tracks: Mapping[str, Track], live: LiveRoom) -> str:
        """The place that it is recorded to. Raises EgressInProgress where another recording writes there already, and
        InvalidField where its path cannot be filled in, TrackNotFound where its track is gone. ``output``: whole."""
        track = tracks.get(egress.track_sid)
        if track is None:
            raise TrackNotFound("the track ended meanwhile", field="track_sid")
        part = part_for(output, track, egress.audio_track_sid, live, 1)
        place = outputs.place_of(outputs.shown(output), part.path)
        apart = output.WhichOneof("output") == "websocket_url" or TIME in part.path
        for other in self._means.book.active():
            if place in self._places_of(other) and (other.track_sid == egress.track_sid or not apart):
                raise EgressInProgress(
                    f"recording {other.egress_id} writes to that place already",
                    field="output",
                    metadata={"egress_id": other.egress_id},
                )
        return place

    def _places_of(self, egress: TrackEgress) -> set[str]:
        """Where it writes, or has written a part."""
        written = {outputs.place_of(egress.output, part.path) for part in egress.parts}
        return written | {self._places.get(egress.egress_id, "")}

    async def begin(self, egress: TrackEgress, place: str, cause: EventCause | None) -> RecordingCourse:
        """Stores it, its output whole, and has it recorded. Raises StoreError."""
        self._places[egress.egress_id] = place
        await self._means.book.save(egress, cause)
        return self._drive(egress.egress_id, cause)

    async def record_by_rule(self, rule: EgressRule, live: LiveRoom, track: Track) -> None:
        """Has the track recorded as the rule says; once a track. Raises StoreError.

        What cannot be recorded is kept as failed, with the reason.
        """
        if track.sid not in live.model.tracks or not self._needed(rule, live.name, track):
            return
        egress = TrackEgress(
            egress_id=_id_by_rule(rule, live.name, track.sid),
            room=live.name,
            track_sid=track.sid,
            output=rule.output,
            state=course.STARTING,
            create_time=now(),
            rule_name=rule.name,
            rule_for_all_rooms=not rule.room,
            creator_identity=rule.creator_identity,
            creator=rule.creator,
        )
        cause = rule_cause(_RULE)
        try:
            self.admit(egress)
            refuse_unrecordable(track, rule.output, "filter")
            place = self.place(egress, rule.output, live.model.tracks, live)
        except TrackError as error:
            failed = course.finished(egress, course.BROKE, now())
            failed.problem.CopyFrom(error.problem())
            await self._means.book.save(failed, cause)
            return
        await self.begin(egress, place, cause)

    async def stop(self, egress: TrackEgress, cause: EventCause | None) -> None:
        """Has it end. Raises StoreError."""
        if (driven := self._courses.get(egress.egress_id)) is not None:
            await driven.stop(STOPPED, cause)

    def standing(self) -> Iterable[StandingEffect]:
        """See Revocation.add: a recording rests on the permission of who started it, or set its rule."""
        return [
            StandingEffect(
                remembered(egress.creator),
                Question(access_pb2.PERMISSION_RECORD, egress.room),
                partial(self._revoke, egress.egress_id),
            )
            for egress in self._means.book.active()
            if egress.HasField("creator")
        ]

    async def _revoke(self, egress_id: str, error: PermissionDenied) -> None:
        if (driven := self._courses.get(egress_id)) is not None:
            await driven.stop(STOPPED, rule_cause("permission_revoked", error.message))

    def _needed(self, rule: EgressRule, room: str, track: Track) -> bool:
        """Whether the rule has the track recorded now: once, and once more where it was set anew after that ended."""
        for egress in self._means.book.of_room(room):
            if (egress.rule_name, egress.rule_for_all_rooms) != (rule.name, not rule.room):
                continue
            if any(part.track_sid == track.sid for part in egress.parts) or egress.track_sid == track.sid:
                older = egress.create_time.ToNanoseconds() < rule.update_time.ToNanoseconds()
                if not (course.ended(egress) and older):
                    return False
        return True

    def _drive(self, egress_id: str, cause: EventCause | None) -> RecordingCourse:
        driven = self._courses[egress_id] = RecordingCourse(self._means, egress_id, cause)
        self._tasks.spawn(self._run(egress_id, driven), name=f"recording {egress_id}")
        return driven

    async def _run(self, egress_id: str, driven: RecordingCourse) -> None:
        try:
            await driven.run()
        finally:
            if self._courses.get(egress_id) is driven:
                del self._courses[egress_id]
                self._places.pop(egress_id, None)

    def _kick(self, concerned: Callable[[TrackEgress], bool]) -> None:
        for egress_id, driven in self._courses.items():
            egress = self._means.book.get(egress_id)
            if egress is not None and concerned(egress):
                driven.kick()


def egress_id_of(operation_key: str) -> str:
    """Id of the recording that an operation asks for: one operation starts one."""
    return f"TEG_{hashlib.blake2b(operation_key.encode(), digest_size=10).hexdigest()}"


def _id_by_rule(rule: EgressRule, room: str, track_sid: str) -> str:
    """Id of the recording of a track by a rule, as it was set: the same however often it is asked for."""
    return egress_id_of(
        f"{len(rule.room)}:{rule.room}{rule.name}/{rule.update_time.ToNanoseconds()}/{room}/{track_sid}"
    )
