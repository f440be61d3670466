"""Muting and unmuting tracks: each validated, asked of LiveKit or the client itself, and seen in the room."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from track.control.v1.control_pb2 import COMMAND_STATUS_DONE
from track.v1 import access_pb2, publication_pb2, track_pb2, tracks_pb2
from track_server.access.access import Access
from track_server.access.bounds import Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.control.commands import Target
from track_server.control.companion import Companion
from track_server.deadline import Deadline
from track_server.errors import (
    CompanionMissing,
    LiveKitUnavailable,
    NotForDataTracks,
    RemoteUnmuteDisabled,
    TargetPermission,
    TrackError,
    TrackNotFound,
)
from track_server.livekit.api import LiveKitApi, LiveKitRefusal
from track_server.rooms.permissions import may_publish
from track_server.rooms.reading import find_track
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms


class Remember(Protocol):
    """Keeps in mind whether a track is to be muted that is muted anyway, since its publication stalls."""

    async def __call__(self, room: str, publication_id: str, *, muted: bool) -> publication_pb2.Publication | None:
        """The publication, or None where it does not stall, so that it is LiveKit's to do."""


class Mutes:
    """Answers MuteTracks and UnmuteTracks. ``remember``: of publications whose frames the caller pushes."""

    def __init__(self, rooms: Rooms, api: LiveKitApi, companion: Companion, access: Access, remember: Remember) -> None:
        self._rooms = rooms
        self._api = api
        self._companion = companion
        self._access = access
        self._remember = remember

    async def set_muted(
        self,
        principal: Principal,
        room: str,
        tracks: Sequence[tracks_pb2.TrackRef],
        *,
        muted: bool,
        deadline: Deadline,
        validate_only: bool = False,
    ) -> list[tracks_pb2.MuteResult]:
        """One result a track, in order. ``validate_only``: everything is checked, and nothing done.

        Raises RoomNotFound, LiveKitUnavailable.
        """
        async with self._rooms.watch(room) as live:
            questions = [_question(live, ref) for ref in tracks]
            cleared = await self._access.require_each(principal, questions)

            async def one(index: int, ref: tracks_pb2.TrackRef) -> tracks_pb2.MuteResult:
                field = f"tracks[{index}]"
                try:
                    if isinstance(denied := cleared[index], TrackError):
                        raise denied
                    track = _checked(live, ref, field, muted=muted)
                    if validate_only:
                        return tracks_pb2.MuteResult(track=_named(track), muted=track.muted)
                    return await self._set_one(live, track, field, muted=muted, deadline=deadline)
                except TrackError as error:
                    if isinstance(error, TargetPermission):
                        self._access.refused(principal, questions[index], error.message)
                    return tracks_pb2.MuteResult(track=ref, problem=error.problem(error.field or field))

            return await asyncio.gather(*(one(index, ref) for index, ref in enumerate(tracks)))

    async def _set_one(
        self, live: LiveRoom, track: track_pb2.Track, field: str, *, muted: bool, deadline: Deadline
    ) -> tracks_pb2.MuteResult:
        def seen() -> bool:
            current = live.model.tracks.get(track.sid)
            return current is None or current.muted == muted

        if await self._remember(live.name, track.publication_id, muted=muted) is not None:
            # It is carried out when frames come again: until then the track stays muted in any case.
            result = tracks_pb2.MuteResult(track=_named(track), muted=True)
            result.stage = publication_pb2.STAGE_OBSERVED if muted else publication_pb2.STAGE_REQUESTED
            if muted:
                result.evidence = publication_pb2.EVIDENCE_ROOM
            return result
        done = publication_pb2.STAGE_REQUESTED
        if not (live.current and seen()):
            done = await self._ask(live, track, field, muted=muted, deadline=deadline)
        await live.until(seen, deadline.remaining_s())
        current = live.model.tracks.get(track.sid)
        if current is None:
            raise TrackNotFound(f"track {track.sid!r} was unpublished meanwhile", field=f"{field}.track_sid")
        result = tracks_pb2.MuteResult(track=_named(track), muted=current.muted)
        if current.muted == muted:
            result.stage = publication_pb2.STAGE_OBSERVED
            result.evidence = publication_pb2.EVIDENCE_ROOM
        else:
            result.stage = done
        return result

    async def _ask(
        self, live: LiveRoom, track: track_pb2.Track, field: str, *, muted: bool, deadline: Deadline
    ) -> publication_pb2.Stage.ValueType:
        """How far it is known to have got without a look at the room."""
        try:
            await self._api.mute_track(live.name, track.participant_identity, track.sid, muted=muted)
        except LiveKitRefusal as error:
            if muted or error.twirp_code != "failed_precondition":
                raise
            return await self._unmute_by_client(live, track, field, deadline)
        return publication_pb2.STAGE_REQUESTED

    async def _unmute_by_client(
        self, live: LiveRoom, track: track_pb2.Track, field: str, deadline: Deadline
    ) -> publication_pb2.Stage.ValueType:
        """LiveKit forbids it; the client's own companion may do it, and ask its user."""
        target = Target(live.name, track.participant_identity, track.participant_sid)
        try:
            reply = await self._companion.set_muted(target, track.sid, deadline, muted=False)
        except (CompanionMissing, LiveKitUnavailable) as error:
            raise RemoteUnmuteDisabled(
                "LiveKit forbids unmuting from the server; its configuration needs room.enable_remote_unmute: true",
                field=field,
                metadata={"livekit_setting": "room.enable_remote_unmute"},
            ) from error
        done = reply.status == COMMAND_STATUS_DONE
        return publication_pb2.STAGE_ACKNOWLEDGED if done else publication_pb2.STAGE_REQUESTED


def _question(live: LiveRoom, ref: tracks_pb2.TrackRef) -> Question:
    """Asked of the participant that the caller names, else of the publisher: the answer must not tell whether a track
    of somebody else's exists."""
    known = live.model.tracks.get(ref.track_sid)
    described = Description(type=known.type, source=known.source) if known is not None else None
    publisher = known.participant_identity if known is not None else ""
    identity = ref.participant_identity or publisher
    return Question(
        access_pb2.PERMISSION_MUTE, live.name, identity, ref.track_sid, described if identity == publisher else None
    )


def _checked(live: LiveRoom, ref: tracks_pb2.TrackRef, field: str, *, muted: bool) -> track_pb2.Track:
    known = live.model.tracks.get(ref.track_sid)
    named = ref.participant_identity
    if named and (known is None or named != known.participant_identity):
        # The same for a track of somebody else's and for one that does not exist.
        raise TrackNotFound(
            f"participant {named!r} has no track {ref.track_sid!r}", field=f"{field}.participant_identity"
        )
    track = find_track(live.model.tracks, ref.track_sid, f"{field}.track_sid")
    if track.type == track_pb2.TRACK_TYPE_DATA:
        raise NotForDataTracks("LiveKit cannot mute data tracks", field=f"{field}.track_sid")
    if not muted and not may_publish(live.model.participants[track.participant_identity], track.type, track.source):
        raise TargetPermission(
            f"participant {track.participant_identity!r} may not publish this source", field=f"{field}.track_sid"
        )
    return track


def _named(track: track_pb2.Track) -> tracks_pb2.TrackRef:
    return tracks_pb2.TrackRef(track_sid=track.sid, participant_identity=track.participant_identity)
