"""MuteTracks and UnmuteTracks: asked of LiveKit, and seen in the room and by the publisher."""

import asyncio
from collections.abc import Callable

import grpc
import pytest
from livekit import api

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room, livekit_api
from tests.media.viewer import viewer
from tests.participants import camera, microphone, participant
from tests.publications import DATA, DEADLINE_S, OBSERVED, TONE, pattern, publication, publish, until
from tests.refusals import refusal
from tests.track_process import Client
from track.v1 import error_pb2, publication_pb2, tracks_pb2

ROOM_EVIDENCE = publication_pb2.EVIDENCE_ROOM


def ref(sid: str, identity: str = "") -> tracks_pb2.TrackRef:
    """A track."""
    return tracks_pb2.TrackRef(track_sid=sid, participant_identity=identity)


async def mute(client: Client, room: str, *refs: tracks_pb2.TrackRef) -> list[tracks_pb2.MuteResult]:
    """MuteTracks."""
    answer = await client.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=refs), timeout=DEADLINE_S)
    return list(answer.results)


async def unmute(client: Client, room: str, *refs: tracks_pb2.TrackRef) -> list[tracks_pb2.MuteResult]:
    """UnmuteTracks."""
    answer = await client.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=refs), timeout=DEADLINE_S)
    return list(answer.results)


def observed(result: tracks_pb2.MuteResult, *, muted: bool) -> bool:
    """Whether the result tells that the room shows it."""
    return (
        result.stage == OBSERVED
        and result.evidence == ROOM_EVIDENCE
        and result.HasField("muted")
        and result.muted == muted
        and not result.HasField("problem")
    )


async def listed(client: Client, room: str, *sids: str) -> None:
    """Waits until the room shows the tracks: LiveKit announces one with its first packet."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            if set(sids) <= {found.sid for found in answer.tracks}:
                return
            await asyncio.sleep(0.02)


async def come_true(condition: Callable[[], bool]) -> None:
    """Waits for it."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_mute_is_seen_by_the_publisher_and_by_others(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, viewer(livekit, room) as seen:
        mic = await microphone(alice)
        remote = await seen.publication_of(mic.sid)
        (result,) = await mute(admin, room, ref(mic.sid))
        assert observed(result, muted=True)
        assert result.track == ref(mic.sid, "alice")
        await come_true(lambda: mic.muted and remote.muted)
        (result,) = await unmute(admin, room, ref(mic.sid, "alice"))
        assert observed(result, muted=False)
        await come_true(lambda: not mic.muted and not remote.muted)


async def test_muting_what_is_muted_is_observed_at_once(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await listed(admin, room, mic.sid)
        for _ in range(2):
            (result,) = await mute(admin, room, ref(mic.sid))
            assert observed(result, muted=True)
        for _ in range(2):
            (result,) = await unmute(admin, room, ref(mic.sid))
            assert observed(result, muted=False)


async def test_a_hosted_publication_knows_that_it_is_muted_and_media_stop(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    live = await publish(admin, room, pattern(320, 180, 10))
    async with viewer(livekit, room) as seen, asyncio.timeout(40), seen.frames(live.track_sid) as frames:
        await frames.get()
        (result,) = await mute(admin, room, ref(live.track_sid))
        assert observed(result, muted=True)
        await until(admin, live, lambda found: found.muted)
        while True:  # those on their way
            try:
                async with asyncio.timeout(1.0):
                    await frames.get()
            except TimeoutError:
                break
        (result,) = await unmute(admin, room, ref(live.track_sid))
        assert observed(result, muted=False)
        await until(admin, live, lambda found: not found.muted)
        await frames.get()
    assert (await publication(admin, room, live.publication_id)).track_sid == live.track_sid


async def test_a_batch_is_answered_item_by_item(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        mic = await microphone(alice)
        data = await publish(admin, room, DATA)
        tone = await publish(admin, room, TONE)
        await listed(admin, room, mic.sid, cam.sid)
        refs = [
            ref(mic.sid),
            ref("TR_unknown"),
            ref(cam.sid, "bob"),
            ref(data.track_sid),
            ref(tone.track_sid, tone.participant_identity),
        ]
        results = await mute(admin, room, *refs)
        assert observed(results[0], muted=True)
        assert observed(results[4], muted=True)
        not_found, precondition = grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.FAILED_PRECONDITION.value[0]
        expected = [
            (not_found, error_pb2.ERROR_REASON_TRACK_NOT_FOUND, "tracks[1].track_sid"),
            (not_found, error_pb2.ERROR_REASON_TRACK_NOT_FOUND, "tracks[2].participant_identity"),
            (precondition, error_pb2.ERROR_REASON_NOT_FOR_DATA_TRACKS, "tracks[3].track_sid"),
        ]
        problems = [(result.problem.code, result.problem.reason, result.problem.field) for result in results[1:4]]
        assert problems == expected
        assert all(result.stage == publication_pb2.STAGE_UNSPECIFIED for result in results[1:4])
        assert [result.track for result in results[1:4]] == refs[1:4]
        assert not cam.muted


@pytest.mark.parametrize(
    ("sid", "identity", "reason", "field"),
    [
        ("TR_unknown", "", "TRACK_NOT_FOUND", "tracks[0].track_sid"),
        ("MIC", "bob", "TRACK_NOT_FOUND", "tracks[0].participant_identity"),
        ("DATA", "", "NOT_FOR_DATA_TRACKS", "tracks[0].track_sid"),
    ],
    ids=["unknown track", "wrong participant", "data track"],
)
async def test_a_batch_of_which_nothing_succeeds_fails_with_the_firsts_status(
    admin: Client, livekit: LiveKitProcess, room: str, sid: str, identity: str, reason: str, field: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        data = await alice.local_participant.publish_data_track(name="d")
        await listed(admin, room, mic.sid, data.info.sid)
        sid = {"MIC": mic.sid, "DATA": data.info.sid}.get(sid, sid)
        for call in (mute, unmute):
            refused = await refusal(call(admin, room, ref(sid, identity)))
            assert (refused.reason, refused.fields) == (reason, (field,))
        assert not mic.muted


async def test_unmuting_where_livekit_forbids_it_names_its_setting(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit({"room": {"enable_remote_unmute": False}})
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "alice") as alice,
        track.client("admin", room_admin=True, room=room_name) as admin,
    ):
        mic = await microphone(alice)
        await listed(admin, room_name, mic.sid)
        (result,) = await mute(admin, room_name, ref(mic.sid))
        assert observed(result, muted=True)
        refused = await refusal(unmute(admin, room_name, ref(mic.sid)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REMOTE_UNMUTE_DISABLED")
        assert "room.enable_remote_unmute" in refused.message
        await come_true(lambda: mic.muted)


async def test_who_may_not_publish_cannot_be_unmuted(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    tone = await publish(admin, room, TONE)
    await mute(admin, room, ref(tone.track_sid))
    async with livekit_api(livekit) as server:
        denied = api.ParticipantPermission(can_subscribe=True, can_publish=False)
        request = api.UpdateParticipantRequest(room=room, identity=tone.participant_identity, permission=denied)
        await server.room.update_participant(request)
    # LiveKit takes the track away with the permission.
    ended = await until(admin, tone, lambda found: found.state == publication_pb2.PUBLICATION_STATE_ENDED)
    assert ended.end_cause == publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED
    refused = await refusal(unmute(admin, room, ref(tone.track_sid)))
    assert refused.reason == "TRACK_NOT_FOUND"


async def test_a_request_id_mutes_once_and_tells_the_same(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await listed(admin, room, mic.sid)
        request = tracks_pb2.MuteTracksRequest(room=room, tracks=[ref(mic.sid)], request_id="m1")
        first = await admin.MuteTracks(request)
        await unmute(admin, room, ref(mic.sid))
        assert await admin.MuteTracks(request) == first
        await come_true(lambda: not mic.muted)
