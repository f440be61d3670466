"""Mode `service`: the permission service decides, also where it is away, slow, lies, or comes back with other rules."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.access.service_mode.authority import Authority
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.permission_peer import Answer, PermissionPeer, allowed, denied
from tests.permission_process import PermissionProcess
from tests.publications import pattern, publish
from tests.refusals import Refusal, read, refusal
from tests.track_process import Client, TrackProcess
from track.permission.v1 import permission_service_pb2 as permission_pb
from track.v1 import access_pb2, event_pb2, publication_pb2, server_info_pb2, token_pb2, track_pb2, tracks_pb2
from track.v1.access_pb2 import Permission
from track_server.health import SERVICE

READ = Permission.PERMISSION_READ_TRACKS
PUBLISH = Permission.PERMISSION_PUBLISH
MUTE = Permission.PERMISSION_MUTE
SUBSCRIBE = Permission.PERMISSION_SUBSCRIBE
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NO_WORKER = {"TRACK_MEDIA_WORKERS": "0", "TRACK_METRICS_LISTEN": "127.0.0.1:0"}

ALL = """
[[rule]]
name = "all"
permissions = ["READ_SERVER", "READ_TRACKS", "PUBLISH", "MUTE", "SUBSCRIBE"]
when = "true"
lifetime = "1h"
"""
NOBODY_READS = (
    """
[[rule]]
name = "nobody reads"
permissions = ["READ_TRACKS"]
when = "true"
effect = "deny"
reason = "closed for the night"
"""
    + ALL
)


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[PermissionPeer]:
    """A permission service that does what the test wants; it allows everything."""
    async with PermissionPeer() as running:
        yield running


def asking(peer: PermissionPeer, **settings: str) -> dict[str, str]:
    """The settings of a TrackService that asks the peer."""
    return {
        **NO_WORKER,
        "TRACK_AUTH_MODE": "service",
        "TRACK_PERMISSION_ADDRESS": peer.address,
        **settings,
    }


async def info(client: Client) -> server_info_pb2.GetServerInfoResponse:
    """GetServerInfo."""
    answer: server_info_pb2.GetServerInfoResponse = await client.GetServerInfo(
        server_info_pb2.GetServerInfoRequest(), timeout=20
    )
    return answer


async def listing(client: Client, room: str) -> tracks_pb2.ListTracksResponse:
    """ListTracks."""
    answer: tracks_pb2.ListTracksResponse = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room), timeout=20)
    return answer


async def refused_listing(client: Client, room: str) -> Refusal:
    """ListTracks, which must fail."""
    return await refusal(listing(client, room))


async def outcome(client: Client, room: str) -> str:
    """How ListTracks ends: the reason of its failure, or empty."""
    try:
        await listing(client, room)
    except grpc.aio.AioRpcError as error:
        return read(error).reason
    return ""


async def drained(stream: Any) -> None:
    """Reads a stream until it fails."""
    async with asyncio.timeout(20):
        async for _ in stream:
            pass


async def mute(client: Client, room: str, sids: list[str]) -> list[tracks_pb2.MuteResult]:
    """MuteTracks."""
    refs = [tracks_pb2.TrackRef(track_sid=sid) for sid in sids]
    answer = await client.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=refs), timeout=20)
    return list(answer.results)


async def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Waits for it; ``condition`` may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


async def connected(track: TrackProcess) -> None:
    """Waits until the stream of changes is up."""
    await until(lambda: metric(track, "track_permission_connected", 1))


async def metrics(track: TrackProcess) -> str:
    """What Prometheus would see."""
    url = f"http://{track.metrics_address}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def value(track: TrackProcess, name: str) -> float:
    """Of one metric, by its name with its labels."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", await metrics(track), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def metric(track: TrackProcess, name: str, wanted: float) -> bool:
    return await value(track, name) == wanted


async def serving(track: TrackProcess) -> bool:
    """Whether health calls it ready."""
    async with grpc.aio.insecure_channel(track.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=5)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def not_serving(track: TrackProcess) -> bool:
    return not await serving(track)


@asynccontextmanager
async def alice(track: TrackProcess, room: str, **grants: Any) -> AsyncIterator[Client]:
    """A participant of the room."""
    async with track.client("alice", room_join=True, room=room, **grants) as client:
        yield client


async def test_the_service_decides_and_gives_the_reason(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    peer.decide = lambda question: denied("the room is closed") if question.principal.identity == "bob" else allowed()
    track = await start_track(livekit, asking(peer))
    await connected(track)
    async with alice(track, room) as client, track.client("bob", room_join=True, room=room) as bob:
        await listing(client, room)
        refused = await refused_listing(bob, room)
        assert (refused.code, refused.reason, refused.message) == (DENIED, "PERMISSION_DENIED", "the room is closed")
        asked = peer.questions[-1]
        assert (asked.permission, asked.room, asked.participant_identity) == (READ, room, "")
        assert asked.principal == access_pb2.Principal(
            kind=access_pb2.PRINCIPAL_KIND_PARTICIPANT,
            identity="bob",
            grants=access_pb2.Grants(
                room=room, room_join=True, can_publish=True, can_publish_data=True, can_subscribe=True
            ),
        )
        answer = await info(client)
        assert answer.auth_mode == server_info_pb2.AUTH_MODE_SERVICE
        assert answer.permission_service.address == peer.address
        assert answer.permission_service.connected
        assert answer.permission_service.max_stale_age.seconds == 60


async def test_nobody_is_asked_about_beyond_their_token(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer))
    await connected(track)
    before = len(peer.questions)
    async with track.client("admin", room_admin=True, room=f"{room}-other") as foreign:
        assert (await refused_listing(foreign, room)).code == DENIED
        assert (await refusal(mute(foreign, room, ["TR_x"]))).code == DENIED
    async with track.client() as nobody:
        assert (await refused_listing(nobody, room)).code == grpc.StatusCode.UNAUTHENTICATED
    assert len(peer.questions) == before
    # A service's token is about every room: the permission service decides.
    async with track.client("batch", room_list=True) as batch:
        await listing(batch, room)
    assert peer.questions[-1].room == room


async def test_a_batch_of_a_hundred_mutes_is_one_question_of_the_service(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer))
    await connected(track)
    async with participant(livekit, room, "alice") as publisher, track.client("eve", room_join=True, room=room) as eve:
        mic = await microphone(publisher)
        await until(lambda: _seen(eve, room, mic.sid))
        sids = [mic.sid, *(f"TR_none{number}" for number in range(99))]
        peer.decide = lambda question: allowed() if question.track_sid in ("", mic.sid) else denied()
        results = await mute(eve, room, sids)
        assert results[0].muted
        assert {result.problem.code for result in results[1:]} == {DENIED.value[0]}
        assert peer.batches == [100]
        asked = peer.questions[-100]
        assert (asked.permission, asked.participant_identity, asked.track_sid) == (MUTE, "alice", mic.sid)
        # Known by now, denials too.
        await mute(eve, room, sids)
        assert peer.batches == [100]


async def _ends(client: Client, room: str, reason: str) -> bool:
    return await outcome(client, room) == reason


async def _seen(client: Client, room: str, sid: str) -> bool:
    return any(found.sid == sid for found in (await listing(client, room)).tracks)


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

            await until(lambda: _ends(client, room, "PERMISSION_SERVICE_UNAVAILABLE"))
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


async def test_a_change_of_the_rules_takes_effect_on_the_next_call_and_ends_streams(
    livekit: LiveKitProcess, room: str, start_track: StartTrack, tmp_path: Path
) -> None:
    async with PermissionProcess(tmp_path / "permissions", ALL) as service:
        track = await start_track(livekit, {**NO_WORKER, **service.track_settings})
        await connected(track)
        async with alice(track, room) as client:
            await listing(client, room)
            stream = client.WatchEvents(event_pb2.WatchEventsRequest(room=room))
            events = aiter(stream)
            await anext(events)
            await service.rewrite(NOBODY_READS)

            # The service tells its streams in no order that we know: ours may come a moment later.
            await until(lambda: _ends(client, room, "PERMISSION_DENIED"))
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await drained(events)
            assert read(ended.value).code == DENIED
            await service.rewrite(ALL)

            await until(lambda: _ends(client, room, ""))


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


async def test_what_is_to_be_published_is_kept_within_the_obligations(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    obligations = token_pb2.PublishBounds(
        max_width=640, max_height=480, max_bitrate_bps=300_000, codecs=[publication_pb2.VIDEO_CODEC_H264]
    )
    peer.decide = lambda question: allowed(obligations=obligations) if question.permission == PUBLISH else allowed()
    track = await start_track(livekit, asking(peer, TRACK_MEDIA_WORKERS="1"))
    await connected(track)
    async with alice(track, room) as client:
        for spec, field in (
            (pattern(1280, 720), "spec.video.width"),
            (pattern(max_bitrate_bps=300_001), "spec.video.max_bitrate_bps"),
            (pattern(codec=publication_pb2.VIDEO_CODEC_VP8), "spec.video.codec"),
        ):
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec, participant_identity="alice-bot")
            refused = await refusal(client.PublishTrack(request, timeout=20))
            assert (refused.code, refused.fields) == (DENIED, (field,))
        made = await publish(
            client, room, publication_pb2.PublicationSpec(test_pattern=publication_pb2.TestPatternInput()), "alice-bot"
        )
        video = made.spec.video
        assert (video.width <= 640, video.height <= 480, video.max_bitrate_bps <= 300_000) == (True, True, True)
        assert video.codec == publication_pb2.VIDEO_CODEC_H264
        asked = [question for question in peer.questions if question.participant_identity == "alice-bot"]
        assert {question.permission for question in asked} == {PUBLISH}
        assert asked[-1].track.width == video.width


async def test_a_token_is_made_within_the_obligations_and_livekit_too_is_told_of_their_sources(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    camera = track_pb2.TRACK_SOURCE_CAMERA
    codecs = [publication_pb2.VIDEO_CODEC_H264]
    obligations = token_pb2.PublishBounds(sources=[camera], codecs=codecs)
    del peer.fails["IssueTrackToken"]
    peer.issued = permission_pb.IssueTrackTokenResponse(
        decision=permission_pb.DECISION_ALLOWED, obligations=obligations
    )
    track = await start_track(livekit, asking(peer))
    await connected(track)
    async with alice(track, room) as client:
        wanted = token_pb2.CreateTrackTokenRequest(room=room, operation=access_pb2.TRACK_OPERATION_PUBLISH)
        made = await client.CreateTrackToken(wanted, timeout=20)
        assert (list(made.grants.can_publish_sources), made.bounds) == ([camera], obligations)
        wanted.bounds.codecs.append(publication_pb2.VIDEO_CODEC_VP8)
        # Nothing is left, and an empty list would bound nothing.
        refused = await refusal(client.CreateTrackToken(wanted, timeout=20))
        assert (refused.code, refused.fields) == (DENIED, ("bounds.codecs",))


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
        await until(lambda: _seen(admin, room, mic.sid))
        update = tracks_pb2.UpdateSubscriptionsRequest(
            room=room,
            updates=[tracks_pb2.SubscriptionUpdate(participant_identity="bob", track_sid=mic.sid, subscribe=True)],
        )
        refused = await refusal(admin.UpdateSubscriptions(update, timeout=20))
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
