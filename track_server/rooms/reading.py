"""Reading a room's tracks: from the live room where it is watched, else from LiveKit's API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from track.v1 import track_pb2, tracks_pb2
from track_server.cel import compile_filter
from track_server.errors import InvalidField, RoomNotFound, TrackNotFound
from track_server.livekit.api import LiveKitApi
from track_server.paging import Order, Position, page_of
from track_server.rooms.model import RoomModel
from track_server.rooms.room import now
from track_server.rooms.rooms import Rooms

_FIELDS: Final = ("sid", "participant_identity", "name", "type", "source")
_DEFAULT_ORDER: Final = "participant_identity"


@dataclass(frozen=True, slots=True)
class RoomView:
    """A room as it is known at one moment."""

    model: RoomModel
    freshness: track_pb2.Freshness


class Reader:
    """Answers GetTrack and ListTracks."""

    def __init__(self, rooms: Rooms, api: LiveKitApi) -> None:
        self._rooms = rooms
        self._api = api

    async def view(self, name: str) -> RoomView:
        """The room now. Raises RoomNotFound, LiveKitUnavailable."""
        live = self._rooms.find(name)
        if live is not None:
            return RoomView(live.model, live.freshness())
        room = (await self._api.find_rooms([name])).get(name)
        if room is None:
            raise RoomNotFound(f"room {name!r} does not exist", field="room")
        model = RoomModel(name)
        model.replace(room.sid, await self._api.list_participants(name), now())
        source = track_pb2.FRESHNESS_SOURCE_LIVEKIT_API
        return RoomView(model, track_pb2.Freshness(source=source, as_of_time=now()))

    async def get_track(self, request: tracks_pb2.GetTrackRequest) -> tracks_pb2.GetTrackResponse:
        """One track. Raises RoomNotFound, TrackNotFound."""
        view = await self.view(request.room)
        track = find_track(view.model.tracks, request.track_sid, "track_sid")
        return tracks_pb2.GetTrackResponse(track=track, freshness=view.freshness)

    async def list_tracks(self, request: tracks_pb2.ListTracksRequest) -> tracks_pb2.ListTracksResponse:
        """A page of tracks. Raises RoomNotFound, InvalidExpression, InvalidPageToken, InvalidField."""
        matches = compile_filter(request.filter, "track")
        names, order = parse_order(request.order_by)

        def position(track: track_pb2.Track) -> Position:
            return tuple(getattr(track, name) for name in names)

        view = await self.view(request.room)
        tracks, token = page_of(
            (track for track in view.model.tracks.values() if matches is None or matches(track)),
            position,
            size=request.page_size,
            token=request.page_token,
            query=("tracks", request.room, request.filter, request.order_by),
            order=order,
        )
        return tracks_pb2.ListTracksResponse(tracks=tracks, next_page_token=token, freshness=view.freshness)


def find_track(tracks: Mapping[str, track_pb2.Track], sid: str, field: str) -> track_pb2.Track:
    """The track of that SID. Raises TrackNotFound with ``field``."""
    track = tracks.get(sid)
    if track is None:
        raise TrackNotFound(f"no track {sid!r} in the room", field=field)
    return track


def parse_order(order_by: str) -> tuple[list[str], Order]:
    """The fields to order by, the SID as the last, and which of them descend. Raises InvalidField."""
    names: list[str] = []
    descending: set[int] = set()
    for part in (order_by or _DEFAULT_ORDER).split(","):
        name, _, direction = part.strip().partition(" ")
        if name not in _FIELDS or direction.strip() not in ("", "asc", "desc") or name in names:
            raise InvalidField(
                f"order_by takes each of {', '.join(_FIELDS)} once at most, with ` desc` or without; not {part.strip()!r}",
                field="order_by",
            )
        if direction.strip() == "desc":
            descending.add(len(names))
        names.append(name)
    return names if "sid" in names else [*names, "sid"], Order(frozenset(descending))
