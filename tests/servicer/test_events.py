"""WatchEvents: a snapshot, then every change."""

import asyncio

import grpc
import pytest
from livekit import api

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, livekit_api, rooms
from tests.participants import camera, microphone, participant
from tests.publications import DATA, ENDED, LIVE, TONE, pattern, publish, unpublish
from tests.refusals import first, refusal
from tests.streams import DEADLINE_S, events
from tests.track_process import Client
from track.v1 import event_pb2, publication_pb2, quality_pb2, track_pb2, tracks_pb2


async def test_a_stream_begins_with_all_of_the_room(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        hosted = await publish(admin, room, DATA, "host")
        async with asyncio.timeout(DEADLINE_S), events(admin, room) as stream:
            message = await stream.next()
    assert message.cursor
    snapshot = message.snapshot
    assert snapshot.reason == event_pb2.SNAPSHOT_REASON_INITIAL
    assert snapshot.room == room
    assert snapshot.room_sid.startswith("RM_")
    assert [found.identity for found in snapshot.participants] == ["alice", "host"]
    kinds = [found.kind for found in snapshot.participants]
    assert kinds == [track_pb2.PARTICIPANT_KIND_STANDARD, track_pb2.PARTICIPANT_KIND_AGENT]
    assert [found.sid for found in snapshot.tracks] == [mic.sid, hosted.track_sid]
    assert [found.publication_id for found in snapshot.publications] == [hosted.publication_id]
    assert snapshot.freshness.source == track_pb2.FRESHNESS_SOURCE_WATCHED


async def test_every_kind_of_change_is_an_event_with_a_cursor(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with events(admin, room) as stream:
        await stream.snapshot()
        async with participant(livekit, room, "alice", can_update_own_metadata=True) as alice:
            joined = await stream.until("participant_joined")
            assert (joined.identity, joined.permission.can_publish) == ("alice", True)
            await alice.local_participant.set_name("Alice A.")
            assert (await stream.until("participant_updated")).name == "Alice A."
            await alice.local_participant.set_attributes({"hand": "up"})
            updated = await stream.until("participant_updated", lambda found: found.attributes.get("hand") == "up")
            assert updated.name == "Alice A."
            async with camera(alice) as cam:
                assert (await stream.until("track_published")).sid == cam.sid
                quality = await stream.until("quality_changed")
                assert quality.participant_identity == "alice"
                assert quality.connection_quality == quality_pb2.CONNECTION_QUALITY_EXCELLENT
                mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=cam.sid)])
                await admin.MuteTracks(mute)
                muted = await stream.until("track_muted")
                assert (muted.sid, muted.muted) == (cam.sid, True)
                unmute = tracks_pb2.UnmuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=cam.sid)])
                await admin.UnmuteTracks(unmute)
                unmuted = await stream.until("track_unmuted")
                assert (unmuted.sid, unmuted.muted) == (cam.sid, False)
                await alice.local_participant.unpublish_track(cam.sid)
                assert (await stream.until("track_unpublished")).sid == cam.sid
            async with livekit_api(livekit) as server:
                denied = api.ParticipantPermission(can_subscribe=True, can_publish=False)
                request = api.UpdateParticipantRequest(room=room, identity="alice", permission=denied)
                await server.room.update_participant(request)
            changed = await stream.until("participant_updated", lambda found: not found.permission.can_publish)
            assert changed.permission.can_subscribe
        assert (await stream.until("participant_left")).identity == "alice"
    cursors = [message.cursor for message in stream.seen]
    assert len(set(cursors)) == len(cursors)
    assert all(message.event.HasField("time") for message in stream.seen[1:])


async def test_a_publication_moves_through_its_life_in_events(admin: Client, room: str) -> None:
    async with events(admin, room) as stream:
        await stream.snapshot()
        live = await publish(admin, room, pattern())
        states: list[int] = []
        while not states or states[-1] != LIVE:
            states.append((await stream.until("publication_moved")).state)
        assert states == [
            publication_pb2.PUBLICATION_STATE_PENDING,
            publication_pb2.PUBLICATION_STATE_STARTING,
            LIVE,
        ]
        ref = tracks_pb2.TrackRef(track_sid=live.track_sid)
        await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref]))
        muted = await stream.until("publication_moved")
        assert (muted.publication_id, muted.state, muted.muted) == (live.publication_id, LIVE, True)
        await admin.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=[ref]))
        assert not (await stream.until("publication_moved")).muted
        await unpublish(admin, live)
        # LiveKit may tell a quick mute and unmute once more, as the publisher's client confirms them.
        ended = await stream.until("publication_moved", lambda moved: moved.state == ENDED)
        assert (ended.state, ended.end_cause) == (ENDED, publication_pb2.PUBLICATION_END_CAUSE_CALLER)
        # By name and publication, the room's own events tell of the same track.
    published = [message.event.track_published for message in stream.seen if message.event.HasField("track_published")]
    assert live.track_sid in [found.sid for found in published]


async def test_a_stream_resumes_after_any_cursor_without_loss_or_doubles(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with events(admin, room) as stream:
        await stream.snapshot()
        async with participant(livekit, room, "alice") as alice:
            await microphone(alice)
            await stream.until("track_published")
        await stream.until("participant_left")
    seen = stream.seen
    for index in range(len(seen) - 1):
        async with events(admin, room, seen[index].cursor) as resumed:
            for expected in seen[index + 1 :]:
                assert await resumed.next() == expected


@pytest.mark.parametrize("cursor", ["x", "0", "abc-1", "0123456789ab-", "0123456789ab-x"])
async def test_a_cursor_that_is_none_of_ours_is_refused(admin: Client, room: str, cursor: str) -> None:
    refused = await refusal(first(admin.WatchEvents(event_pb2.WatchEventsRequest(room=room, cursor=cursor))))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR")
    assert refused.fields == ("cursor",)


async def test_a_cursor_of_another_watch_is_answered_by_a_snapshot_that_says_so(admin: Client, room: str) -> None:
    async with events(admin, room, "0123456789ab-7") as stream:
        assert (await stream.snapshot()).reason == event_pb2.SNAPSHOT_REASON_CURSOR_UNKNOWN


async def test_the_stream_of_a_deleted_room_ends_with_ok(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    tone = await publish(admin, room, TONE)
    async with events(admin, room) as stream:
        await stream.snapshot()
        await delete_room(livekit, room)
        closed = await stream.until("room_closed")
        assert closed.reason in ("ROOM_CLOSED", "ROOM_DELETED")
        with pytest.raises(StopAsyncIteration):
            await stream.next()
    answer = await admin.GetPublication(
        publication_pb2.GetPublicationRequest(room=room, publication_id=tone.publication_id)
    )
    assert answer.publication.room == room


async def test_watching_an_unknown_room_is_not_found_and_creates_none(
    admin: Client, livekit: LiveKitProcess, room_name: str
) -> None:
    refused = await refusal(first(admin.WatchEvents(event_pb2.WatchEventsRequest(room=room_name))))
    assert (refused.code, refused.reason, refused.fields) == (grpc.StatusCode.NOT_FOUND, "ROOM_NOT_FOUND", ("room",))
    assert await rooms(livekit, room_name) == []


async def test_many_watch_one_room_and_see_the_same(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with events(admin, room) as one, events(admin, room) as two:
        await asyncio.gather(one.snapshot(), two.snapshot())
        async with participant(livekit, room, "alice"):
            await asyncio.gather(one.until("participant_joined"), two.until("participant_joined"))
        await asyncio.gather(one.until("participant_left"), two.until("participant_left"))
        assert one.seen[1:] == two.seen[1:]
