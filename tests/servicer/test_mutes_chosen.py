"""MuteTracks by filters, and mutes that end by themselves."""

import asyncio
import itertools

import grpc
import pytest
from google.protobuf import timestamp_pb2

from tests import moderation_calls as calls
from tests.clients.apps import attached, public_key
from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.media.encoded import picture
from tests.moderation_calls import come_true, listed, watching, whole
from tests.participants import camera, microphone, participant
from tests.publications import DEADLINE_S, LIVE, OBSERVED, TONE, publish, until
from tests.refusals import refusal
from tests.servicer import pushing as push
from tests.servicer.records import record
from tests.servicer.restarting import restart
from tests.track_process import Client, TrackProcess
from track.v1 import error_pb2, publication_pb2, tracks_pb2
from track.v1.publication_update_pb2 import RestartLevel

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED


async def test_a_filter_mutes_all_media_tracks_but_those_left_out_in_the_order_of_participants(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "host") as host,
        participant(livekit, room, "bob") as bob,
        participant(livekit, room, "alice") as alice,
        camera(alice) as cam,
    ):
        mics = {joined.local_participant.identity: await microphone(joined) for joined in (host, bob, alice)}
        data = await bob.local_participant.publish_data_track(name="d")
        await listed(admin, room, cam.sid, data.info.sid, *(mic.sid for mic in mics.values()))
        others = 'track.participant_identity == "host"'
        results = await calls.mute(admin, room, except_filter=others)
        assert [(result.track.participant_identity, result.track.track_sid) for result in results] == [
            *(("alice", sid) for sid in sorted((mics["alice"].sid, cam.sid))),
            ("bob", mics["bob"].sid),
        ]
        assert all(result.stage == OBSERVED and result.muted for result in results)
        await come_true(lambda: cam.muted and mics["alice"].muted and mics["bob"].muted)
        assert not mics["host"].muted
        await calls.unmute(admin, room, cam.sid, mics["alice"].sid, mics["bob"].sid)
        both = {"filter": "track.source == TrackSource.TRACK_SOURCE_MICROPHONE", "except_filter": others}
        looked = await calls.mute(admin, room, validate_only=True, **both)
        assert [result.track.track_sid for result in looked] == [mics["alice"].sid, mics["bob"].sid]
        assert not any(result.muted for result in looked)
        held = await calls.block(admin, room, **both)
        assert [one.participant_identity for one in held] == ["alice", "bob"]
        assert not await calls.muted(admin, room, cam.sid)
        assert await calls.mute(admin, room, filter='track.name == "nobody\'s"') == []


async def test_of_what_a_filter_chooses_a_participant_may_mute_its_own_alone(
    admin: Client, track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
        track.client("bob", room_join=True, can_publish=True, room=room) as client,
    ):
        theirs, own = await microphone(alice), await microphone(bob)
        await listed(admin, room, theirs.sid, own.sid)
        denied, done = await calls.mute(client, room, filter="true")
        assert denied.track.participant_identity == "alice"
        assert denied.problem.reason == error_pb2.ERROR_REASON_PERMISSION_DENIED
        assert denied.problem.field == "filter"
        assert (done.track.track_sid, done.muted) == (own.sid, True)
        assert not await calls.muted(admin, room, theirs.sid)
        refused = await refusal(calls.mute(client, room, except_filter='track.participant_identity == "bob"'))
        assert refused.code is DENIED


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"filter": "track.muted &&"}, "filter"),
        ({"filter": "track.name"}, "filter"),
        ({"except_filter": "nothing.of == 1"}, "except_filter"),
        ({"filter": "true", "tracks": [calls.ref("TR_a")]}, "tracks"),
        ({"filter": "true", "expire_time": calls.soon(-5)}, "expire_time"),
        ({"filter": "true", "expire_time": calls.soon(31 * 24 * 3600)}, "expire_time"),
        ({"filter": "true", "expire_time": timestamp_pb2.Timestamp(seconds=2**62)}, "expire_time"),
        ({"filter": "true", "expire_time": timestamp_pb2.Timestamp(seconds=1, nanos=-1)}, "expire_time"),
        ({"filter": "true", "reason": "x" * 257}, "reason"),
    ],
    ids=[
        "no CEL",
        "no bool",
        "unknown name",
        "filter and tracks",
        "past",
        "too far away",
        "no year has it",
        "nanoseconds below 0",
        "long reason",
    ],
)
async def test_bad_filters_and_times_are_refused(
    admin: Client, room: str, fields: dict[str, object], field: str
) -> None:
    request = tracks_pb2.MuteTracksRequest(room=room, **fields)  # type: ignore[arg-type]
    refused = await refusal(admin.MuteTracks(request, timeout=DEADLINE_S))
    assert refused.code is INVALID
    assert refused.fields == (field,)


async def test_a_mute_with_an_end_is_undone_at_its_time(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, watching(admin, room) as events:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        (result,) = await calls.mute(admin, room, mic.sid, expire_time=calls.soon(2), reason="a moment")
        assert result.muted
        told = await whole(events, "track_unmuted")
        assert (told.cause.rule, told.cause.reason) == ("expire_time", "a moment")
        await come_true(lambda: not mic.muted)

        async def recorded() -> bool:
            rows = [row for row in await record(admin, room) if row.method == "expire_time"]
            return [(row.targets[0].track_sid, row.code) for row in rows] == [(mic.sid, 0)]

        await come_true(recorded)


async def test_a_mute_that_somebody_touched_is_not_undone(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        own, touched, lasting = [await microphone(alice, name) for name in ("a", "b", "c")]
        await listed(admin, room, cam.sid, own.sid, touched.sid, lasting.sid)
        # It had muted this one itself.
        calls.mute_self(own)
        await come_true(lambda: calls.muted(admin, room, own.sid))
        for publication in (own, touched, lasting, cam):
            await calls.mute(admin, room, publication.sid, expire_time=calls.soon(6))
        # It unmutes itself, and mutes itself again: that is its own mute.
        await come_true(lambda: touched.muted)
        calls.unmute_self(touched)
        await come_true(lambda: _is(admin, room, touched.sid, False))
        calls.mute_self(touched)
        await come_true(lambda: calls.muted(admin, room, touched.sid))
        # Another mute without an end is for good.
        await calls.mute(admin, room, lasting.sid)
        await come_true(lambda: _is(admin, room, cam.sid, False))
        for sid in (own.sid, touched.sid, lasting.sid):
            assert await calls.muted(admin, room, sid)


async def _is(client: Client, room: str, sid: str, muted: bool) -> bool:
    return await calls.muted(client, room, sid) is muted


async def test_a_mute_of_a_publication_ends_on_the_track_that_it_has_then(restarter: Client, room: str) -> None:
    tone = await publish(restarter, room, TONE)
    await calls.mute(restarter, room, tone.track_sid, expire_time=calls.soon(6))
    await until(restarter, tone, lambda found: found.muted)
    await restart(restarter, tone, RestartLevel.RESTART_LEVEL_REPUBLISH)
    again = await until(restarter, tone, lambda found: found.state == LIVE and found.track_sid != tone.track_sid)
    await until(restarter, again, lambda found: not found.muted)


async def test_a_mute_with_an_end_of_a_publication_that_stalls_ends_too(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("raw_video", stall_mute=0.5, stall_end=60))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        await pusher.play(push.raw(number, picture(0)) for number in range(15))
        await until(admin, known, lambda found: found.state == LIVE)
        stalled = await until(admin, known, lambda found: found.degraded == publication_pb2.DEGRADED_REASON_STALLED)
        (result,) = await calls.mute(admin, room, stalled.track_sid, expire_time=calls.soon(2))
        assert result.stage == OBSERVED
        await until(admin, stalled, lambda found: not found.muted)
        await come_true(lambda: calls.muted(admin, room, stalled.track_sid))
        feeding = asyncio.create_task(pusher.play(push.raw(number, picture(0)) for number in itertools.count(100)))
        await come_true(lambda: _is(admin, room, stalled.track_sid, False))
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def test_where_livekit_forbids_unmuting_hosted_publications_and_companions_do_it_and_the_rest_is_told(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit({"room": {"enable_remote_unmute": False}})
    track = await start_track(livekit)
    async with (
        existing_room(livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as admin,
        participant(livekit, room_name, "alice") as alice,
        participant(livekit, room_name, "bob") as bob,
        attached(bob, await public_key(admin), consent=lambda _: True),
        watching(admin, room_name) as events,
    ):
        tone = await publish(admin, room_name, TONE)
        mic, willing = await microphone(alice), await microphone(bob)
        await listed(admin, room_name, mic.sid, willing.sid)
        sids = (tone.track_sid, mic.sid, willing.sid)
        for _ in range(2):
            await calls.mute(admin, room_name, tone.track_sid)
            await until(admin, tone, lambda found: found.muted)
            (unmuted,) = await calls.unmute(admin, room_name, tone.track_sid)
            assert (unmuted.stage, unmuted.muted) == (OBSERVED, False)
            await until(admin, tone, lambda found: not found.muted)
        await calls.mute(admin, room_name, *sids, expire_time=calls.soon(3), reason="a moment")
        told = await whole(events, "unmute_requested", lambda found: found.track_sid == mic.sid)
        assert (told.unmute_requested.consent, told.unmute_requested.muted) == (
            publication_pb2.CONSENT_UNSPECIFIED,
            True,
        )
        assert told.cause.rule == "expire_time"
        await come_true(lambda: _is(admin, room_name, tone.track_sid, False))
        await come_true(lambda: _is(admin, room_name, willing.sid, False))
        assert mic.muted

        async def recorded() -> bool:
            rows = [row for row in await record(admin, room_name) if row.method == "expire_time"]
            reasons = {row.targets[0].track_sid: row.reason for row in rows}
            return reasons == {
                tone.track_sid: error_pb2.ERROR_REASON_UNSPECIFIED,
                willing.sid: error_pb2.ERROR_REASON_UNSPECIFIED,
                mic.sid: error_pb2.ERROR_REASON_REMOTE_UNMUTE_DISABLED,
            }

        await come_true(recorded)
        refused = await refusal(calls.unmute(admin, room_name, mic.sid))
        assert refused.reason == "REMOTE_UNMUTE_DISABLED"
        # Nobody could do it for it: it is its own doing.
        calls.unmute_self(mic)
        assert not (await whole(events, "track_unmuted", lambda found: found.sid == mic.sid)).HasField("cause")
