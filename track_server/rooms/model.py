"""The model of a room: LiveKit's updates in, the room and the list of events out. No I/O, no clock of its own."""

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf import struct_pb2, timestamp_pb2
from livekit.protocol import models, rtc

from track.v1 import event_pb2, quality_pb2, track_pb2
from track_server.rooms import convert


@dataclass(frozen=True, slots=True)
class Binding:
    """What this service knows of a track beyond LiveKit: the publication behind it and its metadata."""

    publication_id: str
    metadata: struct_pb2.Struct | None


class RoomModel:
    """All of one room as LiveKit told it last.

    The messages in ``participants`` (by identity), ``tracks`` (by SID) and ``qualities`` (by identity) are never
    changed in place: a change puts a new message there, so that readers may keep them. ``version`` grows with every
    change. Hidden participants are left out.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sid = ""
        self.version = 0
        self.participants: dict[str, track_pb2.Participant] = {}
        self.tracks: dict[str, track_pb2.Track] = {}
        self.qualities: dict[str, event_pb2.ParticipantQuality] = {}
        self._sids: dict[str, set[str]] = {}
        """Track SIDs by publisher."""
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
        present = [info for info in infos if _visible(info)]
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
            elif _visible(info):
                events += self._take(info, now)
        return events

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
        events += self._take_tracks(info, now)
        self.version += len(events)
        return events

    def _take_tracks(self, info: models.ParticipantInfo, now: timestamp_pb2.Timestamp) -> list[event_pb2.RoomEvent]:
        fresh = convert.tracks(self.name, info)
        events = [
            event_pb2.RoomEvent(time=now, track_unpublished=self._forget(sid))
            for sid in sorted(self._sids.get(info.identity, set()) - fresh.keys())
        ]
        for sid, track in fresh.items():
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
        self._versions.pop(gone.sid, None)
        self.version += 1
        return [*events, event_pb2.RoomEvent(time=now, participant_left=gone)]

    def _forget(self, sid: str) -> track_pb2.Track:
        track = self.tracks.pop(sid)
        self._sids[track.participant_identity].discard(sid)
        self._bindings.pop(sid, None)
        return track

    def _complete(self, track: track_pb2.Track) -> None:
        binding = self._bindings.get(track.sid)
        if binding is not None:
            track.publication_id = binding.publication_id
            track.ClearField("metadata")
            if binding.metadata is not None:
                track.metadata.CopyFrom(binding.metadata)


def _visible(info: models.ParticipantInfo) -> bool:
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
