"""Mode `service`: disagreements are reported to the permission service, and metrics tell of decisions."""

import grpc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.permission_peer import PermissionPeer, denied
from tests.refusals import refusal
from tests.servicer.asking import (
    MUTE,
    SUBSCRIBE,
    alice,
    asking,
    connected,
    info,
    listing,
    metric,
    mute,
    refused_listing,
    seen,
    until,
    value,
)
from track.permission.v1 import permission_service_pb2 as permission_pb
from track.v1 import tracks_pb2


async def test_disagreements_are_reported_both_ways(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer))
    await connected(track)
    async with (
        participant(livekit, room, "bob", can_subscribe=False),
        participant(livekit, room, "carol") as carol,
        track.client("admin", room_admin=True, room=room) as admin,
    ):
        mic = await microphone(carol)
        await until(lambda: seen(admin, room, mic.sid))
        update = tracks_pb2.UpdateSubscriptionsRequest(
            room=room,
            updates=[tracks_pb2.SubscriptionUpdate(participant_identity="bob", track_sid=mic.sid, subscribe=True)],
        )
        refused = await refusal(admin.UpdateSubscriptions(update, timeout=45))
        assert refused.reason == "TARGET_PERMISSION"
        await until(lambda: peer.reports)
        (report,) = peer.reports
        assert report.issue == permission_pb.PERMISSION_ISSUE_ALLOWED_BUT_REFUSED
        assert (report.check.permission, report.check.participant_identity) == (SUBSCRIBE, "bob")
        assert report.request_id
        peer.decide = lambda question: denied("not today")
        assert (await refusal(mute(admin, room, [mic.sid]))).message == "not today"
        await until(lambda: len(peer.reports) == 2)
        assert peer.reports[1].issue == permission_pb.PERMISSION_ISSUE_DENIED_BUT_GRANTED
        assert peer.reports[1].check.permission == MUTE
        await until(lambda: metric(track, 'track_permission_reports_total{outcome="sent"}', 2))


async def test_metrics_tell_how_decisions_were_made(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer))
    await connected(track)

    async def counted(name: str) -> float:
        return await value(track, name)

    before = await counted('track_permission_checks_total{outcome="allowed"}')
    async with alice(track, room) as client, track.client("bob", room_join=True, room=room) as bob:
        for _ in range(3):
            await listing(client, room)
        peer.decide = lambda question: denied()
        await refused_listing(bob, room)
        peer.fails["CheckPermission"] = grpc.StatusCode.INTERNAL
        await refusal(info(bob))
    assert await counted('track_permission_checks_total{outcome="allowed"}') == before + 1
    assert await counted('track_permission_checks_total{outcome="denied"}') == 1
    assert await counted('track_permission_checks_total{outcome="unavailable"}') == 1
    assert await counted("track_permission_cache_hits_total") == 2
    assert await counted("track_permission_cache_entries") == 2
    assert await counted("track_permission_decision_seconds_count") == before + 3
