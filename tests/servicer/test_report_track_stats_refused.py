"""ReportTrackStats: which samples are refused, and what ends the stream."""

import asyncio
import contextlib
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import Joined, microphone, participant
from tests.servicer.test_grpcurl import run
from tests.servicer.track_stats import DEADLINE_S, message, refused, reported, sample, sound
from tests.subscriptions import listed
from tests.track_process import Client, TrackProcess
from track.v1.quality_stats_pb2 import ReportTrackStatsRequest, TrackStats

Scene = tuple[str, Joined, rtc.LocalTrackPublication]


@pytest_asyncio.fixture(scope="module")
async def scene(livekit: LiveKitProcess, track: TrackProcess) -> AsyncIterator[Scene]:
    """A room in which Bob publishes sound, and Alice and Carol are, for the tests that change nothing in it. None of
    them sends more than three messages in one's name."""
    room = "room-reported-stats"
    async with (
        existing_room(livekit, room),
        participant(livekit, room, "bob") as bob,
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "carol"),
        track.client("admin", room_admin=True, room=room) as admin,
    ):
        mic = await microphone(bob)
        await listed(admin, room, mic.sid)
        yield room, alice, mic


@pytest_asyncio.fixture
async def dave(livekit: LiveKitProcess, track: TrackProcess, scene: Scene) -> AsyncIterator[Client]:
    """One who joined the scene for this test alone: of what was told before there is nothing."""
    room, identity = scene[0], f"dave-{secrets.token_hex(3)}"
    async with (
        participant(livekit, room, identity),
        track.client(identity, room_join=True, room=room) as client,
    ):
        yield client


async def test_what_ends_a_stream_says_what_became_of_the_samples_before(dave: Client, scene: Scene) -> None:
    room, _, mic = scene
    bad = await refused(
        dave,
        message(room, sound(mic.sid, -2), sound("TR_none", -2)),
        message("", sound(mic.sid, -1)),
        message("", sample(mic.sid, jitter_ms=math.nan)),
    )
    assert (bad.code, bad.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("samples[0].streams[0].jitter_ms",))
    assert bad.metadata == {"message": "3", "taken_samples": "2", "refused_samples": "1"}


async def test_order_and_counters_are_held_against_what_earlier_streams_told(dave: Client, scene: Scene) -> None:
    room, _, mic = scene
    # All are made at once: later ones would be as much later as the first report took.
    first = sound(mic.sid, -3)
    again = [first, sound(mic.sid, -5), sound(mic.sid, -2, packets=170_000), sound(mic.sid, -1)]
    assert (await reported(dave, message(room, first))).taken_samples == 1
    answer = await reported(dave, message(room, *again))
    assert (answer.taken_samples, answer.refused_samples) == (1, 3)
    assert [each.field for each in answer.problems] == [
        "samples[0].measure_time",
        "samples[1].measure_time",
        "samples[2].streams[0].packets",
    ]


async def test_each_sample_that_cannot_be_true_is_refused_for_itself(dave: Client, scene: Scene) -> None:
    room, _, mic = scene
    early = sound(mic.sid, -2)
    early.streams[0].last_packet_time.FromNanoseconds(time.time_ns() + 60 * 10**9)
    once = sound(mic.sid, -3)
    first = [
        sound(mic.sid, -5),
        sound("TR_none", -4),
        sound(mic.sid, -4, sent=True),
        sound(mic.sid, 3600),
        sound(mic.sid, -300),
        sound(mic.sid, -9),
        sound(mic.sid, -4, packets=179_000),
        once,
    ]
    second = [once, sound(mic.sid, -2, concealed_samples=10**9), early, sound(mic.sid, -1)]
    answer = await reported(dave, message(room, *first), message("", *second))
    assert (answer.taken_samples, answer.refused_samples) == (3, 9)
    assert [(each.metadata["message"], each.field) for each in answer.problems] == [
        ("1", "samples[1].track_sid"),
        ("1", "samples[2].sent"),
        ("1", "samples[3].measure_time"),
        ("1", "samples[4].measure_time"),
        ("1", "samples[5].measure_time"),
        ("1", "samples[6].streams[0].packets"),
        ("2", "samples[0].measure_time"),
        ("2", "samples[1].streams[0].concealed_samples"),
        ("2", "samples[2].streams[0].last_packet_time"),
    ]
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT.value[0], grpc.StatusCode.NOT_FOUND.value[0]
    assert [each.code for each in answer.problems] == [missing, *[invalid] * 8]
    assert all(each.message for each in answer.problems)


async def test_of_a_hundred_refused_samples_it_is_told_why(dave: Client, scene: Scene) -> None:
    room, _, mic = scene
    samples = [sound("TR_none", 0)] * 150
    answer = await reported(dave, message(room, *samples, sound(mic.sid, 0)))
    assert (answer.taken_samples, answer.refused_samples, len(answer.problems)) == (1, 150, 100)


async def test_a_data_track_has_no_streams(
    livekit: LiveKitProcess, track: TrackProcess, admin: Client, room: str
) -> None:
    async with participant(livekit, room, "bob") as bob, participant(livekit, room, "alice"):
        data = await bob.local_participant.publish_data_track(name="positions")
        await listed(admin, room, data.info.sid)
        async with track.client("alice", room_join=True, room=room) as alice:
            bad = await refused(alice, message(room, sample(data.info.sid)))
    assert (bad.code, bad.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("samples[0].track_sid",))


@pytest.mark.parametrize(
    ("stream", "field"),
    [
        ({"jitter_ms": math.nan}, "jitter_ms"),
        ({"rtt_ms": math.inf}, "rtt_ms"),
        ({"frames_per_second": -math.inf}, "frames_per_second"),
        ({"audio_level": math.nan}, "audio_level"),
        ({"audio_level": 1.5}, "audio_level"),
        ({"frame_width": 20_000}, "frame_width"),
        ({"quality_limitation": 9}, "quality_limitation"),
        ({"jitter_ms": -1.0}, "jitter_ms"),
    ],
    ids=str,
)
async def test_a_number_that_is_none_or_out_of_its_range_ends_the_stream(
    track: TrackProcess,
    scene: Scene,
    stream: Mapping[str, Any],
    field: str,
) -> None:
    room, _, mic = scene
    async with track.client("alice", room_join=True, room=room) as alice:
        bad = await refused(alice, message(room, sample(mic.sid, **stream)))
    assert (bad.code, bad.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (f"samples[0].streams[0].{field}",))


async def test_a_stream_is_about_one_participant_in_one_room(track: TrackProcess, scene: Scene) -> None:
    room, _, mic = scene
    one = sound(mic.sid, -1)
    async with (
        track.client("alice", room_join=True, room=room) as alice,
        track.client("admin", room_admin=True, room=room) as admin,
        track.client("eve", room_join=True, room="elsewhere") as eve,
    ):
        cases: list[tuple[Client, Iterable[ReportTrackStatsRequest], str, tuple[str, ...]]] = [
            (alice, [], "INVALID_ARGUMENT", ()),
            (alice, [message("", one)], "INVALID_ARGUMENT", ("room",)),
            (alice, [message(room), message("elsewhere", one)], "INVALID_ARGUMENT", ("room",)),
            (alice, [message(room), message(identity="bob")], "INVALID_ARGUMENT", ("participant_identity",)),
            (alice, [message(room, one, identity="bob")], "PERMISSION_DENIED", ()),
            (eve, [message(room, one)], "PERMISSION_DENIED", ()),
            (admin, [message(room, one, identity="nobody")], "NOT_FOUND", ("participant_identity",)),
            (alice, [message(room, *[one] * 201)], "INVALID_ARGUMENT", ("samples",)),
            (alice, [message(room, TrackStats(track_sid=mic.sid))], "INVALID_ARGUMENT", ("samples[0].measure_time",)),
        ]
        for client, requests, code, fields in cases:
            bad = await refused(client, *requests)
            assert bad.code.name == code, bad
            assert bad.fields[: len(fields)] == fields, bad
        # Naming what it is anyway is none of it.
        answer = await reported(alice, message(room, identity="alice"), message(room, one, identity="alice"))
        assert answer.taken_samples == 1


async def test_who_sends_more_than_a_message_a_second_is_told_when_to_go_on_over_all_its_streams(
    livekit: LiveKitProcess, track: TrackProcess, room: str
) -> None:
    async with participant(livekit, room, "alice"), track.client("alice", room_join=True, room=room) as alice:
        one = sound("TR_none", 0)
        # What only names the room costs nothing.
        await reported(alice, message(room), *[message(room, one)] * 3)
        bad = await refused(alice, *[message(room, one)] * 100)
        assert bad.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert bad.reason == "LIMIT_EXCEEDED"
        assert bad.retry_s is not None
        assert 0 < bad.retry_s <= 1
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await asyncio.sleep(bad.retry_s)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await reported(alice, message(room, one))
                    break


async def test_grpcurl_reports_in_several_messages(
    track: TrackProcess, grpcurl: Path, tmp_path: Path, scene: Scene
) -> None:
    room, _, mic = scene

    def text(*samples: TrackStats) -> dict[str, Any]:
        return json_format.MessageToDict(message("", *samples))

    messages = [
        {"room": room, **text(sound(mic.sid, -2), sound(mic.sid, -1))},
        text(sound(mic.sid, 0), sound("TR_x", 0)),
    ]
    bearer = f"authorization: Bearer {track.token('carol', room_join=True, room=room)}"
    body = "\n".join(map(json.dumps, messages))
    status, output, errors = await run(
        grpcurl, "-H", bearer, "-d", body, track.address, "track.v1.TrackService/ReportTrackStats"
    )
    assert status == 0, errors
    answer = json.loads(output)
    assert set(answer) == {"taken_samples", "refused_samples", "problems"}, answer
    assert (answer["taken_samples"], answer["refused_samples"]) == ("3", "1")
    (problem,) = answer["problems"]
    assert (problem["field"], problem["metadata"]) == ("samples[1].track_sid", {"message": "2"})
    nan = '{"samples": [{"trackSid": "TR_x", "measureTime": "2026-01-01T00:00:00Z", "streams": [{"jitterMs": "NaN"}]}]}'
    body = json.dumps({"room": room}) + nan
    status, _, errors = await run(
        grpcurl, "-H", bearer, "-d", body, track.address, "track.v1.TrackService/ReportTrackStats"
    )
    assert status != 0
    assert "Code: InvalidArgument" in errors
    assert "samples[0].streams[0].jitter_ms" in errors
