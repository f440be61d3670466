"""The tracks of a session: kept as they are desired, and told to whom they are open."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

from livekit import rtc

from track.media.v1.media_service_pb2 import (
    HOSTED_TRACK_STATE_UNPUBLISHED,
    HOSTED_TRACK_STATE_UNSPECIFIED,
    DesiredTrack,
    HostedTrackReport,
    SessionDesired,
)
from track.v1.track_pb2 import TrackType
from track_server.media.audience import AudienceTeller
from track_server.media.carriers import Carrier, DataCarrier, MediaCarrier
from track_server.media.far_end import FarEnd
from track_server.media.feeder import SharedFeeder
from track_server.media.feeders import create_feeder
from track_server.media.hosted import HostedTrack
from track_server.media.inputs.timeline import Timelines
from track_server.media.messages import MessageCarrier, are_messages
from track_server.media.options import may_publish, track_type
from track_server.media.pushed_data import PushedDataCarrier, PushedMessageCarrier
from track_server.media.pushing import create_pushed
from track_server.media.succession import Succession
from track_server.media.wire import Setup


class Tracks:
    """Owner of the session's tracks. `report` is told of every change; `closing` runs what takes tracks away."""

    def __init__(
        self,
        setup: Setup,
        room: rtc.Room,
        joined: "asyncio.Future[rtc.Room]",
        report: Callable[[HostedTrackReport], None],
        told: Callable[[int], None],
        closing: Callable[[Coroutine[None, None, None]], None],
        far_end: FarEnd,
    ) -> None:
        """`told`: see AudienceTeller. `far_end`: the room, as far as the session hears it."""
        self._url_hosts = setup.url_hosts
        self._media_dir = Path(setup.media_dir) if setup.media_dir else None
        self._timelines = Timelines()
        self._far_end = far_end
        self._room = room
        self._joined = joined
        self._report = report
        self._closing = closing
        self._tracks: dict[str, Succession] = {}
        self.audience = AudienceTeller(joined, self._sids, told)

    def want(self, desired: SessionDesired) -> None:
        """Takes over what is desired."""
        for key in self._tracks.keys() - {track.publication_id for track in desired.tracks}:
            self._closing(self._take_away(key, self._tracks.pop(key)))
        self.audience.want(desired)
        for track in desired.tracks:
            if track.publication_id in self._tracks:
                self._tracks[track.publication_id].want(track)
            else:
                self._tracks[track.publication_id] = Succession(track, self._begin, self._closing, self._changed)

    def close(self) -> None:
        """Has everything taken away. May be called twice."""
        for track in self._tracks.values():
            self._closing(track.aclose())

    def reports(self) -> list[HostedTrackReport]:
        """What there is to say of each that has come so far."""
        reports = [track.report() for track in self._tracks.values()]
        return [report for report in reports if report.state != HOSTED_TRACK_STATE_UNSPECIFIED]

    def carriers(self) -> dict[str, Carrier]:
        """What carries each publication, or will once it has taken over."""
        return {key: carriers[-1] for key, track in self._tracks.items() if (carriers := track.carriers())}

    # The connection to LiveKit.

    def connection_lost(self) -> None:
        """Restricted tracks are taken away, and come back once LiveKit was told: on a new connection the SDK publishes
        again first, and says afterwards who may subscribe."""
        self.audience.connection_lost()
        for key, track in self._tracks.items():
            if self.audience.restricts(key) and not track.over:
                track.again()

    def connected_anew(self) -> None:
        """Everything was published again, but the SDK does not tell the new SIDs of data tracks: once more."""
        for key, track in self._tracks.items():
            data = track_type(track.desired.spec) == TrackType.TRACK_TYPE_DATA
            if track.carriers() and data and not self.audience.restricts(key):
                track.again()

    def republished(self, track_sid: str) -> bool:
        """The SDK has published one again, under that SID; says whether it is wanted."""
        for track in self._tracks.values():
            if track_sid in [carrier.sid for carrier in track.carriers()]:
                self._changed(track)
                return True
        return False

    def permissions_changed(self, participant: rtc.Participant) -> None:
        """Those that the participant may not publish any more are over."""
        for track in [track for kept in self._tracks.values() for track in kept.tracks()]:
            if not may_publish(track.desired.spec, participant):
                track.revoke()

    # One track.

    def _begin(
        self,
        desired: DesiredTrack,
        after: HostedTrack | None,
        beside: HostedTrack | None,
        changed: Callable[[HostedTrack], None],
    ) -> HostedTrack:
        """See Begin."""

        def create(desired: DesiredTrack) -> Carrier:
            return self._create_carrier(desired, beside.carrier if beside is not None else None)

        track = HostedTrack(desired, create, self._joined, self.audience.passage, changed, after)
        if self._joined.done() and not may_publish(desired.spec, self._room.local_participant):
            track.revoke()
        return track

    def _create_carrier(self, desired: DesiredTrack, beside: Carrier | None) -> Carrier:
        """``beside``: what may feed it too."""
        pushed = desired.spec.HasField("push")
        if are_messages(desired.spec):
            return PushedMessageCarrier(desired) if pushed else MessageCarrier(desired)
        if track_type(desired.spec) == TrackType.TRACK_TYPE_DATA:
            return PushedDataCarrier(desired) if pushed else DataCarrier(desired)
        shared = beside.share(desired.spec) if isinstance(beside, MediaCarrier) else None
        if shared is None and pushed:
            shared = SharedFeeder(create_pushed(desired.spec, desired.push, self._timelines, self._far_end))
        elif shared is None:
            shared = SharedFeeder(
                create_feeder(desired.spec, self._media_dir, self._url_hosts, self._timelines, self._far_end)
            )
        return MediaCarrier(desired, shared)

    async def _take_away(self, key: str, track: Succession) -> None:
        await track.aclose()
        self.audience.left(key)
        self._report(HostedTrackReport(publication_id=key, state=HOSTED_TRACK_STATE_UNPUBLISHED))

    def _changed(self, track: Succession) -> None:
        self._report(track.report())
        self.audience.kick()

    def _sids(self) -> list[tuple[str, str]]:
        return [(key, carrier.sid) for key, track in self._tracks.items() for carrier in track.carriers()]
