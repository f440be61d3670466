"""Reading a room's tracks: from the live room where it is watched, else from LiveKit's API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from livekit.protocol import models

from track.v1 import track_pb2, tracks_pb2
from track_server.cel import compile_filter, in_time
from track_server.errors import InvalidField, RoomNotFound, TrackNotFound
from track_server.livekit.api import LiveKitApi
from track_server.paging import Order, Position, page_of
from track_server.rooms import convert
from track_server.rooms.model import RoomModel
from track_server.rooms.room import LiveRoom, now
from track_server.rooms.rooms import Rooms

_FIELDS: Final = ("sid", "participant_identity", "name", "type", "source")
_DEFAULT_ORDER: Final = "participant_identity"

# Pages kept of a room: callers ask for the same few again and again.
_PAGES: Final = 32


@dataclass(frozen=True, slots=True)
class RoomView:
    """A room as it is known at one moment."""

    model: RoomModel
    freshness: track_pb2.Freshness


class _Pages:
    """Pages of one live room, serialised but for their freshness, by what was asked for; all of one version."""

    def __init__(self) -> None:
        self._version = -1
        self._pages: dict[tuple[str, str, int, str], bytes] = {}

    def of(self, version: int) -> dict[tuple[str, str, int, str], bytes]:
        """The pages of that version, to read and to add to."""
        if version != self._version or len(self._pages) > _PAGES:
            self._version = version
            self._pages.clear()
        return self._pages


class Reader:
    """Answers GetTrack and ListTracks."""

    def __init__(self, rooms: Rooms, api: LiveKitApi) -> None:
        self._rooms = rooms
        self._api = api
        self._pages: WeakKeyDictionary[LiveRoom, _Pages] = WeakKeyDictionary()

    async def view(self, name: str) -> RoomView:
        """The room now. Raises RoomNotFound, LiveKitUnavailable."""
        live = self._rooms.find(name)
        if live is not None:
            return RoomView(live.model, live.freshness())
        room = (await self._api.find_rooms([name])).get(name)
        if room is None:
            raise RoomNotFound(f"room {name!r} does not exist", field="room")
        model = await look(self._api, name, room.sid)
        source = track_pb2.FRESHNESS_SOURCE_LIVEKIT_API
        return RoomView(model, track_pb2.Freshness(source=source, as_of_time=now()))

    async def participant(self, name: str, identity: str) -> track_pb2.Participant | None:
        """The participant of that identity, None where it is not in the room. Raises LiveKitUnavailable."""
        live = self._rooms.find(name)
        known = live.model.participants.get(identity) if live is not None else None
        if known is not None:
            return known
        # Who joined a moment ago, or is hidden, is told by the API alone.
        info = await self._api.find_participant(name, identity)
        return convert.participant(info) if info is not None else None

    async def get_track(self, request: tracks_pb2.GetTrackRequest) -> tracks_pb2.GetTrackResponse:
        """One track. Raises RoomNotFound, TrackNotFound."""
        view = await self.view(request.room)
        track = find_track(view.model.tracks, request.track_sid, "track_sid")
        return tracks_pb2.GetTrackResponse(track=track, freshness=view.freshness)

    async def list_tracks(self, request: tracks_pb2.ListTracksRequest) -> bytes:
        """A page of tracks, a serialised ListTracksResponse. A page of a watched room is made once a version of it.

        Raises RoomNotFound, InvalidExpression, InvalidPageToken, InvalidField.
        """
        live = self._rooms.find(request.room)
        if live is None:
            select = _Selection(request)
            view = await self.view(request.room)
            # Serialised messages, one after the other, are one message.
            end = tracks_pb2.ListTracksResponse(freshness=view.freshness)
            return select.page(view.model) + end.SerializeToString()
        kept = self._pages.get(live)
        if kept is None:
            kept = self._pages[live] = _Pages()
        pages = kept.of(live.version)
        query = (request.filter, request.order_by, request.page_size, request.page_token)
        page = pages.get(query)
        if page is None:
            page = pages[query] = _Selection(request).page(live.model)
        end = tracks_pb2.ListTracksResponse()
        live.tell_freshness(end.freshness)
        return page + end.SerializeToString()


class _Selection:
    """What a request asks for. Raises InvalidExpression, InvalidField."""

    def __init__(self, request: tracks_pb2.ListTracksRequest) -> None:
        self._request = request
        self._matches = compile_filter(request.filter, "track")
        self._names, self._order = parse_order(request.order_by)

    def page(self, model: RoomModel) -> bytes:
        """The page, serialised, without freshness. Raises InvalidPageToken."""
        request, matches = self._request, in_time(self._matches)
        tracks, token = page_of(
            (track for track in model.tracks.values() if matches(track)),
            self._position,
            size=request.page_size,
            token=request.page_token,
            query=("tracks", request.room, request.filter, request.order_by),
            order=self._order,
        )
        return tracks_pb2.ListTracksResponse(tracks=tracks, next_page_token=token).SerializeToString()

    def _position(self, track: track_pb2.Track) -> Position:
        return tuple(getattr(track, name) for name in self._names)


async def look(api: LiveKitApi, name: str, sid: str = "") -> RoomModel:
    """The room as LiveKit's API shows it now. Raises LiveKitUnavailable.

    The API knows who joins at once; signalling tells the others 2 to 3 s later, where the newcomer does not publish.
    """
    model = RoomModel(name)
    model.replace(sid, await api.list_participants(name), now())
    return model


@dataclass(frozen=True, slots=True)
class Roster:
    """Everybody in a room by identity, this service's watchers too; ``hidden``: those that are not to be shown."""

    participants: Mapping[str, track_pb2.Participant]
    hidden: frozenset[str]


async def roster(api: LiveKitApi, name: str) -> Roster:
    """Who LiveKit's API says is in the room. Raises LiveKitUnavailable."""
    infos = [info for info in await api.list_participants(name) if info.state != models.ParticipantInfo.DISCONNECTED]
    return Roster(
        {info.identity: convert.participant(info) for info in infos},
        frozenset(info.identity for info in infos if info.permission.hidden),
    )


def encrypted(track: track_pb2.Track) -> bool:
    """Whether it is end-to-end encrypted."""
    return track.encryption not in (track_pb2.ENCRYPTION_UNSPECIFIED, track_pb2.ENCRYPTION_NONE)


def find_track(tracks: Mapping[str, track_pb2.Track], sid: str, field: str) -> track_pb2.Track:
    """The track of that SID. Raises TrackNotFound with ``field``."""
    track = tracks.get(sid)
    if track is None:
        raise TrackNotFound(f"no track {sid!r} in the room", field=field)
    return track


async def track_of(api: LiveKitApi, live: LiveRoom, sid: str, field: str) -> track_pb2.Track:
    """The track of that SID, also one that was published a moment ago, of which LiveKit's API alone tells yet.

    Raises TrackNotFound with ``field``, LiveKitUnavailable.
    """
    known = live.model.tracks
    return find_track(known if sid in known else (await look(api, live.name)).tracks, sid, field)


def parse_order(order_by: str) -> tuple[list[str], Order]:
    """The fields to order by, the SID as the last, and which of them descend. Raises InvalidField."""
    names: list[str] = []
    descending: set[int] = set()
    for part in (order_by or _DEFAULT_ORDER).split(","):
        name, _, direction = part.strip().partition(" ")
        if name not in _FIELDS or direction.strip() not in ("", "asc", "desc") or name in names:
            raise InvalidField(
                f"order_by takes each of {', '.join(_FIELDS)} once at most, with ` desc` or not; not {part.strip()!r}",
                field="order_by",
            )
        if direction.strip() == "desc":
            descending.add(len(names))
        names.append(name)
    return names if "sid" in names else [*names, "sid"], Order(frozenset(descending))
