"""What LiveKit's webhooks say is never taken for true: they may be lost, doubled and late. They say where to look."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from livekit.protocol import models, webhook

from track_server.errors import TrackError
from track_server.lifetime import Closing, Tasks
from track_server.livekit.api import LiveKitApi
from track_server.rooms.model import visible
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing

log = structlog.get_logger(__name__)

# Ids of webhooks that came, to know those that come again.
_KNOWN: Final = 10_000
# How long updates of the signalling may come later than a webhook, which takes another way.
_GRACE_S: Final = 3.0
_ENDS: Final = {"room_finished", "participant_left", "participant_connection_aborted", "track_unpublished"}


@dataclass(frozen=True, slots=True)
class Hint:
    """Something may have happened: names to look it up by, empty where the webhook has none."""

    event: str
    """In LiveKit's words: `room_started`, `track_published`, `egress_updated` and the like."""
    room: str = ""
    room_sid: str = ""
    participant_identity: str = ""
    participant_sid: str = ""
    track_sid: str = ""
    egress_id: str = ""
    ingress_id: str = ""


def hint_of(event: webhook.WebhookEvent) -> Hint:
    """The names in a webhook."""
    return Hint(
        event=event.event,
        room=event.room.name or event.egress_info.room_name or event.ingress_info.room_name,
        room_sid=event.room.sid or event.egress_info.room_id,
        participant_identity=event.participant.identity,
        participant_sid=event.participant.sid,
        track_sid=event.track.sid,
        egress_id=event.egress_info.egress_id,
        ingress_id=event.ingress_info.ingress_id,
    )


class Hints(Closing):
    """Takes webhooks, and looks where they point to; `async with`.

    A room that is wanted and not watched is looked for. A watched room that does not show what the webhook tells of is
    given a moment, for LiveKit sends webhooks and updates by different ways; then LiveKit's API is asked, and where
    that does not show the same room either, it is connected to anew. No webhook changes anything by itself.
    """

    def __init__(self, rooms: Rooms, standing: Standing, api: LiveKitApi, *, grace_s: float = _GRACE_S) -> None:
        self._rooms = rooms
        self._standing = standing
        self._api = api
        self._grace_s = grace_s
        self._known: OrderedDict[str, None] = OrderedDict()
        self._doubted: set[str] = set()
        self._listeners: list[Callable[[Hint], None]] = []
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Looks no more. May be called twice."""
        await self._tasks.aclose()

    def listen(self, listener: Callable[[Hint], None]) -> None:
        """Tells ``listener`` of every hint, once. It must neither wait nor raise, nor believe what it is told."""
        self._listeners.append(listener)

    def take(self, event: webhook.WebhookEvent) -> bool:
        """Takes a webhook that LiveKit has signed; says whether it is new. Returns at once, and never raises."""
        if event.id:
            if event.id in self._known:
                self._known.move_to_end(event.id)
                return False
            self._known[event.id] = None
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        hint = hint_of(event)
        if hint.room:
            self._look(hint, hidden=event.participant.permission.hidden)
        for listener in self._listeners:
            listener(hint)
        return True

    def _look(self, hint: Hint, *, hidden: bool) -> None:
        live = self._rooms.followed(hint.room)
        if live is None:
            if hint.event not in _ENDS:
                self._standing.hint(hint.room)
        elif not hidden and _disagrees(hint, live):
            live.glance.wish()
            if live.name not in self._doubted:
                self._doubted.add(live.name)
                self._tasks.spawn(self._settle(hint, live), name=f"look again at {live.name}")

    async def _settle(self, hint: Hint, live: LiveRoom) -> None:
        """Looks whether the room has come to show the hint, or LiveKit's API does not show it either."""
        try:
            await live.until(lambda: live.closed or not _disagrees(hint, live), self._grace_s)
            if live.closed or not _disagrees(hint, live):
                return
            before = live.version
            infos = await self._api.list_participants(live.name)
            shown = live.model.tracks.keys() | {participant.sid for participant in live.model.participants.values()}
            if live.version == before and shown != _sids(infos):
                log.warning("room_differs", room=live.name, webhook=hint.event)
                live.glance.wish(anew=True)
        except TrackError as error:
            log.info("room_not_looked_at", room=live.name, reason=error.message)
        finally:
            self._doubted.discard(live.name)


def _sids(infos: Iterable[models.ParticipantInfo]) -> set[str]:
    """SIDs of the participants and tracks that a room shows."""
    shown = [info for info in infos if visible(info)]
    tracks = {track.sid for info in shown for track in info.tracks}
    data = {track.sid for info in shown for track in info.data_tracks}
    return tracks | data | {info.sid for info in shown}


def _disagrees(hint: Hint, live: LiveRoom) -> bool:
    """Whether the model does not show what the hint says: then one of them is late, or wrong."""
    if hint.room_sid and live.model.sid and hint.room_sid != live.model.sid:
        # Of another life of the room: only one that begins is news.
        return hint.event == "room_started"
    participants = {participant.sid for participant in live.model.participants.values()}
    match hint.event:
        case "participant_joined":
            return hint.participant_sid not in participants
        case "participant_left" | "participant_connection_aborted":
            return hint.participant_sid in participants
        case "track_published":
            return hint.track_sid not in live.model.tracks
        case "track_unpublished":
            return hint.track_sid in live.model.tracks
        case "room_finished":
            return not live.closed
        case _:
            return False
