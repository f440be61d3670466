"""The states of subscribers, as their clients report them: in memory, each for one connection of its participant."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from google.protobuf import timestamp_pb2

from track.control.v1.control_pb2 import ReceivedVideo
from track.v1 import event_pb2
from track.v1.subscription_pb2 import SubscriberState, TrackViewport
from track_server.lifetime import Closing
from track_server.rooms.room import now
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing

MEASURED_S: Final = 15.0
"""How long a downlink estimate and a load are good for (see SubscriberState)."""

Listener = Callable[[str, str], None]

_OWNER: Final = "subscriber states"
_NOTHING: Final[Mapping[str, ReceivedVideo]] = {}


class _Known:
    """What is known of one connection."""

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.state = SubscriberState()
        """Without viewports, and what is measured."""
        self.viewports: dict[str, TrackViewport] = {}
        self.downlink_bps: int | None = None
        self.downlink_until = 0.0
        self.cpu_load: float | None = None
        self.cpu_until = 0.0
        self.reported_at: timestamp_pb2.Timestamp | None = None
        self.received: Mapping[str, ReceivedVideo] = _NOTHING
        self.companion: bool | None = None
        self.called_until = 0.0
        """Until then somebody who called for it wants it to count."""
        self.expiry: asyncio.TimerHandle | None = None

    def merge(self, state: SubscriberState, at: float) -> None:
        """Takes what is given; the rest stays."""
        if state.receive_codecs:
            self.state.receive_codecs[:] = [codec.lower() for codec in state.receive_codecs]
        if state.HasField("max_decode_width"):
            self.state.max_decode_width = state.max_decode_width
            self.state.max_decode_height = state.max_decode_height
        for viewport in state.viewports:
            kept = self.viewports[viewport.track_sid] = TrackViewport()
            kept.CopyFrom(viewport)
        if state.HasField("downlink_bps"):
            self.downlink_bps, self.downlink_until = state.downlink_bps, at + MEASURED_S
        if state.HasField("cpu_load"):
            self.cpu_load, self.cpu_until = state.cpu_load, at + MEASURED_S
        self.reported_at = now()

    def call(self, state: SubscriberState, at: float) -> None:
        """What is reported came by a call: it is to count for as long as it is good."""
        lasting = state.receive_codecs or state.viewports or state.HasField("max_decode_width")
        measured = state.HasField("downlink_bps") or state.HasField("cpu_load")
        until = math.inf if lasting else at + MEASURED_S if measured else 0.0
        self.called_until = max(self.called_until, until)

    @property
    def counts(self) -> bool:
        """Whether anything is known that came by a call."""
        measured = self.downlink_bps is not None or self.cpu_load is not None
        return self.called_until > 0 and (measured or bool(self.viewports) or self.state.ByteSize() > 0)

    def expire(self, at: float) -> bool:
        """Forgets what was measured too long ago; says whether there was something."""
        expired = False
        if self.downlink_bps is not None and self.downlink_until <= at:
            self.downlink_bps, expired = None, True
        if self.cpu_load is not None and self.cpu_until <= at:
            self.cpu_load, expired = None, True
        if 0 < self.called_until <= at:
            self.called_until, expired = 0.0, True
        return expired

    def due(self) -> float | None:
        """When something expires next."""
        measured = ((self.downlink_bps, self.downlink_until), (self.cpu_load, self.cpu_until))
        dues = [until for value, until in measured if value is not None]
        if 0 < self.called_until < math.inf:
            dues.append(self.called_until)
        return min(dues, default=None)

    def whole(self, at: float) -> SubscriberState:
        """All of it that has not expired."""
        whole = SubscriberState(viewports=self.viewports.values())
        whole.MergeFrom(self.state)
        if self.downlink_bps is not None and self.downlink_until > at:
            whole.downlink_bps = self.downlink_bps
        if self.cpu_load is not None and self.cpu_until > at:
            whole.cpu_load = self.cpu_load
        return whole


class SubscriberStates(Closing):
    """Owner of the states, `async with`. Its methods never wait.

    A state is of one connection (participant SID) and ends with it; viewports end with their track. Rooms of which
    something is known are kept watched, so that its end is seen. To be told of LiveKit's changes (``happened``) and of
    rooms that are gone (``gone``).
    """

    def __init__(self, rooms: Rooms, standing: Standing) -> None:
        self._rooms = rooms
        self._standing = standing
        self._known: dict[str, dict[str, _Known]] = {}
        self._listeners: list[Listener] = []

    async def aclose(self) -> None:
        """Forgets everything. May be called twice."""
        for room in list(self._known):
            self.gone(room)

    def of(self, room: str, identity: str) -> SubscriberState | None:
        """All that is known of the participant's connection now, without what has expired; None where nothing was
        reported. A copy."""
        known = self._current(room, identity)
        if known is None or known.reported_at is None:
            return None
        # It is forgotten by the timer, which tells of it.
        return known.whole(asyncio.get_running_loop().time())

    def received(self, room: str, identity: str) -> Mapping[str, ReceivedVideo]:
        """What its companion told last that it receives, by track SID; empty where it told nothing."""
        known = self._current(room, identity)
        return known.received if known is not None else _NOTHING

    def paused(self, room: str, identity: str, track_sid: str) -> bool:
        """Whether its livekit-client has told that adaptiveStream pauses the track."""
        known = self._current(room, identity)
        shown = known.viewports.get(track_sid) if known is not None else None
        return shown is not None and shown.HasField("adaptive_width") and shown.adaptive_width == 0

    def concerns(self, room: str) -> bool:
        """Whether anything is known in the room that came by a call, so that it is to count."""
        return any(known.counts for known in self._known.get(room, {}).values())

    def reported_at(self, room: str, identity: str) -> timestamp_pb2.Timestamp | None:
        """When something was reported last; None where nothing was."""
        known = self._current(room, identity)
        return known.reported_at if known is not None else None

    def has_companion(self, room: str, identity: str) -> bool | None:
        """Whether its client has a companion; None where that is not known (yet)."""
        known = self._current(room, identity)
        return known.companion if known is not None else None

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of every change, with room and identity: a report that says something new, what expired,
        what is received, and whether there is a companion. It must neither wait nor raise."""
        self._listeners.append(listener)

    # What is told to it.

    def report(
        self,
        room: str,
        identity: str,
        sid: str,
        state: SubscriberState | None,
        received: Iterable[ReceivedVideo] = (),
        *,
        called: bool = False,
    ) -> SubscriberState:
        """Takes a report about that connection, which is merged with what is known, and gives all that is known.

        ``state`` None: nothing was said of it. ``called``: it came by a call, and not from a companion that was asked.
        """
        known = self._connection(room, identity, sid)
        at = asyncio.get_running_loop().time()
        expired = known.expire(at)
        before, shown, counted = known.whole(at), _shown(known.received), known.counts
        if state is not None:
            known.merge(state, at)
            if called:
                known.call(state, at)
        known.received = {**known.received, **{video.track_sid: video for video in received}}
        whole = known.whole(at)
        self._await_expiry(room, identity, known)
        if expired or (before, shown, counted) != (whole, _shown(known.received), known.counts):
            self._tell(room, identity)
        return whole

    def answered(self, room: str, identity: str, sid: str, *, companion: bool) -> None:
        """Whether there is a companion in that connection's client."""
        known = self._connection(room, identity, sid)
        if known.companion is not companion:
            known.companion = companion
            self._tell(room, identity)

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """LiveKit's changes: connections and tracks that end take with them what is known of them."""
        connections = self._known.get(room)
        if not connections:
            return
        match event.WhichOneof("change"):
            case "participant_left":
                # Its next connection may be known already, of a report through the API.
                known = connections.get(event.participant_left.identity)
                if known is not None and known.sid == event.participant_left.sid:
                    self._forget(room, event.participant_left.identity)
            case "participant_joined":
                known = connections.get(event.participant_joined.identity)
                if known is not None and known.sid != event.participant_joined.sid:
                    self._forget(room, event.participant_joined.identity)
            case "track_unpublished":
                sid = event.track_unpublished.sid
                for identity, known in connections.items():
                    shown = known.viewports.pop(sid, None)
                    known.received = {each: video for each, video in known.received.items() if each != sid}
                    if shown is not None:
                        self._tell(room, identity)
            case _:
                pass

    def unattended(self, room: str) -> None:
        """Nobody asks for companions in the room any more: what they told is not kept up to date."""
        for identity, known in list(self._known.get(room, {}).items()):
            if known.companion or known.reported_at is None:
                self._forget(room, identity)
                self._tell(room, identity)
            known.companion = None

    def gone(self, room: str) -> None:
        """The room is no more."""
        for identity in list(self._known.get(room, ())):
            self._forget(room, identity)
            self._tell(room, identity)

    def _current(self, room: str, identity: str) -> _Known | None:
        """Of the connection that the participant has now, as far as the room is followed."""
        known = self._known.get(room, {}).get(identity)
        live = self._rooms.followed(room) if known is not None else None
        if known is None or live is None:
            return None
        participant = live.model.participants.get(identity)
        # One that has joined a moment ago is told of later.
        return known if participant is None or participant.sid == known.sid else None

    def _connection(self, room: str, identity: str, sid: str) -> _Known:
        if room not in self._known:
            self._known[room] = {}
            self._standing.want(_OWNER, room)
        connections = self._known[room]
        known = connections.get(identity)
        if known is None or known.sid != sid:
            if known is not None:
                self._stop(known)
            known = connections[identity] = _Known(sid)
        return known

    def _forget(self, room: str, identity: str) -> None:
        known = self._known[room].pop(identity, None)
        if known is not None:
            self._stop(known)
        if not self._known[room]:
            del self._known[room]
            self._standing.release(_OWNER, room)

    def _await_expiry(self, room: str, identity: str, known: _Known) -> None:
        self._stop(known)
        due = known.due()
        if due is not None:
            known.expiry = asyncio.get_running_loop().call_at(due, self._expired, room, identity, known)

    def _expired(self, room: str, identity: str, known: _Known) -> None:
        known.expiry = None
        if known.expire(asyncio.get_running_loop().time()):
            self._tell(room, identity)
        self._await_expiry(room, identity, known)

    def _stop(self, known: _Known) -> None:
        if known.expiry is not None:
            known.expiry.cancel()
            known.expiry = None

    def _tell(self, room: str, identity: str) -> None:
        for listener in self._listeners:
            listener(room, identity)


def _shown(received: Mapping[str, ReceivedVideo]) -> dict[str, tuple[bool, int, int]]:
    """What of it is worth telling: rates are never twice the same."""
    return {sid: (video.subscribed, video.width, video.height) for sid, video in received.items()}
