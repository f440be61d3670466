"""Publications by a participant's client: TrackService, LiveKit, and an app with the companion for Python."""

import asyncio
import contextlib
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2
from grpc_status import rpc_status
from livekit import api, rtc

from tests.clients.apps import CAMERA, attached, public_key
from tests.clients.publications import DEADLINE_S, FAILED_PRECONDITION, publish, request, until
from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room, livekit_api
from tests.media.viewer import viewer
from tests.participants import Joined, camera, microphone, participant
from tests.publications import ENDED, LIVE, OBSERVED, publication, until_listed
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from track.control.v1 import control_pb2 as control
from track.v1 import access_pb2, publication_pb2, publication_update_pb2, server_info_pb2, token_pb2, tracks_pb2
from track.v1 import publication_pb2 as pb

# Published.


async def test_a_client_publishes_and_a_subscriber_sees_its_frames(
    admin: Client, livekit: LiveKitProcess, room: str, alice: Joined
) -> None:
    spec = pb.PublicationSpec()
    spec.CopyFrom(CAMERA)
    spec.name = "front"
    spec.metadata.update({"role": "presenter"})
    async with attached(alice, await public_key(admin)), viewer(livekit, room) as seen:
        found = await publish(admin, room, spec)
        assert (found.route, found.participant_identity, found.state) == (pb.PUBLICATION_ROUTE_CLIENT, "alice", LIVE)
        assert found.consent == pb.CONSENT_GRANTED
        assert list(alice.local_participant.track_publications) == [found.track_sid]
        async with asyncio.timeout(DEADLINE_S), seen.frames(found.track_sid) as frames:
            _, frame = await frames.get()
            assert (frame.width, frame.height) == (320, 180)
        listed = await admin.ListTracks(
            tracks_pb2.ListTracksRequest(room=room, filter='track.metadata.role == "presenter"')
        )
        (track,) = listed.tracks
        assert (track.sid, track.publication_id, track.name) == (found.track_sid, found.publication_id, "front")
        end = pb.UnpublishTrackRequest(room=room, publication_id=found.publication_id)
        answer = await admin.UnpublishTrack(end, timeout=DEADLINE_S)
        assert (answer.stage, answer.evidence) == (OBSERVED, pb.EVIDENCE_ROOM)
        assert answer.publication.end_cause == pb.PUBLICATION_END_CAUSE_CALLER
        await seen.gone(found.track_sid)
        assert not alice.local_participant.track_publications


async def test_sound_and_sources_of_the_app_are_published_beside_one_another(
    admin: Client, room: str, alice: Joined
) -> None:
    names: list[str] = []

    def slides(spec: Any) -> rtc.VideoSource:
        names.append(spec["device"]["device"])
        return rtc.VideoSource(320, 180)

    microphone_source = rtc.AudioSource(48000, 1)
    options: dict[str, Any] = {
        "devices": {"MICROPHONE": lambda _: microphone_source},
        "app_video": {"slides": slides},
    }
    mic = pb.PublicationSpec(device=pb.DeviceInput(kind=pb.DEVICE_KIND_MICROPHONE))
    shown = pb.PublicationSpec(device=pb.DeviceInput(kind=pb.DEVICE_KIND_APP_VIDEO, device="slides"))
    unknown = pb.PublicationSpec(device=pb.DeviceInput(kind=pb.DEVICE_KIND_APP_VIDEO, device="films"))
    async with attached(alice, await public_key(admin), **options):
        asked = await asyncio.gather(*(admin.PublishTrack(request(room, spec), timeout=10) for spec in (mic, shown)))
        assert all(answer.publication.state == LIVE for answer in asked)
        assert names == ["slides"]
        refused = await refusal(admin.PublishTrack(request(room, unknown), timeout=DEADLINE_S))
        assert (refused.reason, refused.fields) == ("NOT_SUPPORTED", ("spec.device.device",))
        refused = await refusal(admin.PublishTrack(request(room, CAMERA), timeout=DEADLINE_S))
        assert refused.reason in ("NOT_SUPPORTED", "SOURCE_IN_USE")
        published = {found.name for found in alice.local_participant.track_publications.values()}
        assert published == {answer.publication.publication_id for answer in asked}
        assert all(answer.publication.consent == pb.CONSENT_GRANTED for answer in asked)


# Refused before anything is done.


async def test_without_a_companion_the_plan_is_in_the_details(admin: Client, room: str, alice: Joined) -> None:
    spec = pb.PublicationSpec()
    spec.CopyFrom(CAMERA)
    spec.name = "front"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.PublishTrack(request(room, spec), timeout=DEADLINE_S)
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # has what is needed
    assert status is not None
    assert caught.value.code() is FAILED_PRECONDITION
    plan = control.Publish()
    (detail,) = [found for found in status.details if found.Is(control.Publish.DESCRIPTOR)]
    detail.Unpack(plan)
    assert plan.spec.name == "front"
    assert plan.spec.video.max_bitrate_bps > 0
    assert plan.publication_id.startswith("PUB_")
    refused = await refusal(admin.PublishTrack(request(room, spec), timeout=DEADLINE_S))
    assert refused.reason == "COMPANION_MISSING"
    assert not (await admin.ListPublications(pb.ListPublicationsRequest(room=room))).publications


async def test_the_target_must_be_there_and_be_allowed_to(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    missing = await refusal(admin.PublishTrack(request(room), timeout=DEADLINE_S))
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "PARTICIPANT_NOT_FOUND")
    for grants in (
        {"can_publish": False, "can_publish_data": True},
        {"can_publish": True, "can_publish_data": True, "can_publish_sources": ["microphone"]},
        {"can_publish": True, "can_publish_data": False},
    ):
        async with participant(livekit, room, "alice", **grants):
            refused = await refusal(admin.PublishTrack(request(room), timeout=DEADLINE_S))
            assert (refused.code, refused.reason) == (FAILED_PRECONDITION, "TARGET_PERMISSION")


async def test_a_caller_asks_its_own_client_and_no_other(
    admin: Client, track: TrackProcess, room: str, alice: Joined
) -> None:
    async with (
        attached(alice, await public_key(admin)),
        track.client("alice", room_join=True, room=room, can_publish=True) as own,
        track.client("bob", room_join=True, room=room, can_publish=True) as other,
    ):
        denied = await refusal(other.PublishTrack(request(room), timeout=DEADLINE_S))
        assert denied.code is grpc.StatusCode.PERMISSION_DENIED
        answer = await own.PublishTrack(request(room, identity=""), timeout=DEADLINE_S)
        assert answer.stage == OBSERVED
        assert answer.publication.participant_identity == "alice"


async def test_one_source_is_published_once(admin: Client, room: str, alice: Joined) -> None:
    async with attached(alice, await public_key(admin)):
        async with camera(alice) as own:
            await alice.announced(own.sid)
            await until_listed(admin, room, own.sid)
            refused = await refusal(admin.PublishTrack(request(room), timeout=DEADLINE_S))
            assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SOURCE_IN_USE")
            assert refused.metadata["track_sid"] == own.sid
            await alice.local_participant.unpublish_track(own.sid)
        await until_listed(admin, room, own.sid, there=False)
        calls = [admin.PublishTrack(request(room), timeout=DEADLINE_S) for _ in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        (published,) = [answer for answer in answers if isinstance(answer, pb.PublishTrackResponse)]
        assert published.stage == OBSERVED
        refused = await refusal(admin.PublishTrack(request(room), timeout=DEADLINE_S))
        assert refused.reason == "SOURCE_IN_USE"
        assert refused.metadata["publication_id"] == published.publication.publication_id
        assert list(alice.local_participant.track_publications) == [published.publication.track_sid]


async def test_what_makes_no_sense_for_a_client_is_refused(admin: Client, track: TrackProcess, room: str) -> None:
    hosted = request(room)
    hosted.route = pb.PUBLICATION_ROUTE_HOSTED
    created = request(room)
    created.create_room = True
    tone = request(room, pb.PublicationSpec(tone=pb.ToneInput()))
    tone.route = pb.PUBLICATION_ROUTE_CLIENT
    for wrong, fields in ((hosted, ("route",)), (tone, ("route",)), (created, ("create_room",))):
        refused = await refusal(admin.PublishTrack(wrong, timeout=DEADLINE_S))
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, fields)


# Coming back, and not.


async def test_the_client_may_end_it_itself(admin: Client, room: str, alice: Joined) -> None:
    async with attached(alice, await public_key(admin)):
        found = await publish(admin, room)
        await alice.local_participant.unpublish_track(found.track_sid)
        ended = await until(admin, found, lambda known: known.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_CLIENT
        # And be asked again.
        assert (await publish(admin, room)).publication_id != found.publication_id


async def test_a_permission_taken_away_and_a_removal_end_it(
    admin: Client, livekit: LiveKitProcess, room: str, alice: Joined
) -> None:
    key = await public_key(admin)
    async with attached(alice, key), livekit_api(livekit) as direct:
        found = await publish(admin, room)
        permission = api.ParticipantPermission(can_subscribe=True, can_publish=False, can_publish_data=True)
        update = api.UpdateParticipantRequest(room=room, identity="alice", permission=permission)
        await direct.room.update_participant(update)
        ended = await until(admin, found, lambda known: known.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_PERMISSION_REVOKED
        update.permission.can_publish = True
        await direct.room.update_participant(update)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):  # it takes a moment to be known
                    found = await publish(admin, room)
                    break
                await asyncio.sleep(0.1)
        await direct.room.remove_participant(api.RoomParticipantIdentity(room=room, identity="alice"))
        ended = await until(admin, found, lambda known: known.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED


async def test_a_closed_room_ends_it(admin: Client, livekit: LiveKitProcess, room: str, alice: Joined) -> None:
    async with attached(alice, await public_key(admin)), livekit_api(livekit) as direct:
        found = await publish(admin, room)
        await direct.room.delete_room(api.DeleteRoomRequest(room=room))
        ended = await until(admin, found, lambda known: known.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_ROOM_CLOSED


# By other commands.


async def test_an_update_and_a_restart_go_through_the_client(admin: Client, room: str, alice: Joined) -> None:
    async with attached(alice, await public_key(admin)):
        first = await publish(admin, room)
        changed = await admin.UpdatePublication(
            publication_update_pb2.UpdatePublicationRequest(
                room=room,
                publication_id=first.publication_id,
                spec=pb.PublicationSpec(video=pb.VideoOptions(max_bitrate_bps=100_000)),
                update_mask=field_mask_pb2.FieldMask(paths=["video.max_bitrate_bps"]),
            ),
            timeout=DEADLINE_S,
        )
        assert changed.stage in (pb.STAGE_ACKNOWLEDGED, OBSERVED)
        updated = await until(admin, first, lambda found: found.state == LIVE and found.track_sid != first.track_sid)
        assert updated.spec.video.max_bitrate_bps == 100_000
        await until_listed(admin, room, updated.track_sid)
        again = await admin.RestartTrack(
            publication_update_pb2.RestartTrackRequest(
                room=room,
                publication_id=first.publication_id,
                level=publication_update_pb2.RESTART_LEVEL_REPUBLISH,
                graceful=True,
            ),
            timeout=DEADLINE_S,
        )
        assert again.stage in (pb.STAGE_ACKNOWLEDGED, OBSERVED), again
        restarted = await until(
            admin, updated, lambda found: found.state == LIVE and found.track_sid not in ("", updated.track_sid)
        )
        assert list(alice.local_participant.track_publications) == [restarted.track_sid]
        assert len(restarted.lineage) == 3
        assert restarted.state == LIVE


async def test_a_track_of_the_clients_own_is_taken_out_by_its_companion(
    admin: Client, room: str, alice: Joined
) -> None:
    async with attached(alice, await public_key(admin)), camera(alice) as own:
        await alice.announced(own.sid)
        await until_listed(admin, room, own.sid)
        end = pb.UnpublishTrackRequest(room=room, track_sid=own.sid)
        answer = await admin.UnpublishTrack(end, timeout=DEADLINE_S)
        assert (answer.stage, answer.method) == (OBSERVED, pb.UNPUBLISH_METHOD_COMPANION)
        assert own.sid not in alice.local_participant.track_publications


# Mutes, and the key.


async def test_a_companion_unmutes_where_livekit_forbids_it(
    start_livekit: StartLiveKit, start_track: StartTrack
) -> None:
    livekit = await start_livekit({"room": {"enable_remote_unmute": False}})
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with (
        existing_room(livekit, "r"),
        track.client("admin", room_admin=True, room="r") as admin,
        participant(livekit, "r", "alice") as alice,
    ):
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        await until_listed(admin, "r", mic.sid)
        ref = tracks_pb2.TrackRef(track_sid=mic.sid)
        await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room="r", tracks=[ref]), timeout=DEADLINE_S)

        unmute = tracks_pb2.UnmuteTracksRequest(room="r", tracks=[ref])
        refused = await refusal(admin.UnmuteTracks(unmute, timeout=DEADLINE_S))
        assert refused.reason == "REMOTE_UNMUTE_DISABLED"
        key = await public_key(admin)
        async with attached(alice, key, consent=lambda _: False):
            refused = await refusal(admin.UnmuteTracks(unmute, timeout=DEADLINE_S))
            assert refused.reason == "CONSENT_REFUSED"
        async with attached(alice, key):
            (result,) = (await admin.UnmuteTracks(unmute, timeout=DEADLINE_S)).results
        assert (result.stage, result.evidence, result.muted) == (OBSERVED, pb.EVIDENCE_ROOM, False)
        assert mic.track is not None
        assert not mic.track.muted


async def test_tokens_tell_the_key_that_the_server_tells(admin: Client, room: str) -> None:
    info = await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())
    wanted = token_pb2.CreateTrackTokenRequest(
        room=room, participant_identity="alice", operation=access_pb2.TRACK_OPERATION_SUBSCRIBE
    )
    token = await admin.CreateTrackToken(wanted)
    assert len(info.control_key.public_key) == 32
    assert token.control_key == info.control_key


async def test_a_publication_by_a_client_is_read_like_any_other(admin: Client, room: str, alice: Joined) -> None:
    async with attached(alice, await public_key(admin)):
        found = await publish(admin, room)
        assert (await publication(admin, room, found.publication_id)).track_sid == found.track_sid
        moves = [move.state for move in found.moves]
        assert moves == [publication_pb2.PUBLICATION_STATE_PENDING, publication_pb2.PUBLICATION_STATE_STARTING, LIVE]
