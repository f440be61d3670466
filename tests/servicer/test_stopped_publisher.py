"""A publisher that hangs tells nothing: that LiveKit has nothing to hand on does."""

import asyncio

import pytest

from tests.guest import guest
from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.servicer.measured import UP, measured, reported
from tests.track_process import Client
from track.v1 import track_pb2, tracks_pb2
from track.v1.quality_alert_pb2 import QUALITY_ALERT_KIND_STALLED, QUALITY_FAULT_PUBLISHER_UPLINK
from track.v1.quality_pb2 import QUALITY_SOURCE_DEBUG_VIEW, TrackQualityReport

DEADLINE_S = 45.0


async def sound_of(client: Client, room: str, identity: str) -> track_pb2.Track:
    """The track that the participant publishes."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            for track in answer.tracks:
                if track.participant_identity == identity:
                    return track
            await asyncio.sleep(0.1)


def stalled(report: TrackQualityReport) -> bool:
    return any(alert.kind == QUALITY_ALERT_KIND_STALLED and alert.hop == UP for alert in report.alerts)


@pytest.mark.deadline(120)
async def test_a_participant_that_hangs_is_seen_to_have_stalled(
    admin: Client, room: str, livekit: LiveKitProcess
) -> None:
    async with guest(livekit, room, "bob") as bob, participant(livekit, room, "alice"):
        track = await sound_of(admin, room, "bob")
        found = await measured(admin, room, track.sid, lambda found: found.HasField("stalled_s"))
        assert found.stalled_s.source == QUALITY_SOURCE_DEBUG_VIEW
        assert not found.HasField("bitrate_bps")
        # LiveKit gives it up after 18 s.
        bob.stop()
        try:
            report = await reported(admin, room, track.sid, stalled)
        finally:
            bob.go_on()
        (alert,) = [alert for alert in report.alerts if alert.kind == QUALITY_ALERT_KIND_STALLED]
        assert (alert.participant_identity, alert.fault) == ("bob", QUALITY_FAULT_PUBLISHER_UPLINK)
        await reported(admin, room, track.sid, lambda report: report.measurements and not stalled(report))
