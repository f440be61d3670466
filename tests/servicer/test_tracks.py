"""GetTrack and ListTracks, of rooms that are watched and of rooms that are not."""

import asyncio
import time

import grpc
import pytest
from livekit import api, rtc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import rooms
from tests.participants import camera, microphone, participant
from tests.publications import DATA, publish
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import track_pb2, tracks_pb2

LIVEKIT_API = track_pb2.FRESHNESS_SOURCE_LIVEKIT_API
WATCHED = track_pb2.FRESHNESS_SOURCE_WATCHED
DEADLINE_S = 45.0


async def list_tracks(client: Client, room: str, **query: object) -> tracks_pb2.ListTracksResponse:
    """ListTracks."""
    answer: tracks_pb2.ListTracksResponse = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room, **query))  # type: ignore[arg-type]  # fmt: skip
    return answer


async def until_listed(client: Client, room: str, count: int) -> tracks_pb2.ListTracksResponse:
    """ListTracks, once there are so many."""
    async with asyncio.timeout(DEADLINE_S):
        while len((answer := await list_tracks(client, room)).tracks) < count:
            await asyncio.sleep(0.05)
    return answer


async def test_a_room_is_shown_the_same_watched_and_unwatched(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice, "cam", 320, 180) as cam:
        await microphone(alice, "mic")
        data = await alice.local_participant.publish_data_track(name="positions")
        unwatched = await until_listed(admin, room, 3)
        assert unwatched.freshness.source == LIVEKIT_API
        assert abs(unwatched.freshness.as_of_time.ToSeconds() - time.time()) < 5
        one = await admin.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid=cam.sid))
        assert one.freshness.source == LIVEKIT_API
        async with events(admin, room) as stream:
            await stream.snapshot()
            watched = await list_tracks(admin, room)
            assert watched.freshness.source == WATCHED
            assert watched.tracks == unwatched.tracks
            again = await admin.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid=cam.sid))
            assert again.freshness.source == WATCHED
            assert again.track == one.track

        assert (one.track.sid, one.track.room, one.track.participant_identity) == (cam.sid, room, "alice")
        assert one.track.participant_sid == alice.local_participant.sid
        assert (one.track.name, one.track.type) == ("cam", track_pb2.TRACK_TYPE_VIDEO)
        assert (one.track.width, one.track.height, one.track.simulcast) == (320, 180, False)
        assert one.track.encryption == track_pb2.ENCRYPTION_NONE
        assert one.track.publication_id == ""
        assert not one.track.HasField("metadata")
        by_sid = {found.sid: found for found in unwatched.tracks}
        assert by_sid[data.info.sid].type == track_pb2.TRACK_TYPE_DATA
        assert by_sid[data.info.sid].name == "positions"
        assert by_sid[data.info.sid].source == track_pb2.TRACK_SOURCE_UNSPECIFIED


async def test_tracks_are_filtered(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        mic = await microphone(alice)
        hosted = await publish(admin, room, DATA)
        await until_listed(admin, room, 3)

        async def sids(query: str) -> set[str]:
            return {found.sid for found in (await list_tracks(admin, room, filter=query)).tracks}

        assert await sids("track.type == TrackType.TRACK_TYPE_VIDEO") == {cam.sid}
        assert await sids('track.participant_identity == "alice" && !track.muted') == {cam.sid, mic.sid}
        assert await sids('track.publication_id != ""') == {hosted.track_sid}
        assert await sids("track.source in [TrackSource.TRACK_SOURCE_MICROPHONE]") == {mic.sid}
        # What cannot be evaluated does not match.
        assert await sids('track.metadata.role == "presenter"') == set()
        assert await sids("false") == set()


async def test_tracks_are_ordered_and_come_in_pages_that_miss_nothing(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "bob") as bob, participant(livekit, room, "alice") as alice:
        # Kept: the SDK unpublishes a data track that nobody holds.
        held = [await bob.local_participant.publish_data_track(name=name) for name in ("b", "a")]
        held += [await alice.local_participant.publish_data_track(name=name) for name in ("c", "a")]
        await microphone(alice, "m")
        everything = await until_listed(admin, room, 5)
        assert [found.participant_identity for found in everything.tracks] == ["alice"] * 3 + ["bob"] * 2
        by_identity = [(found.participant_identity, found.sid) for found in everything.tracks]
        assert by_identity == sorted(by_identity)
        named = await list_tracks(admin, room, order_by="name desc, participant_identity")
        assert [(found.name, found.participant_identity) for found in named.tracks] == [
            ("m", "alice"), ("c", "alice"), ("b", "bob"), ("a", "alice"), ("a", "bob"),
        ]  # fmt: skip

        seen, token = [], ""
        while True:
            page = await list_tracks(admin, room, order_by="name", page_size=2, page_token=token)
            assert len(page.tracks) <= 2
            seen += [found.name for found in page.tracks]
            token = page.next_page_token
            if not token:
                break
            kept = token
        assert seen == ["a", "a", "b", "c", "m"]

        others: list[dict[str, object]] = [
            {"order_by": "name", "page_token": kept[:-3]},
            {"order_by": "name", "page_token": "x"},
            {"order_by": "name desc", "page_token": kept},
            {"order_by": "name", "filter": "true", "page_token": kept},
        ]
        for other in others:
            refused = await refusal(list_tracks(admin, room, **other))
            assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
            assert refused.fields == ("page_token",)


async def test_a_page_token_of_another_room_is_refused(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    for _ in range(2):
        await publish(admin, room, DATA, "host")
    page = await list_tracks(admin, room, page_size=1)
    async with track.client("service", room_list=True) as service:
        refused = await refusal(list_tracks(service, f"{room}-b", page_size=1, page_token=page.next_page_token))
    # The room is looked for first.
    assert refused.reason in ("INVALID_PAGE_TOKEN", "ROOM_NOT_FOUND")
    assert refused.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


async def test_end_to_end_encryption_is_shown(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity("alice")
    token = token.with_grants(api.VideoGrants(room_join=True, room=room))
    options = rtc.RoomOptions(encryption=rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=b"k")))
    alice = rtc.Room()
    await alice.connect(livekit.url, token.to_jwt(), options)
    try:
        await microphone(alice)
        (found,) = (await until_listed(admin, room, 1)).tracks
        assert found.encryption == track_pb2.ENCRYPTION_GCM
    finally:
        await alice.disconnect()


async def test_a_mute_of_the_publishers_own_is_shown(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await until_listed(admin, room, 1)
        async with events(admin, room) as stream:
            await stream.snapshot()
            assert mic.track is not None
            mic.track.mute()
            assert (await stream.until("track_muted")).sid == mic.sid
            assert (await list_tracks(admin, room, filter="track.muted")).tracks[0].sid == mic.sid


async def test_an_unknown_room_or_track_is_not_found(admin: Client, room_name: str) -> None:
    refused = await refusal(list_tracks(admin, room_name))
    assert (refused.code, refused.reason, refused.fields) == (grpc.StatusCode.NOT_FOUND, "ROOM_NOT_FOUND", ("room",))


async def test_an_unknown_track_of_a_known_room_is_not_found(admin: Client, room: str) -> None:
    refused = await refusal(admin.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid="TR_none")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TRACK_NOT_FOUND")
    assert refused.fields == ("track_sid",)


@pytest.mark.parametrize("order", ["age", "name,,sid", "name desc desc", "name,name", "name; drop"])
async def test_an_order_that_is_none_is_refused(admin: Client, room: str, order: str) -> None:
    refused = await refusal(list_tracks(admin, room, order_by=order))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refused.fields == ("order_by",)


async def test_reading_an_unknown_room_creates_none(admin: Client, livekit: LiveKitProcess, room_name: str) -> None:
    await refusal(list_tracks(admin, room_name))
    await refusal(admin.GetTrack(tracks_pb2.GetTrackRequest(room=room_name, track_sid="TR_x")))
    assert await rooms(livekit, room_name) == []
