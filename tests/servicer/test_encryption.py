"""End-to-end encryption of what this service hosts: with the key it is seen, without it not, and the key is secret."""

import asyncio

import grpc
import pytest
from livekit import rtc

from tests.encrypted import KEY, clocks, encrypted, viewer
from tests.livekit_process import LiveKitProcess
from tests.media.viewer import Viewer, luma
from tests.publications import TONE, pattern, publish, track_of, unpublish
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2
from track_server.media.inputs.clock import read_clock


async def test_only_who_has_the_key_sees_the_pictures(
    admin: Client, livekit: LiveKitProcess, track: TrackProcess, room: str
) -> None:
    publication = await publish(admin, room, encrypted(pattern()), "host")
    assert (await track_of(admin, publication)).encryption == track_pb2.ENCRYPTION_GCM
    async with (
        viewer(livekit, room, "friend", KEY) as friend,
        viewer(livekit, room, "stranger", None) as stranger,
        viewer(livekit, room, "liar", b"guessed") as liar,
    ):
        seen_by_others: list[str] = []

        async def look(who: Viewer, name: str) -> None:
            async with who.frames(publication.track_sid) as frames:
                while True:
                    if read_clock(luma((await frames.get())[1])) is not None:
                        seen_by_others.append(name)

        others = [asyncio.create_task(look(stranger, "stranger")), asyncio.create_task(look(liar, "liar"))]
        try:
            await stranger.publication_of(publication.track_sid)
            await clocks(friend, publication.track_sid, 20)
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        assert not seen_by_others


async def test_the_key_is_shown_to_nobody(admin: Client, track: TrackProcess, room: str) -> None:
    key = b"a-key-that-must-not-be-found-anywhere"
    request = pb.PublishTrackRequest(
        room=room, spec=encrypted(TONE, key), participant_identity="host", request_id="with-key"
    )
    answer = await admin.PublishTrack(request, timeout=30)
    listed = await admin.ListPublications(pb.ListPublicationsRequest(room=room))
    for shown in (answer.publication, *listed.publications):
        assert shown.spec.HasField("encryption")
        assert not shown.spec.encryption.shared_key
    assert key.decode() not in str(answer)
    again = await admin.PublishTrack(request, timeout=30)
    assert not again.publication.spec.encryption.shared_key
    assert key not in track.log_path.read_bytes()


@pytest.mark.parametrize("other", [pattern(), encrypted(pattern(), b"another")], ids=["none", "another"])
async def test_a_participant_has_one_key_for_all_that_it_publishes(
    admin: Client, room: str, other: pb.PublicationSpec
) -> None:
    await publish(admin, room, encrypted(TONE), "host")
    request = pb.PublishTrackRequest(room=room, spec=other, participant_identity="host")
    for validate_only in (True, False):
        request.validate_only = validate_only
        refused = await refusal(admin.PublishTrack(request, timeout=45))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_SUPPORTED")
        assert "spec.encryption" in refused.fields
    listed = await admin.ListPublications(pb.ListPublicationsRequest(room=room))
    assert len(listed.publications) == 1
    # The same key, and others of another participant, may be beside it.
    await publish(admin, room, encrypted(pattern()), "host")
    await publish(admin, room, other, "another-host")


async def test_once_all_has_ended_another_key_may_be_used(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    first = await publish(admin, room, pattern(), "host")
    await unpublish(admin, first)
    second = await publish(admin, room, encrypted(pattern()), "host")
    await unpublish(admin, second)
    third = await publish(admin, room, encrypted(pattern(), b"another"), "host")
    async with viewer(livekit, room, "friend", b"another") as friend:
        await clocks(friend, third.track_sid, 5)


async def test_data_is_encrypted_too(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    payload = b'{"secret": true}'
    messages = pb.DataOptions(delivery=pb.DATA_DELIVERY_RELIABLE_MESSAGES, topic="t")
    data = pb.DataInput(frames_per_second=20, payload=payload)
    async with viewer(livekit, room, "friend", KEY) as friend, viewer(livekit, room, "stranger", None) as stranger:
        heard: dict[str, set[bytes]] = {"friend": set(), "stranger": set()}
        arrived = asyncio.Event()

        def receive(name: str, packet: rtc.DataPacket) -> None:
            heard[name].add(packet.data)
            arrived.set()

        friend.room.on("data_received", lambda packet: receive("friend", packet))
        stranger.room.on("data_received", lambda packet: receive("stranger", packet))
        await publish(admin, room, encrypted(pb.PublicationSpec(data=data, data_options=messages)), "host")
        tracked = await publish(admin, room, encrypted(pb.PublicationSpec(data=data)), "host")
        async with asyncio.timeout(45):
            await arrived.wait()
            remote = await friend.until(lambda: friend.data_tracks.get(tracked.track_sid))
            frame = await anext(aiter(remote.subscribe()))
        assert bytes(frame.payload) == payload
        assert heard["friend"] == {payload}
        assert payload not in heard["stranger"]
