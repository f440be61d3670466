"""CreateTrackToken: tokens for one operation, for LiveKit and this service, never wider than the caller's rights."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import jwt
import pytest
from livekit import rtc
from livekit.protocol import rtc as signalling

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone
from tests.publications import DATA, TONE, pattern, publish
from tests.refusals import Refusal, first, refusal
from tests.servicer.principals import bearing
from tests.track_process import Client, TrackProcess
from track.v1 import access_pb2, event_pb2, publication_pb2, token_pb2, track_pb2, tracks_pb2
from track.v1.token_pb2 import CreateTrackTokenRequest as Request

DENIED = grpc.StatusCode.PERMISSION_DENIED
PUBLISH = access_pb2.TRACK_OPERATION_PUBLISH
SUBSCRIBE = access_pb2.TRACK_OPERATION_SUBSCRIBE
OBSERVE = access_pb2.TRACK_OPERATION_OBSERVE
CAMERA = track_pb2.TRACK_SOURCE_CAMERA
MICROPHONE = track_pb2.TRACK_SOURCE_MICROPHONE


async def created(client: Client, **request: Any) -> token_pb2.CreateTrackTokenResponse:
    answer: token_pb2.CreateTrackTokenResponse = await client.CreateTrackToken(Request(**request), timeout=45)
    return answer


async def not_created(client: Client, **request: Any) -> Refusal:
    return await refusal(client.CreateTrackToken(Request(**request), timeout=45))


@contextlib.asynccontextmanager
async def joined(livekit: LiveKitProcess, token: str) -> AsyncIterator[rtc.Room]:
    """LiveKit's own SDK, joined with that token."""
    room = rtc.Room()
    await room.connect(livekit.url, token)
    try:
        yield room
    finally:
        await room.disconnect()


@contextlib.asynccontextmanager
async def speaker(track: TrackProcess, room: str, **grants: Any) -> AsyncIterator[Client]:
    async with track.client("alice", room_join=True, room=room, **grants) as client:
        yield client


async def test_a_token_for_publishing_publishes_what_it_names_and_does_nothing_else(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with speaker(track, room) as alice:
        answer = await created(alice, room=room, operation=PUBLISH, sources=[CAMERA])
    assert answer.participant_identity == "alice"
    assert answer.grants == access_pb2.Grants(room=room, room_join=True, can_publish=True, can_publish_sources=[CAMERA])
    assert not answer.HasField("bounds")
    async with bearing(track, answer.token) as client:
        published = await publish(client, room, pattern())
        assert published.participant_identity == "alice"
        spec = publication_pb2.PublishTrackRequest(room=room, spec=TONE)
        assert (await refusal(client.PublishTrack(spec, timeout=45))).code is DENIED
        assert (await refusal(client.ListTracks(tracks_pb2.ListTracksRequest(room=room)))).code is DENIED
        assert (await refusal(first(client.WatchEvents(event_pb2.WatchEventsRequest(room=room))))).code is DENIED
        mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=published.track_sid)])
        assert (await refusal(client.MuteTracks(mute))).code is DENIED
        assert (await not_created(client, room=room, operation=PUBLISH)).code is DENIED
        ended = publication_pb2.UnpublishTrackRequest(room=room, publication_id=published.publication_id)
        await client.UnpublishTrack(ended, timeout=45)


async def renewed(livekit: LiveKitProcess, token: str) -> str:
    """The token that LiveKit sends a client that has just joined with that one."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{livekit.url}/rtc", params={"access_token": token, "protocol": "16"}) as socket,
        asyncio.timeout(45),
    ):
        while not (response := signalling.SignalResponse.FromString((await socket.receive()).data)).refresh_token:
            pass
        return response.refresh_token


async def test_a_token_that_livekit_renews_is_held_to_the_same_operation_and_bounds(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    bounds = token_pb2.PublishBounds(max_width=320)
    async with speaker(track, room) as alice:
        answer = await created(alice, room=room, operation=PUBLISH, sources=[CAMERA], bounds=bounds)
    token = await renewed(livekit, answer.token)
    assert token != answer.token
    async with bearing(track, token) as client:
        wide = publication_pb2.PublishTrackRequest(room=room, spec=pattern(640, 360), validate_only=True)
        refused = await refusal(client.PublishTrack(wide, timeout=45))
        assert (refused.code, refused.fields) == (DENIED, ("spec.video.width",))
        assert (await refusal(client.ListTracks(tracks_pb2.ListTracksRequest(room=room)))).code is DENIED
        assert (await not_created(client, room=room, operation=PUBLISH)).code is DENIED


async def test_livekit_takes_the_token_and_holds_it_to_its_sources(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with track.client("admin", room_admin=True, room=room) as admin:
        answer = await created(admin, room=room, operation=PUBLISH, sources=[CAMERA], participant_identity="carol")
    async with joined(livekit, answer.token) as sdk:
        assert sdk.local_participant.identity == "carol"
        async with camera(sdk) as published:
            assert published.sid
        with pytest.raises(Exception, match="publication timed out"):
            async with asyncio.timeout(45):
                await microphone(sdk)


async def test_a_token_for_subscribing_subscribes_and_one_for_observing_reads(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    published = await publish(admin, room, TONE, "studio")
    async with speaker(track, room) as alice:
        subscribe = await created(alice, room=room, operation=SUBSCRIBE)
        observe = await created(alice, room=room, operation=OBSERVE)
    update = tracks_pb2.SubscriptionUpdate(participant_identity="alice", track_sid=published.track_sid, subscribe=True)
    updates = tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update])
    listing = tracks_pb2.ListTracksRequest(room=room)
    async with joined(livekit, subscribe.token), bearing(track, subscribe.token) as client:
        assert (await client.UpdateSubscriptions(updates, timeout=45)).results[0].observed
        assert (await refusal(client.ListTracks(listing))).code is DENIED
        request = publication_pb2.PublishTrackRequest(room=room, spec=TONE)
        assert (await refusal(client.PublishTrack(request))).code is DENIED
    async with bearing(track, observe.token) as client:
        assert [found.sid for found in (await client.ListTracks(listing)).tracks] == [published.track_sid]
        assert (await refusal(client.UpdateSubscriptions(updates, timeout=45))).code is DENIED
    assert not observe.grants.can_subscribe
    assert not observe.grants.can_publish


async def test_publications_stay_within_the_tokens_bounds(track: TrackProcess, room: str, admin: Client) -> None:
    bounds = token_pb2.PublishBounds(
        max_bitrate_bps=300_000,
        max_width=640,
        max_height=360,
        max_frames_per_second=10,
        codecs=[publication_pb2.VIDEO_CODEC_H264],
    )
    answer = await created(
        admin, room=room, operation=PUBLISH, participant_identity="alice", sources=[CAMERA, MICROPHONE], bounds=bounds
    )
    assert answer.bounds == bounds
    async with bearing(track, answer.token) as client:
        # What is left open is chosen within.
        published = await publish(
            client, room, publication_pb2.PublicationSpec(test_pattern=publication_pb2.TestPatternInput())
        )
        video = published.spec.video
        assert (video.width, video.height, video.frames_per_second) == (640, 360, 10)
        assert video.codec == publication_pb2.VIDEO_CODEC_H264
        assert video.max_bitrate_bps <= 300_000
        # What is asked for beyond is refused, with its place.
        h264 = publication_pb2.VIDEO_CODEC_H264
        for spec, field in (
            (pattern(1280, 720, 10, codec=h264), "spec.video.width"),
            (pattern(640, 362, 10, codec=h264), "spec.video.height"),
            (pattern(640, 360, 30, codec=h264), "spec.video.frames_per_second"),
            (pattern(320, 180, 10, codec=publication_pb2.VIDEO_CODEC_VP8), "spec.video.codec"),
            (pattern(320, 180, 10, codec=h264, max_bitrate_bps=400_000), "spec.video.max_bitrate_bps"),
            (
                publication_pb2.PublicationSpec(
                    tone=publication_pb2.ToneInput(), audio=publication_pb2.AudioOptions(max_bitrate_bps=400_000)
                ),
                "spec.audio.max_bitrate_bps",
            ),
        ):
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec)
            refused = await refusal(client.PublishTrack(request, timeout=45))
            assert (refused.code, refused.fields) == (DENIED, (field,))


async def test_livekit_too_is_told_of_the_sources_of_the_bounds(room: str, admin: Client) -> None:
    bounds = token_pb2.PublishBounds(sources=[CAMERA])
    answer = await created(admin, room=room, operation=PUBLISH, participant_identity="alice", bounds=bounds)
    assert answer.grants.can_publish_sources == [CAMERA]
    video = jwt.decode(answer.token, options={"verify_signature": False})["video"]
    assert video["canPublishSources"] == ["camera"]
    # What the bounds leave nothing of is no token; an empty list would bound nothing.
    refused = await not_created(
        admin, room=room, operation=PUBLISH, participant_identity="alice", sources=[MICROPHONE], bounds=bounds
    )
    assert (refused.code, refused.fields) == (DENIED, ("bounds.sources",))


async def test_a_token_is_never_wider_than_the_rights_of_who_asks(track: TrackProcess, room: str) -> None:
    async with speaker(track, room, can_publish_sources=["microphone"], can_publish_data=False) as client:
        answer = await created(client, room=room, operation=PUBLISH)
        assert list(answer.grants.can_publish_sources) == [MICROPHONE]
        for request in (
            {"operation": PUBLISH, "sources": [CAMERA]},
            {"operation": PUBLISH, "data": True},
            {"operation": PUBLISH, "participant_identity": "bob"},
            {"operation": OBSERVE, "participant_identity": "bob"},
        ):
            assert (await not_created(client, room=room, **request)).code is DENIED, request
        assert (await not_created(client, room="elsewhere", operation=PUBLISH)).code is DENIED
    async with speaker(track, room, can_publish=False, can_publish_data=False, can_subscribe=False) as client:
        assert (await not_created(client, room=room, operation=PUBLISH)).code is DENIED
        assert (await not_created(client, room=room, operation=SUBSCRIBE)).code is DENIED
        await created(client, room=room, operation=OBSERVE)
    async with track.client("svc", room_list=True, room="elsewhere") as client:
        assert (await not_created(client, room=room, operation=OBSERVE, participant_identity="bob")).code is DENIED


async def test_a_token_for_data_publishes_data_alone(track: TrackProcess, room: str) -> None:
    async with speaker(track, room) as client:
        answer = await created(client, room=room, operation=PUBLISH, data=True)
    assert answer.grants == access_pb2.Grants(room=room, room_join=True, can_publish_data=True)
    async with bearing(track, answer.token) as client:
        await publish(client, room, DATA)
        request = publication_pb2.PublishTrackRequest(room=room, spec=TONE)
        assert (await refusal(client.PublishTrack(request, timeout=45))).code is DENIED


async def test_data_stays_within_the_bitrate_of_the_tokens_bounds(track: TrackProcess, room: str) -> None:
    bounds = token_pb2.PublishBounds(max_bitrate_bps=8_000)
    async with speaker(track, room) as client:
        answer = await created(client, room=room, operation=PUBLISH, data=True, bounds=bounds)
    async with bearing(track, answer.token) as client:
        beyond = publication_pb2.DataInput(frames_per_second=20, frame_bytes=51)
        request = publication_pb2.PublishTrackRequest(room=room, spec=publication_pb2.PublicationSpec(data=beyond))
        refused = await refusal(client.PublishTrack(request, timeout=45))
        assert (refused.code, refused.fields) == (DENIED, ("spec.data",))
        for within in (
            publication_pb2.DataInput(frames_per_second=20, frame_bytes=50),
            publication_pb2.DataInput(frame_bytes=1_001),
        ):
            request.spec.data.CopyFrom(within)
            request.validate_only = True
            await client.PublishTrack(request, timeout=45)


async def test_a_token_ends_when_it_is_said_to_and_never_after_the_callers(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    now = int(time.time())
    claims = {
        "iss": livekit.api_key,
        "sub": "alice",
        "exp": now + 100,
        "video": {"roomJoin": True, "room": room},
    }
    async with bearing(track, jwt.encode(claims, livekit.api_secret, algorithm="HS256")) as client:
        for asked, least, most in ((None, 90, 100), (3600, 90, 100), (30, 25, 40)):
            request = {"room": room, "operation": OBSERVE}
            answer = await created(client, **request, **({"ttl": {"seconds": asked}} if asked else {}))
            expires = jwt.decode(answer.token, options={"verify_signature": False})["exp"]
            assert answer.expire_time.seconds == expires
            assert now + least <= expires <= now + most


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"operation": 0}, "operation"),
        ({"operation": 9}, "operation"),
        ({"operation": PUBLISH, "ttl": {"seconds": 3601}}, "ttl"),
        ({"operation": PUBLISH, "ttl": {"nanos": 1}}, "ttl"),
        ({"operation": PUBLISH, "sources": [CAMERA, CAMERA]}, "sources"),
        ({"operation": PUBLISH, "sources": [0]}, "sources[0]"),
        ({"operation": PUBLISH, "bounds": {"max_bitrate_bps": -1}}, "bounds.max_bitrate_bps"),
        ({"operation": SUBSCRIBE, "sources": [CAMERA]}, "sources"),
        ({"operation": SUBSCRIBE, "data": True}, "data"),
        ({"operation": OBSERVE, "bounds": {"max_width": 640}}, "bounds"),
        ({"operation": PUBLISH, "participant_identity": "x" * 257}, "participant_identity"),
    ],
)
async def test_bad_input_is_named(admin: Client, room: str, request_: dict[str, Any], field: str) -> None:
    refused = await not_created(admin, **({"room": room, "participant_identity": "bob"} | request_))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))


async def test_what_is_left_out_is_asked_for_by_name(admin: Client) -> None:
    refused = await not_created(admin)
    assert refused.message == "room: must not be empty; operation: must be set"
