"""Limits of publications and tracks, end to end: each refuses what is beyond with its name and value, and lets through
what is within."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest
from livekit import rtc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import rooms
from tests.participants import camera, microphone, participant
from tests.publications import DATA, TONE, pattern, publish, unpublish
from tests.refusals import read, refusal
from tests.servicer.limited import Pub, Spec, admin_of, ask, asked, full
from tests.servicer.principals import bearing
from tests.streams import events
from track.v1 import access_pb2, event_pb2, server_info_pb2, token_pb2, tracks_pb2

MBIT = 1_000_000

WIDE = pattern(1280, 720, max_bitrate_bps=MBIT)
"""With its simulcast layers 1.61 Mbit/s."""

OF_A = "participant a of room {room}"


@pytest.mark.parametrize(
    ("limit", "value", "within", "beyond", "subject"),
    [
        ("max_publications", 2, [("a", TONE), ("b", TONE)], ("c", TONE), "server"),
        ("max_publications_per_room", 2, [("a", TONE), ("b", TONE)], ("c", TONE), "room {room}"),
        ("max_publications_per_principal", 2, [("a", TONE), ("b", DATA)], ("a", TONE), "principal op"),
        ("max_tracks_per_participant", 2, [("a", TONE), ("b", TONE), ("a", DATA)], ("a", TONE), OF_A),
        ("max_tracks_per_room", 3, [("a", TONE), ("b", TONE), ("a", DATA)], ("c", TONE), "room {room}"),
        ("max_participant_bitrate_bps", 2 * MBIT, [("a", WIDE), ("b", WIDE), ("a", TONE)], ("a", WIDE), OF_A),
        ("max_room_bitrate_bps", 4 * MBIT, [("a", WIDE), ("b", WIDE), ("a", TONE)], ("c", WIDE), "room {room}"),
    ],
)  # fmt: skip
async def test_the_last_place_is_had_and_the_next_publication_is_refused(
    start_track: StartTrack,
    livekit: LiveKitProcess,
    room: str,
    limit: str,
    value: int,
    within: Sequence[tuple[str, Spec]],
    beyond: tuple[str, Spec],
    subject: str,
) -> None:
    async with admin_of(start_track, livekit, room, **{limit: value}) as admin:
        answers = await asyncio.gather(*(ask(admin, asked(room, identity, spec)) for identity, spec in within))
        refused = await refusal(ask(admin, asked(room, *beyond)))
        full(refused, limit, value, subject.format(room=room))
        # What only looks is refused in the same way, and takes nothing.
        full(
            await refusal(ask(admin, asked(room, *beyond, validate_only=True))), limit, value, subject.format(room=room)
        )
        listed = await admin.ListPublications(Pub.ListPublicationsRequest(room=room))
        assert len(listed.publications) == len(within)
        # The answer told of it, and the place is free again once it has ended.
        assert (limit, value) in {(each.name, each.value) for each in answers[-1].limits}
        for found in listed.publications:
            await unpublish(admin, found)
        await ask(admin, asked(room, *beyond, validate_only=True))


async def test_of_many_at_the_last_place_exactly_one_has_it(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    async with admin_of(start_track, livekit, room, max_publications_per_room=1) as admin:
        calls = [ask(admin, asked(room, f"host{number}", TONE)) for number in range(20)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        refused = [read(each) for each in ended if isinstance(each, grpc.aio.AioRpcError)]
        assert len(refused) == 19
        for each in refused:
            full(each, "max_publications_per_room", 1, f"room {room}")
        listed = await admin.ListPublications(Pub.ListPublicationsRequest(room=room))
        assert len(listed.publications) == 1


async def test_tracks_of_clients_count_in_the_room(start_track: StartTrack, livekit: LiveKitProcess, room: str) -> None:
    async with (
        admin_of(start_track, livekit, room, max_tracks_per_room=2) as admin,
        participant(livekit, room, "alice") as alice,
    ):
        await ask(admin, asked(room, "a", TONE))
        await microphone(alice)
        async with events(admin, room) as stream:
            if "alice" not in {track.participant_identity for track in (await stream.snapshot()).tracks}:
                await stream.until("track_published", lambda track: track.participant_identity == "alice")
            full(await refusal(ask(admin, asked(room, "b", TONE))), "max_tracks_per_room", 2, f"room {room}")


async def test_an_option_beyond_a_tracks_limit_is_refused_and_creates_no_room(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    limits = {"max_track_bitrate_bps": 50_000, "max_video_pixels": 320 * 180}
    beyond = (
        (pattern(320, 180, max_bitrate_bps=50_001), "max_track_bitrate_bps", "spec.video.max_bitrate_bps"),
        (
            Spec(tone=Pub.ToneInput(), audio=Pub.AudioOptions(max_bitrate_bps=50_001)),
            "max_track_bitrate_bps",
            "spec.audio.max_bitrate_bps",
        ),
        (Spec(data=Pub.DataInput(frames_per_second=10, frame_bytes=626)), "max_track_bitrate_bps", "spec.data"),
        (pattern(322, 180, max_bitrate_bps=50_000), "max_video_pixels", "spec.video"),
    )
    async with admin_of(start_track, livekit, room_name, **limits) as admin:
        for spec, limit, field in beyond:
            refused = await refusal(ask(admin, asked(room_name, "a", spec, create_room=True)))
            full(refused, limit, limits[limit], "track")
            assert refused.fields == (field,)
        assert await rooms(livekit, room_name) == []


async def test_no_room_is_created_for_a_publication_that_has_no_place(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    async with admin_of(start_track, livekit, room_name, max_publications=0) as admin:
        refused = await refusal(ask(admin, asked(room_name, "a", TONE, create_room=True)))
        full(refused, "max_publications", 0, "server")
        assert await rooms(livekit, room_name) == []


async def test_what_was_left_open_is_chosen_within_the_limits(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    limits = {"max_track_bitrate_bps": 40_000, "max_video_pixels": 320 * 180}
    async with admin_of(start_track, livekit, room, **limits) as admin:
        answer = await ask(admin, asked(room, "a", Spec(test_pattern=Pub.TestPatternInput()), validate_only=True))
        video = answer.publication.spec.video
        assert (video.width, video.height, video.max_bitrate_bps) == (320, 180, 40_000)
        answer = await ask(admin, asked(room, "a", TONE, validate_only=True))
        assert answer.publication.spec.audio.max_bitrate_bps == 40_000
        kept = {limit.name: limit.enforcement for limit in answer.limits}
        assert kept["max_track_bitrate_bps"] == Pub.LIMIT_ENFORCEMENT_ENCODER
        assert kept["max_publications"] == Pub.LIMIT_ENFORCEMENT_ADMISSION


async def test_the_encoder_keeps_a_track_within_the_size_that_the_limit_left(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    async with admin_of(start_track, livekit, room, workers=1, max_video_pixels=320 * 180) as admin:
        published = await publish(admin, room, Spec(test_pattern=Pub.TestPatternInput()), "a")
        track = (await admin.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid=published.track_sid))).track
        assert (track.width, track.height) == (320, 180)
        # A live track counts once: its publication has the participant's one place.
        async with events(admin, room) as stream:
            snapshot = await stream.snapshot()
            assert not snapshot.limits_exceeded


async def test_a_tokens_own_number_of_tracks_is_a_denial_beyond(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with track.client("op", room_admin=True, room=room) as admin:
        wanted = token_pb2.CreateTrackTokenRequest(
            room=room,
            operation=access_pb2.TRACK_OPERATION_PUBLISH,
            participant_identity="alice",
            bounds=token_pb2.PublishBounds(max_tracks=2),
        )
        token = (await admin.CreateTrackToken(wanted, timeout=45)).token
        # What the participant has through others counts as well.
        await ask(admin, asked(room, "alice", TONE))
        async with bearing(track, token) as alice:
            calls = [ask(alice, asked(room, "", TONE)) for _ in range(5)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            refused = [read(each) for each in ended if isinstance(each, grpc.aio.AioRpcError)]
            assert len(refused) == 4
            for each in refused:
                assert (each.code, each.quota) == (grpc.StatusCode.PERMISSION_DENIED, None)
                assert each.metadata["bound"] == "max_tracks"
        await ask(admin, asked(room, "alice", TONE, validate_only=True))


# What others publish.


async def test_what_others_publish_beyond_is_told_once_and_again_after_it_was_within(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    limits = {"max_tracks_per_participant": 1, "max_tracks_per_room": 2}
    async with (
        admin_of(start_track, livekit, room, **limits) as admin,
        participant(livekit, room, "alice") as alice,
        events(admin, room) as stream,
    ):
        await stream.snapshot()
        await microphone(alice, "one")
        second = await microphone(alice, "two")
        told = await stream.until("limit_exceeded")
        assert told == event_pb2.LimitExceeded(
            limit="max_tracks_per_participant", limit_value=1, value=2, participant_identity="alice"
        )
        third = await microphone(alice, "three")
        told = await stream.until("limit_exceeded")
        assert told == event_pb2.LimitExceeded(limit="max_tracks_per_room", limit_value=2, value=3)
        # Who comes later sees it as well.
        async with events(admin, room) as later:
            beyond = {each.limit for each in (await later.snapshot()).limits_exceeded}
            assert beyond == {"max_tracks_per_participant", "max_tracks_per_room"}
        for publication in (third, second):
            await alice.local_participant.unpublish_track(publication.sid)
            await stream.until("track_unpublished")
        await microphone(alice, "four")
        again = await stream.until("limit_exceeded")
        assert again.limit == "max_tracks_per_participant"
        kinds = [message.event.WhichOneof("change") for message in stream.seen]
        assert kinds.count("limit_exceeded") == 3


async def test_a_video_of_others_that_is_too_large_is_told(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        admin_of(start_track, livekit, room, max_video_pixels=320 * 178) as admin,
        participant(livekit, room, "alice") as alice,
        events(admin, room) as stream,
    ):
        await stream.snapshot()
        async with camera(alice, width=320, height=180) as publication:
            told = await stream.until("limit_exceeded")
            assert isinstance(publication, rtc.LocalTrackPublication)
            assert told == event_pb2.LimitExceeded(
                limit="max_video_pixels",
                limit_value=320 * 178,
                value=320 * 180,
                participant_identity="alice",
                track_sid=publication.sid,
            )


async def test_the_server_tells_its_limits(start_track: StartTrack, livekit: LiveKitProcess, room: str) -> None:
    async with admin_of(start_track, livekit, room, max_tracks_per_room=7, max_request_bytes=4096) as admin:
        limits = (await admin.GetServerInfo(server_info_pb2.GetServerInfoRequest())).limits
        told = {quota.name: (quota.value, quota.scope) for quota in limits.quotas}
        assert told["max_tracks_per_room"] == (7, server_info_pb2.QUOTA_SCOPE_ROOM)
        assert told["max_request_bytes"] == (4096, server_info_pb2.QUOTA_SCOPE_REQUEST)
        assert limits.max_request_bytes == 4096
        assert all(scope for _, scope in told.values())
