"""validate_only: everything is checked, nothing is done, and the answer says what would have happened."""

from typing import Any

import grpc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import rooms
from tests.participants import microphone, participant
from tests.publications import ENDED, LIVE, TONE, pattern, publication, publish
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2, track_service_pb2, tracks_pb2
from track.v1.access_pb2 import access

NOT_FOUND = grpc.StatusCode.NOT_FOUND
DENIED = grpc.StatusCode.PERMISSION_DENIED


def test_every_mutation_has_it() -> None:
    for method in track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods:
        assert method.GetOptions().Extensions[access].mutation == ("validate_only" in method.input_type.fields_by_name)


async def test_a_publication_is_completed_and_not_made(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    request = publication_pb2.PublishTrackRequest(
        room=room, spec=pattern(), participant_identity="studio", request_id="once", validate_only=True
    )
    answer = await admin.PublishTrack(request, timeout=45)
    assert answer.stage == publication_pb2.STAGE_UNSPECIFIED
    would = answer.publication
    assert (would.publication_id, would.state, would.track_sid) == ("", 0, "")
    assert (would.room, would.participant_identity, would.spec.video.codec) == (room, "studio", 1)
    listed = await admin.ListPublications(publication_pb2.ListPublicationsRequest(room=room))
    assert not listed.publications
    # The same request_id may now be used for doing it.
    request.validate_only = False
    done = (await admin.PublishTrack(request, timeout=30)).publication
    assert done.state == LIVE
    assert done.spec.video == would.spec.video


async def test_nothing_that_is_made_from_the_id_is_told(room: str, admin: Client) -> None:
    options = publication_pb2.DataOptions(delivery=publication_pb2.DATA_DELIVERY_LOSSY_MESSAGES)
    spec = publication_pb2.PublicationSpec(data=publication_pb2.DataInput(), data_options=options)
    request = publication_pb2.PublishTrackRequest(room=room, spec=spec, validate_only=True)
    would = (await admin.PublishTrack(request, timeout=45)).publication
    assert (would.spec.name, would.spec.data_options.topic, would.participant_identity) == ("", "", "")
    request.spec.name = "cursors"
    would = (await admin.PublishTrack(request, timeout=45)).publication
    assert would.spec.data_options.topic == "cursors"


async def test_a_room_that_would_be_created_is_not(
    track: TrackProcess, livekit: LiveKitProcess, room_name: str, admin: Client
) -> None:
    request = publication_pb2.PublishTrackRequest(room=room_name, spec=TONE, create_room=True, validate_only=True)
    answer = await admin.PublishTrack(request, timeout=45)
    assert answer.publication.participant_identity == ""
    assert not await rooms(livekit, room_name)
    request.create_room = False
    assert (await refusal(admin.PublishTrack(request, timeout=45))).code is NOT_FOUND


async def test_what_would_be_refused_is_refused(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with (
        participant(livekit, room, "alice") as joined,
        track.client("bob", room_join=True, room=room) as bob,
    ):
        own = await microphone(joined)
        taken = publication_pb2.PublishTrackRequest(
            room=room, spec=TONE, participant_identity="alice", validate_only=True
        )
        assert (await refusal(admin.PublishTrack(taken, timeout=45))).code is grpc.StatusCode.ALREADY_EXISTS
        assert (await refusal(bob.PublishTrack(taken, timeout=45))).code is DENIED
        ref = tracks_pb2.TrackRef(track_sid=own.sid)
        mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[ref], validate_only=True)
        assert (await refusal(bob.MuteTracks(mute, timeout=45))).code is DENIED
        mute.tracks[0].track_sid = "TR_none"
        assert (await refusal(admin.MuteTracks(mute, timeout=45))).code is NOT_FOUND


async def test_nothing_is_muted_unpublished_or_subscribed(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    published = await publish(admin, room, TONE, "studio")
    async with participant(livekit, room, "alice", auto_subscribe=False), events(admin, room) as stream:
        await stream.snapshot()
        only: dict[str, Any] = {"room": room, "validate_only": True}
        ref = tracks_pb2.TrackRef(track_sid=published.track_sid)
        muted = (await admin.MuteTracks(tracks_pb2.MuteTracksRequest(tracks=[ref], **only), timeout=45)).results[0]
        assert (muted.stage, muted.muted, muted.track.participant_identity) == (0, False, "studio")
        update = tracks_pb2.SubscriptionUpdate(
            participant_identity="alice", track_sid=published.track_sid, subscribe=True
        )
        request = tracks_pb2.UpdateSubscriptionsRequest(updates=[update], **only)
        subscribed = (await admin.UpdateSubscriptions(request, timeout=45)).results[0]
        assert (subscribed.stage, subscribed.attempts, subscribed.HasField("observed")) == (0, 0, False)
        gone = publication_pb2.UnpublishTrackRequest(publication_id=published.publication_id, **only)
        assert (await admin.UnpublishTrack(gone, timeout=45)).publication.state == LIVE

        # One thing is really done: whatever else had happened would have been seen before it.
        done = tracks_pb2.MuteTracksRequest(room=room, tracks=[ref])
        assert (await admin.MuteTracks(done, timeout=45)).results[0].muted
        await stream.until("track_muted")
        changes = [message.event.WhichOneof("change") for message in stream.seen[1:]]
        assert "track_unpublished" not in changes
        assert changes.count("track_muted") == 1
        update.subscribe = False
        request = tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update])
        assert not (await admin.UpdateSubscriptions(request, timeout=45)).results[0].observed
        assert (await publication(admin, room, published.publication_id)).state != ENDED
