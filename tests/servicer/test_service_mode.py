"""Mode `service` where the permission service is away, slow, lies, or comes back with other rules."""

from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from tests.access.service_mode.authority import Authority
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.permission_peer import Answer, PermissionPeer, allowed, denied
from tests.permission_process import PermissionProcess
from tests.refusals import refusal
from tests.servicer.asking import (
    ALL,
    DENIED,
    NO_WORKER,
    NOBODY_READS,
    UNAVAILABLE,
    alice,
    asking,
    connected,
    ends,
    info,
    listing,
    metric,
    mute,
    not_serving,
    refused_listing,
    serving,
    until,
    value,
)
from track.permission.v1 import permission_service_pb2 as permission_pb
from track.v1 import token_pb2


async def test_a_slow_service_is_no_answer_and_does_not_slow_what_is_known(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer, TRACK_PERMISSION_TIMEOUT_SECONDS="1"))
    await connected(track)
    async with alice(track, room) as client, track.client("bob", room_join=True, room=room) as bob:
        await listing(client, room)
        peer.answering.clear()
        refused = await refused_listing(bob, room)
        assert (refused.code, refused.reason) == (UNAVAILABLE, "PERMISSION_SERVICE_UNAVAILABLE")
        assert refused.retry_s
        await listing(client, room)
        peer.answering.set()
        await listing(bob, room)


LIES: Mapping[str, bytes] = {
    "nothing": b"",
    "no message": b"\xff\xff",
    "no text": b"\x08\x01\x12\x02\xff\xfe",
    "no decision": Answer(reason="hm").SerializeToString(),
    "unknown decision": b"\x08\x63",
    "negative lifetime": b"\x08\x01\x1a\x0b\x08" + b"\xff" * 9 + b"\x01",
    "absurd lifetime": b"\x08\x01\x1a\x09\x08" + b"\xff" * 7 + b"\x7f",
    "negative bound": allowed(obligations=token_pb2.PublishBounds(max_width=-1)).SerializeToString(),
    "unknown codec": allowed(obligations=token_pb2.PublishBounds(codecs=[99])).SerializeToString(),  # type: ignore[list-item]
}


async def test_a_service_that_lies_allows_nothing(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer))
    await connected(track)
    async with alice(track, room) as client:
        for number, raw in enumerate(LIES.values(), 1):
            peer.raw["CheckPermission"] = raw
            refused = await refused_listing(client, room)
            assert (refused.code, refused.reason) == (UNAVAILABLE, "PERMISSION_SERVICE_UNAVAILABLE")
            assert refused.retry_s
            assert await metric(track, 'track_permission_checks_total{outcome="malformed"}', number)
        peer.raw.clear()
        await listing(client, room)
        peer.raw["BatchCheckPermissions"] = permission_pb.BatchCheckPermissionsResponse(
            results=[allowed()]
        ).SerializeToString()
        assert (await refusal(mute(client, room, ["TR_a", "TR_b"]))).reason == "PERMISSION_SERVICE_UNAVAILABLE"


async def test_a_killed_service_leaves_what_was_allowed_up_to_its_age_and_may_come_back_with_other_rules(
    livekit: LiveKitProcess, room: str, start_track: StartTrack, tmp_path: Path
) -> None:
    async with PermissionProcess(tmp_path / "permissions", ALL) as service:
        settings = {**NO_WORKER, **service.track_settings, "TRACK_PERMISSION_STALE_SECONDS": "12"}
        track = await start_track(livekit, settings)
        await connected(track)
        async with alice(track, room) as client, track.client("bob", room_join=True, room=room) as bob:
            await listing(client, room)
            await info(client)
            await service.kill()
            await until(lambda: metric(track, "track_permission_connected", 0))
            await listing(client, room)
            assert not (await info(client)).permission_service.connected
            assert await value(track, "track_permission_stale_allows_total") > 0
            refused = await refused_listing(bob, room)
            assert (refused.code, refused.reason) == (UNAVAILABLE, "PERMISSION_SERVICE_UNAVAILABLE")
            assert refused.retry_s
            await until(lambda: not_serving(track))

            await until(lambda: ends(client, room, "PERMISSION_SERVICE_UNAVAILABLE"))
            service.write_rules(NOBODY_READS)
            await service.start()
            await connected(track)
            refused = await refused_listing(client, room)
            assert (refused.code, refused.message) == (DENIED, "closed for the night")
            assert (await info(client)).permission_service.connected
            await until(lambda: serving(track))


async def test_a_paused_service_is_noticed_and_denies_nothing_that_is_known_until_then(
    livekit: LiveKitProcess, room: str, start_track: StartTrack, tmp_path: Path
) -> None:
    async with PermissionProcess(tmp_path / "permissions", ALL) as service:
        settings = {**NO_WORKER, **service.track_settings, "TRACK_PERMISSION_TIMEOUT_SECONDS": "1"}
        track = await start_track(livekit, settings)
        await connected(track)
        async with alice(track, room) as client, track.client("bob", room_join=True, room=room) as bob:
            await listing(client, room)
            service.pause()
            try:
                assert (await refused_listing(bob, room)).reason == "PERMISSION_SERVICE_UNAVAILABLE"
                await listing(client, room)
                # By keepalive: nothing else tells of a peer that takes what is sent.
                await until(lambda: metric(track, "track_permission_connected", 0), seconds=45)
            finally:
                service.resume()
            await connected(track)
            await listing(bob, room)


async def test_a_lost_stream_empties_what_is_known(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer))
    await connected(track)
    async with alice(track, room) as client:
        await listing(client, room)
        assert await value(track, "track_permission_cache_entries") == 1
        peer.fails["WatchPermissions"] = grpc.StatusCode.UNIMPLEMENTED
        peer.hang_up()
        await until(lambda: metric(track, "track_permission_connected", 0))
        peer.decide = lambda question: denied("not any more")
        assert (await refused_listing(client, room)).message == "not any more"
        # It answers, so calls can be decided: not being told of changes is no reason to be out of service.
        assert await serving(track)


@pytest.mark.parametrize("wrong", ["", "bearer", "certificate"])
async def test_bearer_and_certificates_both_ways(
    livekit: LiveKitProcess, room: str, start_track: StartTrack, tmp_path: Path, wrong: str
) -> None:
    authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other")
    theirs = authority.issue("127.0.0.1")
    ours = (other if wrong == "certificate" else authority).issue("track-server")
    server = {
        "TRACK_PERMISSION_SERVER_TLS_CERT": str(theirs.cert),
        "TRACK_PERMISSION_SERVER_TLS_KEY": str(theirs.key),
        "TRACK_PERMISSION_SERVER_TLS_CLIENT_CA": str(authority.ca),
    }
    async with PermissionProcess(tmp_path / "permissions", ALL, server) as service:
        settings = {
            **NO_WORKER,
            **service.track_settings,
            "TRACK_PERMISSION_TLS_CA": str(authority.ca),
            "TRACK_PERMISSION_TLS_CERT": str(ours.cert),
            "TRACK_PERMISSION_TLS_KEY": str(ours.key),
        }
        if wrong == "bearer":
            settings["TRACK_PERMISSION_TOKEN"] = "guessed"
        track = await start_track(livekit, settings)
        async with alice(track, room) as client:
            if wrong:
                assert (await refused_listing(client, room)).reason == "PERMISSION_SERVICE_UNAVAILABLE"
                assert not await serving(track)
                # A server that never had an answer says why, too.
                await until(lambda: track.logged("permission_changes_lost"))
                await until(lambda: track.logged("permission_service_unavailable"))
                told = track.logged("permission_changes_lost") + track.logged("permission_service_unavailable")
                assert all(line["reason"] for line in told), told
                assert wrong != "bearer" or "UNAUTHENTICATED" in told[0]["reason"]
            else:
                await connected(track)
                await listing(client, room)
                await until(lambda: serving(track))
