"""Moderation blocks: set, told, listed, lifted, ended; and who may."""

import grpc
from livekit import rtc

from tests import moderation_calls as calls
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.moderation_calls import EXPIRED, LIFTED, block, come_true, listed, moved, watching, whole
from tests.participants import camera, microphone, participant
from tests.permission_peer import PermissionPeer, allowed, denied
from tests.publications import DEADLINE_S
from tests.refusals import refusal
from tests.servicer.asking import asking
from tests.track_process import Client, TrackProcess
from track.v1 import access_pb2, publication_pb2, track_pb2
from track.v1.moderation_pb2 import ListModerationBlocksRequest, RequestUnmuteRequest

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def test_tracks_without_a_source_are_blocked_by_their_name(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        sounds = {}
        for name in ("music", "radio"):
            track = rtc.LocalAudioTrack.create_audio_track(name, rtc.AudioSource(48000, 1))
            sounds[name] = await alice.local_participant.publish_track(track, rtc.TrackPublishOptions())
        await listed(admin, room, *(sound.sid for sound in sounds.values()))
        (held,) = await block(admin, room, sounds["music"].sid)
        assert (held.source, held.track_name) == (track_pb2.TRACK_SOURCE_UNSPECIFIED, "music")
        assert list(held.track_sids) == [sounds["music"].sid]
        assert not await calls.muted(admin, room, sounds["radio"].sid)


async def test_lifting_never_unmutes_and_lets_the_client_unmute_itself(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        (held,) = await block(admin, room, mic.sid)
        await come_true(lambda: mic.muted)
        async with watching(admin, room) as events:
            (looked,) = await calls.lift(admin, room, held.block_id, validate_only=True)
            assert looked.block.block_id == held.block_id
            (lifted,) = await calls.lift(admin, room, held.block_id)
            assert lifted.block.block_id == held.block_id
            told = await whole(events, "moderation_block_changed", moved(LIFTED))
            assert told.cause.principal_identity == "admin"
            assert await calls.blocks(admin, room) == []
            assert await calls.muted(admin, room, mic.sid)
            calls.unmute_self(mic)
            await events.until("track_unmuted")
        (result,) = await calls.mute(admin, room, mic.sid)
        assert not result.HasField("block")


async def test_who_had_muted_itself_stays_muted_when_the_block_is_lifted(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        calls.mute_self(mic)
        await come_true(lambda: calls.muted(admin, room, mic.sid))
        (held,) = await block(admin, room, mic.sid)
        await calls.lift(admin, room, held.block_id)
        assert await calls.muted(admin, room, mic.sid)
        assert mic.muted


async def test_a_blocked_track_is_neither_unmuted_nor_asked_for_and_the_error_names_the_block(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        (held,) = await block(admin, room, mic.sid)
        for call in (
            calls.unmute(admin, room, mic.sid),
            admin.RequestUnmute(RequestUnmuteRequest(room=room, track_sid=mic.sid), timeout=DEADLINE_S),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (FAILED_PRECONDITION, "TRACK_BLOCKED")
            assert refused.metadata["block_id"] == held.block_id
        (result,) = await calls.mute(admin, room, mic.sid)
        assert result.block.block_id == held.block_id


async def test_a_block_ends_at_its_time_and_nothing_is_unmuted(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, watching(admin, room) as events:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        (held,) = await block(admin, room, mic.sid, expire_time=calls.soon(2), reason="cool down")
        assert held.HasField("expire_time")
        told = await whole(events, "moderation_block_changed", moved(EXPIRED))
        assert (told.cause.rule, told.cause.reason) == ("expire_time", "cool down")
        assert await calls.blocks(admin, room) == []
        assert await calls.muted(admin, room, mic.sid)
        calls.unmute_self(mic)
        await events.until("track_unmuted")
        assert not await calls.muted(admin, room, mic.sid)


async def test_blocking_again_changes_the_one_block(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        (first,) = await block(admin, room, mic.sid, expire_time=calls.soon(600))
        (second,) = await block(admin, room, mic.sid, reason="again")
        assert (second.block_id, second.reason, second.HasField("expire_time")) == (first.block_id, "again", False)
        assert len(await calls.blocks(admin, room)) == 1


async def test_the_end_of_the_room_ends_its_blocks(
    admin: Client, livekit: LiveKitProcess, track: TrackProcess, room_name: str
) -> None:
    async with existing_room(livekit, room_name):
        async with participant(livekit, room_name, "alice") as alice:
            mic = await microphone(alice)
            await alice.announced(mic.sid)
            await block(admin, room_name, mic.sid)
        await delete_room(livekit, room_name)
        await come_true(lambda: _no_blocks(admin, room_name))
    async with existing_room(livekit, room_name), participant(livekit, room_name, "alice") as alice:
        mic = await microphone(alice)
        await listed(admin, room_name, mic.sid)
        (result,) = await calls.mute(admin, room_name, mic.sid)
        assert not result.HasField("block")


async def _no_blocks(client: Client, room: str) -> bool:
    return await calls.blocks(client, room) == []


async def test_blocks_are_listed_page_by_page(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        mic = await microphone(alice)
        await listed(admin, room, mic.sid, cam.sid)
        wanted = [(await block(admin, room, sid))[0].block_id for sid in (mic.sid, cam.sid)]
        found, token = [], ""
        while True:
            answer = await admin.ListModerationBlocks(
                ListModerationBlocksRequest(room=room, page_size=1, page_token=token)
            )
            found += [one.block_id for one in answer.blocks]
            token = answer.next_page_token
            if not token:
                break
        assert found == wanted


async def test_validate_only_sets_nothing(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        (result,) = await calls.mute(admin, room, mic.sid, block=True, validate_only=True, reason="why")
        assert (result.block.reason, result.block.block_id, result.stage) == (
            "why",
            "",
            publication_pb2.STAGE_UNSPECIFIED,
        )
        assert await calls.blocks(admin, room) == []
        assert not mic.muted


async def test_a_participant_may_neither_block_nor_lift_not_even_its_own(
    admin: Client, track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        track.client("alice", room_join=True, can_publish=True, room=room) as own,
    ):
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        for sid in (mic.sid, "TR_unknown"):
            assert (await refusal(calls.mute(own, room, sid, block=True))).code is grpc.StatusCode.PERMISSION_DENIED
        assert await calls.blocks(admin, room) == []
        (held,) = await block(admin, room, mic.sid)
        for block_id in (held.block_id, "BLK_unknown"):
            assert (await refusal(calls.lift(own, room, block_id))).code is grpc.StatusCode.PERMISSION_DENIED
        assert [found.block_id for found in await calls.blocks(own, room)] == [held.block_id]
        unknown = await refusal(calls.lift(admin, room, "BLK_unknown"))
        assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "BLOCK_NOT_FOUND")
        results = await calls.lift(admin, room, "BLK_unknown", held.block_id)
        assert [result.HasField("problem") for result in results] == [True, False]
        assert results[0].problem.field == "block_ids[0]"


async def test_the_permission_service_decides_about_blocks_as_about_mutes_of_others(
    livekit: LiveKitProcess, room: str, peer: PermissionPeer, start_track: StartTrack
) -> None:
    track = await start_track(livekit, asking(peer))
    async with (
        participant(livekit, room, "alice") as alice,
        track.client("alice", room_join=True, room=room) as own,
        track.client("bob", room_join=True, room=room) as bob,
    ):
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        # It may mute itself, and so not block itself.
        assert (await refusal(calls.mute(own, room, mic.sid, block=True))).code is grpc.StatusCode.PERMISSION_DENIED
        (held,) = await block(bob, room, mic.sid)
        assert (await refusal(calls.lift(own, room, held.block_id))).code is grpc.StatusCode.PERMISSION_DENIED
        peer.decide = lambda question: denied() if question.permission == access_pb2.PERMISSION_MUTE else allowed()
        assert (await refusal(calls.lift(bob, room, held.block_id))).code is grpc.StatusCode.PERMISSION_DENIED
        assert [found.block_id for found in await calls.blocks(bob, room)] == [held.block_id]
