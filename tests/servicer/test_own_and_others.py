"""What is one's own, and what is others': calls that act on both, on tracks that are there."""

import asyncio
from typing import Any

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import DATA, TONE, pattern, publish, until_listed
from tests.refusals import refusal
from tests.servicer.stage import DENIED
from tests.track_process import TrackProcess
from track.v1 import publication_pb2, tracks_pb2


async def test_ones_own_and_others(track: TrackProcess, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
        camera(alice) as cam,
        track.client("admin", room_admin=True, room=room) as admin,
    ):
        own, others = await microphone(alice), await microphone(bob)
        await until_listed(admin, room, own.sid, others.sid, cam.sid)
        hosted = await publish(admin, room, DATA, "host")

        def mute(client: Any, sid: str) -> Any:
            return client.MuteTracks(
                tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=sid)]), timeout=20
            )

        def subscribe(client: Any, identity: str, sid: str) -> Any:
            update = tracks_pb2.SubscriptionUpdate(participant_identity=identity, track_sid=sid, subscribe=True)
            return client.UpdateSubscriptions(
                tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update]), timeout=20
            )

        def publish_as(client: Any, identity: str, spec: publication_pb2.PublicationSpec) -> Any:
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec, participant_identity=identity)
            return client.PublishTrack(request, timeout=45)

        async with track.client("alice", room_join=True, room=room) as client:
            assert (await mute(client, own.sid)).results[0].muted
            assert (await refusal(mute(client, others.sid))).code is DENIED
            assert (await subscribe(client, "alice", others.sid)).results[0].observed
            assert (await refusal(subscribe(client, "bob", own.sid))).code is DENIED
            assert (await refusal(publish_as(client, "carol", TONE))).code is DENIED
            unpublish = publication_pb2.UnpublishTrackRequest(room=room, publication_id=hosted.publication_id)
            assert (await refusal(client.UnpublishTrack(unpublish))).code is DENIED
            # In one batch: what is one's own is done, the rest is denied by item.
            refs = [tracks_pb2.TrackRef(track_sid=sid) for sid in (own.sid, others.sid)]
            mixed = await client.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=refs), timeout=45)
            assert not mixed.results[0].muted
            assert not mixed.results[0].HasField("problem")
            assert mixed.results[1].problem.code == DENIED.value[0]
            # Nothing is told of a track that one may not act on.
            assert not mixed.results[1].HasField("muted")
        assert not others.muted

        sources = {"can_publish_sources": ["microphone"]}
        async with track.client("alice", room_join=True, room=room, **sources) as client:
            assert (await mute(client, own.sid)).results[0].muted
            assert (await refusal(mute(client, cam.sid))).code is DENIED
            assert (await refusal(publish_as(client, "alice", pattern()))).code is DENIED


async def test_a_publisher_of_some_sources_publishes_those(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    sources = {"can_publish_sources": ["microphone"], "can_publish_data": False}
    async with track.client("dora", room_join=True, room=room, **sources) as client:
        assert (await publish(client, room, TONE)).participant_identity == "dora"
        for spec in (pattern(), DATA):
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec)
            assert (await refusal(client.PublishTrack(request))).code is DENIED
    listed = publication_pb2.ListPublicationsRequest(room=room)
    async with track.client("dora", room_join=True, room=room) as client:
        assert len((await client.ListPublications(listed)).publications) == 1


async def test_what_was_answered_to_one_is_not_handed_to_another(track: TrackProcess, room: str) -> None:
    request = publication_pb2.PublishTrackRequest(room=room, spec=TONE, request_id="same")
    grants = {"room_join": True, "room": room}
    async with track.client("eve", **grants) as eve, track.client("fay", **grants) as fay:
        first, second = await asyncio.gather(*(caller.PublishTrack(request, timeout=30) for caller in (eve, fay)))
    assert first.publication.participant_identity == "eve"
    assert second.publication.participant_identity == "fay"
