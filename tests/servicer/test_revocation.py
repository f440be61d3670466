"""What rests on a permission ends with it: streams, publications, subscriptions, by LiveKit's own permissions."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import jwt
from livekit import api

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api
from tests.participants import microphone, participant
from tests.publications import DATA, ENDED, TONE, pattern, publish, until, until_listed
from tests.refusals import read, refusal
from tests.servicer.principals import bearing
from tests.streams import EventStream, events
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2, tracks_pb2

DENIED = grpc.StatusCode.PERMISSION_DENIED
REVOKED = publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED


async def permit(livekit: LiveKitProcess, room: str, identity: str, **permission: Any) -> None:
    """Gives the participant those permissions and no others, through LiveKit's own API."""
    async with livekit_api(livekit) as client:
        await client.room.update_participant(
            api.UpdateParticipantRequest(
                room=room, identity=identity, permission=api.ParticipantPermission(**permission)
            )
        )


async def refused_end(stream: EventStream) -> Any:
    """Reads until the stream fails, and how."""
    try:
        await stream.end()
    except grpc.aio.AioRpcError as error:
        return read(error)
    raise AssertionError("the stream ended with OK")


@contextlib.asynccontextmanager
async def alice(track: TrackProcess, room: str) -> AsyncIterator[Client]:
    async with track.client("alice", room_join=True, room=room) as client:
        yield client


async def test_a_permission_that_livekit_took_away_is_taken_away_here_although_the_token_has_it(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as joined, participant(livekit, room, "bob") as bob:
        own, others = await microphone(joined), await microphone(bob)
        async with alice(track, room) as client:
            await until_listed(client, room, own.sid, others.sid)
        mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=own.sid)])
        subscribe = tracks_pb2.UpdateSubscriptionsRequest(
            room=room,
            updates=[tracks_pb2.SubscriptionUpdate(participant_identity="alice", track_sid=others.sid, subscribe=True)],
        )
        async with alice(track, room) as client, events(client, room) as stream:
            await stream.snapshot()
            assert (await client.MuteTracks(mute, timeout=45)).results[0].muted
            assert (await client.UpdateSubscriptions(subscribe, timeout=45)).results[0].observed
            await permit(livekit, room, "alice", can_subscribe=False, can_publish=True, can_publish_data=False)
            await stream.until("participant_updated", lambda found: not found.permission.can_subscribe)
            assert (await refusal(client.UpdateSubscriptions(subscribe, timeout=45))).code is DENIED
            # What is left is left.
            unmute = tracks_pb2.UnmuteTracksRequest(room=room, tracks=mute.tracks)
            assert not (await client.UnmuteTracks(unmute, timeout=45)).results[0].muted


async def test_a_subscription_goes_with_the_permission_to_subscribe(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with participant(livekit, room, "alice", auto_subscribe=False), participant(livekit, room, "bob") as bob:
        others = await microphone(bob)
        await until_listed(admin, room, others.sid)
        update = tracks_pb2.SubscriptionUpdate(participant_identity="alice", track_sid=others.sid, subscribe=True)
        request = tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update])
        async with alice(track, room) as client:
            assert (await client.UpdateSubscriptions(request, timeout=45)).results[0].observed
        await permit(livekit, room, "alice", can_subscribe=False, can_publish=True)
        # To take it away again tells whether it is there.
        request.updates[0].subscribe = False
        assert not (await admin.UpdateSubscriptions(request, timeout=45)).results[0].observed


async def test_a_hosted_publication_ends_when_its_participant_may_no_longer_publish_it(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with alice(track, room) as client:
        data, video = await publish(client, room, DATA), await publish(client, room, pattern())
        await permit(livekit, room, "alice", can_publish=True, can_publish_data=False, can_subscribe=True)
        ended = await until(client, data, lambda found: found.state == ENDED)
        assert ended.end_cause == REVOKED
        again = publication_pb2.PublishTrackRequest(room=room, spec=DATA)
        assert (await refusal(client.PublishTrack(again, timeout=45))).code is DENIED
        # The other one is covered as before.
        known = await until(client, video, lambda found: True)
        assert known.state != ENDED


async def test_the_streams_of_a_participant_that_was_removed_are_closed_and_no_others(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with (
        participant(livekit, room, "alice") as joined,
        alice(track, room) as client,
        track.client("bob", room_join=True, room=room) as bob,
        events(client, room) as stream,
        events(bob, room) as other,
        events(admin, room) as admins,
    ):
        for each in (stream, other, admins):
            await each.snapshot()
        await microphone(joined)
        for each in (stream, other, admins):
            await each.until("track_published")
        async with livekit_api(livekit) as livekits:
            await livekits.room.remove_participant(api.RoomParticipantIdentity(room=room, identity="alice"))
        refused = await refused_end(stream)
        assert (refused.code, refused.reason) == (DENIED, "PERMISSION_DENIED")
        for each in (other, admins):
            left = await each.until("participant_left", lambda found: found.identity == "alice")
            assert left.disconnect_reason == "PARTICIPANT_REMOVED"


async def test_a_stream_ends_with_its_token(track: TrackProcess, livekit: LiveKitProcess, room: str) -> None:
    claims = {
        "iss": livekit.api_key,
        "sub": "alice",
        "exp": int(time.time()) + 6,
        "video": {"roomJoin": True, "room": room},
    }
    token = jwt.encode(claims, livekit.api_secret, algorithm="HS256")
    async with bearing(track, token) as client, events(client, room) as stream:
        await stream.snapshot()
        refused = await refused_end(stream)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert time.time() >= claims["exp"]  # type: ignore[operator]  # a number


async def test_what_an_admin_published_stays_when_others_lose_permissions(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    published = await publish(admin, room, TONE, "studio")
    async with participant(livekit, room, "alice") as joined, events(admin, room) as stream:
        await stream.snapshot()
        await microphone(joined)
        await stream.until("track_published", lambda found: found.participant_identity == "alice")
        await permit(livekit, room, "alice", can_publish=False)
        await stream.until("track_unpublished", lambda found: found.participant_identity == "alice")
        assert (await until(admin, published, lambda found: True)).state != ENDED
