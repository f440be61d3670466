"""Who may pull what, also while it is pulled; and what is wrong with a request."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import DATA, TONE, pattern, publish, unpublish, until_listed
from tests.refusals import Refusal
from tests.restrictions import ENFORCED, clear, restrict, rule, shown
from tests.servicer.pulls import pulling as pull
from tests.servicer.pulls.pulling import FRAMES, MATROSKA, OGG, WAV
from tests.servicer.test_revocation import permit
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import pull_pb2

DENIED = grpc.StatusCode.PERMISSION_DENIED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest_asyncio.fixture
async def alice(track: TrackProcess, room: str) -> AsyncIterator[Client]:
    """A caller who may join the room and subscribe, and does not sit in it unless a test lets her."""
    async with track.client("alice", room_join=True, room=room, can_subscribe=True) as client:
        yield client


async def test_who_may_subscribe_pulls_for_itself_and_for_nobody_else(
    admin: Client, alice: Client, track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    tone = await publish(admin, room, TONE)
    target: dict[str, Any] = {"track_sid": tone.track_sid, "container": WAV}
    await pull.pulled(alice, room, 0.2, **target)
    await pull.pulled(alice, room, 0.2, participant_identity="alice", **target)
    async with (
        track.client("deaf", room_join=True, room=room, can_subscribe=False) as deaf,
        track.client("lister", room_list=True) as lister,
        participant(livekit, room, "bob"),
        participant(livekit, room, "deaf", can_subscribe=False),
    ):
        for client, behalf in ((alice, "bob"), (deaf, ""), (deaf, "deaf"), (lister, ""), (lister, "bob")):
            refused = await pull.refusal_of(client, room, participant_identity=behalf, **target)
            assert (refused.code, refused.reason) == (DENIED, "PERMISSION_DENIED"), behalf
        await pull.pulled(admin, room, 0.2, participant_identity="bob", **target)
        refused = await pull.refusal_of(admin, room, participant_identity="deaf", **target)
        assert (refused.code, refused.reason) == (PRECONDITION, "TARGET_PERMISSION")
        refused = await pull.refusal_of(admin, room, participant_identity="nobody", **target)
        assert (refused.code, refused.reason) == (NOT_FOUND, "PARTICIPANT_NOT_FOUND")
    await pull.nobody_hidden(livekit, room)


async def test_a_private_track_is_pulled_by_whom_its_rule_names_until_it_does_no_more(
    admin: Client, alice: Client, livekit: LiveKitProcess, room: str
) -> None:
    hosted = await publish(admin, room, pattern(), "host")
    target: dict[str, Any] = {"track_sid": hosted.track_sid, "container": MATROSKA}
    by_id = {"publication_id": hosted.publication_id}
    answer = await restrict(admin, room, rule("bob"), **by_id)
    assert answer.permissions.enforcement == ENFORCED
    assert denied(await pull.refusal_of(alice, room, **target))
    assert denied(await pull.refusal_of(alice, room, container=MATROSKA, **by_id))
    # A service that has no participant of its own is named by no rule either.
    refused = await pull.refusal_of(admin, room, **target)
    assert refused.reason in ("PERMISSION_DENIED", "TARGET_PERMISSION")
    async with participant(livekit, room, "alice", auto_subscribe=False):
        refused = await pull.refusal_of(admin, room, participant_identity="alice", **target)
        assert (refused.code, refused.reason) == (PRECONDITION, "TARGET_PERMISSION")
        await restrict(admin, room, rule("alice"), **by_id)
        async with (
            pull.pulling(alice, room, **target) as own,
            pull.pulling(admin, room, participant_identity="alice", **target) as on_behalf,
        ):
            for got in (own, on_behalf):
                await got.until(lambda so_far: len(so_far.media) >= 3)
            # Its session is let in, and shown to nobody.
            assert list((await shown(admin, room, **by_id)).allowed_identities) == ["alice"]
            assert (await shown(admin, room, **by_id)).enforcement == ENFORCED
            await restrict(admin, room, rule("bob"), **by_id)
            for got in (own, on_behalf):
                assert denied(await got.refused())
        await pull.nobody_hidden(livekit, room)
        await clear(admin, room, **by_id)
        await pull.pulled(alice, room, 0.2, **target)


async def test_a_private_track_of_a_client_is_pulled_as_its_rule_says(
    admin: Client, alice: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "carol") as carol, camera(carol) as filmed:
        await until_listed(admin, room, filmed.sid)
        target: dict[str, Any] = {"track_sid": filmed.sid, "frames": FRAMES}
        await restrict(admin, room, rule("alice"), track_sid=filmed.sid)
        async with pull.pulling(alice, room, **target) as got:
            # LiveKit is asked to unsubscribe who may not: this one may, for a while and longer.
            await got.until(lambda so_far: len(so_far.media) >= 40)
            await restrict(admin, room, rule(nobody=True), track_sid=filmed.sid)
            assert denied(await got.refused())
        assert denied(await pull.refusal_of(alice, room, **target))


async def test_the_sound_that_goes_with_a_picture_is_checked_as_well(admin: Client, alice: Client, room: str) -> None:
    seen, heard = await asyncio.gather(publish(admin, room, pattern(), "host"), publish(admin, room, TONE, "other"))
    target: dict[str, Any] = {"track_sid": seen.track_sid, "audio_track_sid": heard.track_sid, "container": MATROSKA}
    async with pull.pulling(alice, room, **target) as got:
        await got.until(lambda so_far: len(so_far.media) >= 2)
        await restrict(admin, room, rule("bob"), publication_id=heard.publication_id)
        assert denied(await got.refused())
    assert denied(await pull.refusal_of(alice, room, **target))


@pytest.mark.parametrize("whose", ["her own", "on her behalf"])
async def test_a_stream_ends_when_the_permission_to_subscribe_is_taken_away(
    admin: Client, alice: Client, livekit: LiveKitProcess, room: str, whose: str
) -> None:
    tone = await publish(admin, room, TONE)
    client, behalf = (alice, "") if whose == "her own" else (admin, "alice")
    async with (
        participant(livekit, room, "alice", auto_subscribe=False),
        pull.pulling(client, room, track_sid=tone.track_sid, container=OGG, participant_identity=behalf) as got,
    ):
        await got.until(lambda so_far: len(so_far.media) >= 2)
        await permit(livekit, room, "alice", can_subscribe=False, can_publish=True)
        assert denied(await got.refused())
    await pull.nobody_hidden(livekit, room)


async def test_where_a_publisher_itself_lets_nobody_subscribe_it_is_said_and_not_waited_for_ever(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "carol") as carol:
        sound = await microphone(carol)
        await carol.announced(sound.sid)
        carol.local_participant.set_track_subscription_permissions(
            allow_all_participants=False,
            participant_permissions=[rtc.ParticipantTrackPermission(participant_identity="bob", allow_all=True)],
        )
        await until_listed(admin, room, sound.sid)
        refused = await pull.refusal_of(admin, room, track_sid=sound.sid, container=WAV)
    assert (refused.code, refused.reason) == (PRECONDITION, "TARGET_PERMISSION")
    await pull.nobody_hidden(livekit, room)


async def test_what_cannot_be_meant_is_refused_with_its_field(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    camera_, tone, data = await asyncio.gather(
        publish(admin, room, pattern(), "host"), publish(admin, room, TONE, "host"), publish(admin, room, DATA, "data")
    )
    video, audio, payloads = camera_.track_sid, tone.track_sid, data.track_sid
    sized = pull_pb2.PullFrames
    cases: list[tuple[dict[str, Any], grpc.StatusCode, str]] = [
        ({"track_sid": "TR_unknown", "container": WAV}, NOT_FOUND, "track_sid"),
        ({"track_sid": "DTR_unknown", "frames": FRAMES}, NOT_FOUND, "track_sid"),
        ({"publication_id": "PUB_unknown", "container": WAV}, NOT_FOUND, "publication_id"),
        ({"track_sid": video, "container": WAV}, INVALID, "container"),
        ({"track_sid": video, "container": OGG}, INVALID, "container"),
        ({"track_sid": payloads, "container": WAV}, PRECONDITION, "container"),
        ({"track_sid": payloads, "container": MATROSKA}, PRECONDITION, "container"),
        ({"track_sid": video, "container": 0}, INVALID, "container"),
        ({"track_sid": video, "container": 9}, INVALID, "container"),
        ({"track_sid": video}, INVALID, "format"),
        ({"container": WAV}, INVALID, "target"),
        ({"track_sid": "x", "container": WAV}, INVALID, "track_sid"),
        ({"track_sid": video, "frames": sized(width=160)}, INVALID, "frames"),
        ({"track_sid": video, "frames": sized(width=161, height=90)}, INVALID, "frames.width"),
        ({"track_sid": video, "frames": sized(width=160, height=8)}, INVALID, "frames.height"),
        ({"track_sid": video, "frames": sized(width=9999, height=90)}, INVALID, "frames.width"),
        ({"track_sid": video, "frames": sized(channels=2)}, INVALID, "frames.channels"),
        ({"track_sid": audio, "frames": sized(channels=3)}, INVALID, "frames.channels"),
        ({"track_sid": audio, "frames": sized(width=160, height=90)}, INVALID, "frames.width"),
        ({"track_sid": video, "audio_track_sid": audio, "frames": FRAMES}, INVALID, "audio_track_sid"),
        ({"track_sid": audio, "audio_track_sid": audio, "container": MATROSKA}, INVALID, "audio_track_sid"),
        ({"track_sid": audio, "audio_track_sid": "TR_unknown", "container": MATROSKA}, INVALID, "audio_track_sid"),
        ({"track_sid": video, "audio_track_sid": "TR_unknown", "container": MATROSKA}, NOT_FOUND, "audio_track_sid"),
        ({"track_sid": video, "audio_track_sid": video, "container": MATROSKA}, INVALID, "audio_track_sid"),
        ({"track_sid": video, "container": MATROSKA, "encryption_key": b"k" * 257}, INVALID, "encryption_key"),
        ({"track_sid": video, "container": MATROSKA, "seconds": -1}, INVALID, "max_duration"),
        ({"track_sid": video, "container": MATROSKA, "seconds": 86_401}, INVALID, "max_duration"),
    ]
    for fields, code, field in cases:
        refused = await pull.refusal_of(admin, room, **fields)
        assert (refused.code, refused.fields) == (code, (field,)), (fields, refused)
    await unpublish(admin, pb.Publication(room=room, publication_id=tone.publication_id))
    refused = await pull.refusal_of(admin, room, publication_id=tone.publication_id, container=WAV)
    assert (refused.code, refused.reason) == (PRECONDITION, "PUBLICATION_ENDED")
    await pull.nobody_hidden(livekit, room)


def denied(refused: Refusal) -> bool:
    """Whether it is a denial."""
    return (refused.code, refused.reason) == (DENIED, "PERMISSION_DENIED")
