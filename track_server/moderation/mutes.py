"""Muting and unmuting tracks: each validated, asked of LiveKit, and seen in the room."""

import asyncio
from collections.abc import Sequence

from track.v1 import access_pb2, publication_pb2, track_pb2, tracks_pb2
from track_server.access.principal import Principal
from track_server.access.rules import require_target
from track_server.deadline import Deadline
from track_server.errors import (
    NotForDataTracks,
    RemoteUnmuteDisabled,
    TargetPermission,
    TrackError,
    TrackNotFound,
)
from track_server.livekit.api import LiveKitApi, LiveKitRefusal
from track_server.rooms.reading import find_track
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms


class Mutes:
    """Answers MuteTracks and UnmuteTracks."""

    def __init__(self, rooms: Rooms, api: LiveKitApi) -> None:
        self._rooms = rooms
        self._api = api

    async def set_muted(
        self,
        principal: Principal,
        room: str,
        tracks: Sequence[tracks_pb2.TrackRef],
        *,
        muted: bool,
        deadline: Deadline,
    ) -> list[tracks_pb2.MuteResult]:
        """One result a track, in order. Raises RoomNotFound, LiveKitUnavailable."""
        async with self._rooms.watch(room) as live:
            return await asyncio.gather(
                *(
                    self._set_one(principal, live, ref, f"tracks[{index}]", muted=muted, deadline=deadline)
                    for index, ref in enumerate(tracks)
                )
            )

    async def _set_one(
        self,
        principal: Principal,
        live: LiveRoom,
        ref: tracks_pb2.TrackRef,
        field: str,
        *,
        muted: bool,
        deadline: Deadline,
    ) -> tracks_pb2.MuteResult:
        try:
            track = self._checked(principal, live, ref, field, muted=muted)
            result = tracks_pb2.MuteResult(
                track=tracks_pb2.TrackRef(track_sid=track.sid, participant_identity=track.participant_identity)
            )

            def seen() -> bool:
                current = live.model.tracks.get(track.sid)
                return current is None or current.muted == muted

            if not (live.current and seen()):
                await self._ask(live, track, field, muted=muted)
            await live.until(seen, deadline.remaining_s())
        except TrackError as error:
            return tracks_pb2.MuteResult(track=ref, problem=error.problem(error.field or field))
        current = live.model.tracks.get(track.sid)
        if current is None:
            gone = TrackNotFound(f"track {track.sid!r} was unpublished meanwhile")
            return tracks_pb2.MuteResult(track=ref, problem=gone.problem(f"{field}.track_sid"))
        result.muted = current.muted
        if current.muted == muted:
            result.stage = publication_pb2.STAGE_OBSERVED
            result.evidence = publication_pb2.EVIDENCE_ROOM
        else:
            result.stage = publication_pb2.STAGE_REQUESTED
        return result

    def _checked(
        self, principal: Principal, live: LiveRoom, ref: tracks_pb2.TrackRef, field: str, *, muted: bool
    ) -> track_pb2.Track:
        known = live.model.tracks.get(ref.track_sid)
        identity = known.participant_identity if known is not None else ref.participant_identity
        require_target(
            principal,
            access_pb2.PERMISSION_MUTE,
            live.name,
            identity,
            source=known.source if known is not None else track_pb2.TRACK_SOURCE_UNSPECIFIED,
            track_type=known.type if known is not None else track_pb2.TRACK_TYPE_UNSPECIFIED,
        )
        track = find_track(live.model.tracks, ref.track_sid, f"{field}.track_sid")
        if ref.participant_identity and ref.participant_identity != track.participant_identity:
            raise TrackNotFound(
                f"track {ref.track_sid!r} is not one of participant {ref.participant_identity!r}",
                field=f"{field}.participant_identity",
            )
        if track.type == track_pb2.TRACK_TYPE_DATA:
            raise NotForDataTracks("LiveKit cannot mute data tracks", field=f"{field}.track_sid")
        if not muted and not _may_publish(live.model.participants[track.participant_identity], track):
            raise TargetPermission(
                f"participant {track.participant_identity!r} may not publish this source", field=f"{field}.track_sid"
            )
        return track

    async def _ask(self, live: LiveRoom, track: track_pb2.Track, field: str, *, muted: bool) -> None:
        try:
            await self._api.mute_track(live.name, track.participant_identity, track.sid, muted=muted)
        except LiveKitRefusal as error:
            if not muted and error.twirp_code == "failed_precondition":
                raise RemoteUnmuteDisabled(
                    "LiveKit forbids unmuting from the server; its configuration needs room.enable_remote_unmute: true",
                    field=field,
                    metadata={"livekit_setting": "room.enable_remote_unmute"},
                ) from error
            raise


def _may_publish(participant: track_pb2.Participant, track: track_pb2.Track) -> bool:
    allowed = participant.permission
    return allowed.can_publish and (not allowed.can_publish_sources or track.source in allowed.can_publish_sources)
