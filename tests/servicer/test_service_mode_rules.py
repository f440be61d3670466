"""Mode `service`: what the permission service decides is done, within the bounds that it sets."""

from pathlib import Path

import grpc
import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.permission_peer import PermissionPeer, allowed, denied
from tests.permission_process import PermissionProcess
from tests.publications import pattern, publish
from tests.refusals import read, refusal
from tests.servicer.asking import (
    ALL,
    DENIED,
    MUTE,
    NO_WORKER,
    NOBODY_READS,
    PUBLISH,
    READ,
    alice,
    asking,
    connected,
    drained,
    ends,
    info,
    listing,
    mute,
    refused_listing,
    seen,
    until,
)
from track.permission.v1 import permission_service_pb2 as permission_pb
from track.v1 import access_pb2, event_pb2, publication_pb2, server_info_pb2, token_pb2, track_pb2


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
        await until(lambda: seen(eve, room, mic.sid))
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
            await until(lambda: ends(client, room, "PERMISSION_DENIED"))
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await drained(events)
            assert read(ended.value).code == DENIED
            await service.rewrite(ALL)

            await until(lambda: ends(client, room, ""))


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
            refused = await refusal(client.PublishTrack(request, timeout=45))
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
        made = await client.CreateTrackToken(wanted, timeout=45)
        assert (list(made.grants.can_publish_sources), made.bounds) == ([camera], obligations)
        wanted.bounds.codecs.append(publication_pb2.VIDEO_CODEC_VP8)
        # Nothing is left, and an empty list would bound nothing.
        refused = await refusal(client.CreateTrackToken(wanted, timeout=45))
        assert (refused.code, refused.fields) == (DENIED, ("bounds.codecs",))
