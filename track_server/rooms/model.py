"""The model of a room: LiveKit's updates in, the room and the list of events out. No I/O, no clock of its own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.protobuf import struct_pb2, timestamp_pb2
from livekit.protocol import models, rtc

from track.v1 import event_pb2, quality_pb2, track_pb2
from track_server.rooms import convert


@dataclass(frozen=True, slots=True)
class Binding:
    """What this service knows of a track beyond LiveKit: the publication behind it."""

    publication_id: str


Describe = Callable[[track_pb2.Track], struct_pb2.Struct | None]
"""Metadata of a track, whose publication is filled in; None where it has none. It must neither wait nor raise."""


def undescribed(track: track_pb2.Track) -> struct_pb2.Struct | None:
    """No track has metadata."""
    return None


class RoomModel:
    """All of one room as LiveKit told it last.

    The messages in ``participants`` (by identity), ``tracks`` (by SID) and ``qualities`` (by identity) are never
    changed in place: a change puts a new message there, so that readers may keep them. ``version`` grows with every
    change. Hidden participants are left out. ``describe``: the one way in which metadata reaches a track.
    """

    def __init__(self, name: str, describe: Describe = undescribed) -> None:
        self.name = name
        self._describe = describe
        self.sid = ""
        self.state: event_pb2.RoomState | None = None
        """The room itself; None before LiveKit told of it."""
        self.version = 0
        self.participants: dict[str, track_pb2.Participant] = {}
        self.tracks: dict[str, track_pb2.Track] = {}
        self.qualities: dict[str, event_pb2.ParticipantQuality] = {}
        self.connected: set[str] = set()
        """SIDs of the participants whose connection is up. LiveKit subscribes them to what there is at that moment."""
        self._sids: dict[str, set[str]] = {}
        """Track SIDs by publisher."""
        self._encoded: dict[str, bytes] = {}
        """LiveKit's own message of each track, as it came last."""
        self._identities: dict[str, str] = {}
        """Identities by participant SID."""
        self._versions: dict[str, int] = {}
        """LiveKit's version of a participant's info, by participant SID: an older one is out of date."""
        self._bindings: dict[str, Binding] = {}

    def replace(
        self, sid: str, infos: Iterable[models.ParticipantInfo], now: timestamp_pb2.Timestamp
    ) -> list[event_pb2.RoomEvent]:
        """Takes the whole room as it is now; the events tell the difference to what was known."""
        if sid and sid != self.sid:
            self.sid = sid
            self.version += 1
        present = [info for info in infos if visible(info)]
        identities = {info.identity for info in present}
        events: list[event_pb2.RoomEvent] = []
        for identity in [identity for identity in self.participants if identity not in identities]:
            events += self._leave(identity, now)
        for info in present:
            self._versions.pop(info.sid, None)  # the whole truth counts whatever its version says
            events += self._take(info, now)
        return events

    def update(
        self, infos: Iterable[models.ParticipantInfo], now: timestamp_pb2.Timestamp
    ) -> list[event_pb2.RoomEvent]:
        """Takes what changed of some participants."""
        events: list[event_pb2.RoomEvent] = []
        for info in infos:
            if info.state == models.ParticipantInfo.DISCONNECTED:
                known = self.participants.get(info.identity)
                if known is not None and known.sid == info.sid:
                    events += self._leave(info.identity, now, convert.disconnect_reason(info))
            elif visible(info):
                events += self._take(info, now)
        return events

    def settle(self, room: models.Room, now: timestamp_pb2.Timestamp) -> list[event_pb2.RoomEvent]:
        """Takes what the room itself is; an event where it was known and is another now."""
        before = self.state
        self.state = convert.room_state(room)
        if before == self.state:
            return []
        self.version += 1
        return [event_pb2.RoomEvent(time=now, room_updated=self.state)] if before is not None else []

    def rate(
        self, updates: Iterable[rtc.ConnectionQualityInfo], now: timestamp_pb2.Timestamp
    ) -> list[event_pb2.RoomEvent]:
        """Takes LiveKit's quality of some participants; an event where the level changed."""
        events = []
        for update in updates:
            identity = self._identities.get(update.participant_sid)
            if identity is None:
                continue
            rated = event_pb2.ParticipantQuality(
                participant_identity=identity,
                connection_quality=convert.CONNECTION_QUALITIES.get(
                    update.quality, quality_pb2.CONNECTION_QUALITY_UNSPECIFIED
                ),
                score=update.score or None,
                measure_time=now,
            )
            before = self.qualities.get(identity)
            self.qualities[identity] = rated
            self.version += 1
            if before is None or before.connection_quality != rated.connection_quality:
                events.append(event_pb2.RoomEvent(time=now, quality_changed=rated))
        return events

    def bind(self, sid: str, binding: Binding | None, now: timestamp_pb2.Timestamp) -> list[event_pb2.RoomEvent]:
        """Says which publication is behind a track, which may appear later; None forgets it."""
        if binding is None:
            self._bindings.pop(sid, None)
            return []
        self._bindings[sid] = binding
        return self.describe([sid], now)

    def describe(self, sids: Iterable[str], now: timestamp_pb2.Timestamp) -> list[event_pb2.RoomEvent]:
        """Looks again at what this service knows of those tracks; an event for each that is another one now."""
        events: list[event_pb2.RoomEvent] = []
        for sid in sids:
            events += self._complete_anew(sid, now)
        return events

    def _complete_anew(self, sid: str, now: timestamp_pb2.Timestamp) -> list[event_pb2.RoomEvent]:
        track = self.tracks.get(sid)
        if track is None:
            return []
        bound = track_pb2.Track()
        bound.CopyFrom(track)
        self._complete(bound)
        if bound == track:
            return []
        self.tracks[sid] = bound
        self.version += 1
        return [event_pb2.RoomEvent(time=now, track_updated=bound)]

    def identity_of(self, participant_sid: str) -> str | None:
        """Who that is; None where it is not in the room, or hidden."""
        return self._identities.get(participant_sid)

    def tracks_of(self, identity: str) -> list[track_pb2.Track]:
        """The tracks of that participant, by SID."""
        return [self.tracks[sid] for sid in sorted(self._sids.get(identity, ()))]

    def _take(self, info: models.ParticipantInfo, now: timestamp_pb2.Timestamp) -> list[event_pb2.RoomEvent]:
        if info.version and info.version < self._versions.get(info.sid, 0):
            return []
        self._versions[info.sid] = info.version
        events: list[event_pb2.RoomEvent] = []
        before = self.participants.get(info.identity)
        if before is not None and before.sid != info.sid:
            # The same identity came back with a new session before LiveKit told that the old one left.
            events += self._leave(info.identity, now)
            before = None
        after = convert.participant(info)
        if before is None:
            self._identities[info.sid] = info.identity
            events.append(event_pb2.RoomEvent(time=now, participant_joined=after))
        elif before != after:
            events.append(event_pb2.RoomEvent(time=now, participant_updated=after))
        self.participants[info.identity] = after
        if info.state == models.ParticipantInfo.ACTIVE:
            self.connected.add(info.sid)
        events += self._take_tracks(info, now)
        self.version += len(events)
        return events

    def _take_tracks(self, info: models.ParticipantInfo, now: timestamp_pb2.Timestamp) -> list[event_pb2.RoomEvent]:
        fresh = convert.infos(info)
        events = [
            event_pb2.RoomEvent(time=now, track_unpublished=self._forget(sid))
            for sid in sorted(self._sids.get(info.identity, set()) - fresh.keys())
        ]
        for sid, found in fresh.items():
            # Every update of a participant brings all its tracks, of which most are as before.
            encoded = found.SerializeToString()
            if self._encoded.get(sid) == encoded:
                continue
            self._encoded[sid] = encoded
            track = convert.track(self.name, info, found)
            self._complete(track)
            before = self.tracks.get(sid)
            if before == track:
                continue
            self.tracks[sid] = track
            self._sids.setdefault(info.identity, set()).add(sid)
            events += _track_events(before, track, now)
        return events

    def _leave(self, identity: str, now: timestamp_pb2.Timestamp, reason: str = "") -> list[event_pb2.RoomEvent]:
        events = [
            event_pb2.RoomEvent(time=now, track_unpublished=self._forget(sid))
            for sid in sorted(self._sids.get(identity, ()))
        ]
        self._sids.pop(identity, None)
        gone = track_pb2.Participant()
        gone.CopyFrom(self.participants.pop(identity))
        gone.disconnect_reason = reason
        self.qualities.pop(identity, None)
        self._identities.pop(gone.sid, None)
        self.connected.discard(gone.sid)
        self._versions.pop(gone.sid, None)
        self.version += 1
        return [*events, event_pb2.RoomEvent(time=now, participant_left=gone)]

    def _forget(self, sid: str) -> track_pb2.Track:
        track = self.tracks.pop(sid)
        self._encoded.pop(sid, None)
        self._sids[track.participant_identity].discard(sid)
        self._bindings.pop(sid, None)
        return track

    def _complete(self, track: track_pb2.Track) -> None:
        binding = self._bindings.get(track.sid)
        if binding is not None:
            track.publication_id = binding.publication_id
        metadata = self._describe(track)
        track.ClearField("metadata")
        if metadata is not None:
            track.metadata.CopyFrom(metadata)


def visible(info: models.ParticipantInfo) -> bool:
    """Whether it is one of those that the model has."""
    return not info.permission.hidden and info.state != models.ParticipantInfo.DISCONNECTED


def _track_events(
    before: track_pb2.Track | None, after: track_pb2.Track, now: timestamp_pb2.Timestamp
) -> list[event_pb2.RoomEvent]:
    if before is None:
        return [event_pb2.RoomEvent(time=now, track_published=after)]
    events = []
    if before.muted != after.muted:
        change = event_pb2.RoomEvent(time=now)
        (change.track_muted if after.muted else change.track_unmuted).CopyFrom(after)
        events.append(change)
    same_but_mute = track_pb2.Track()
    same_but_mute.CopyFrom(before)
    same_but_mute.muted = after.muted
    if same_but_mute != after:
        events.append(event_pb2.RoomEvent(time=now, track_updated=after))
    return events
