"""Metadata of tracks over what happens to them: reconnects, ends, restarts, and clients that write by themselves."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import participant
from tests.publications import TONE, publish
from tests.streams import events
from tests.track_process import Client, TrackProcess
from tests.tracks_metadata import (
    Seen,
    announced_microphone,
    attributes_in,
    get_metadata,
    name_of,
    patching,
    plain,
    set_metadata,
    shown,
    until_attributes,
    until_metadata,
)
from track.v1 import metadata_pb2 as pb
from track.v1 import tracks_pb2

CARRIED = pb.METADATA_CHANGE_REASON_CARRIED_OVER
ENDED = pb.METADATA_CHANGE_REASON_TRACK_ENDED
RESTORED = pb.METADATA_CHANGE_REASON_OVERWRITE_RESTORED
ACCEPTED = pb.METADATA_CHANGE_REASON_OVERWRITE_ACCEPTED
LEFT = pb.METADATA_CHANGE_REASON_OVERWRITE_LEFT


@pytest_asyncio.fixture(scope="module")
async def brief(livekit: LiveKitProcess, tmp_path_factory) -> AsyncIterator[TrackProcess]:  # type: ignore[no-untyped-def]
    """A server that keeps the metadata of tracks which are gone for a moment only, and publishes every two seconds."""
    directory: Path = tmp_path_factory.mktemp("brief")
    settings = {
        "TRACK_METADATA_RETURN_SECONDS": "1",
        "TRACK_METADATA_WRITES_PER_SECOND": "0.5",
        "TRACK_MEDIA_WORKERS": "0",
    }
    async with TrackProcess(livekit, directory, settings) as server:
        yield server


async def test_it_goes_along_when_a_participant_comes_back(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "bob") as bob, events(admin, room) as stream:
        await stream.snapshot()
        seen = Seen(bob, "alice")
        async with participant(livekit, room, "alice") as alice:
            first = await announced_microphone(alice)
            before = await set_metadata(admin, room, first.sid, {"a": 1})
        await stream.until("participant_left")
        (listed,) = [known async for known in listing(admin, room)]
        assert (listed.track_sid, plain(listed), listed.published) == ("", {"a": 1}, False)
        async with participant(livekit, room, "alice") as alice:
            other = await announced_microphone(alice, "another name")
            second = await announced_microphone(alice)
            carried = await stream.until("metadata_changed", lambda found: found.reason == CARRIED)
            assert (carried.metadata.track_sid, carried.metadata.etag) == (second.sid, before.etag)
            # It was there from the first moment on.
            published = [message.event.track_published for message in stream.seen]
            assert [plain(found) for found in published if found.sid == second.sid] == [{"a": 1}]
            await seen.until(lambda: seen.metadata(second.sid) == {"a": 1})
            assert await shown(admin, room) == {second.sid: {"a": 1}}
            assert (await get_metadata(admin, room, other.sid)).etag == "0"


async def test_it_goes_along_when_a_track_is_published_again(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        first = await announced_microphone(alice)
        await set_metadata(admin, room, first.sid, {"a": 1})
        await alice.local_participant.unpublish_track(first.sid)
        await until_attributes(livekit, room, "alice", lambda found: name_of(first.sid) not in found)
        second = await announced_microphone(alice)
        await until_metadata(admin, room, second.sid, lambda found: found.published)
        assert await shown(admin, room) == {second.sid: {"a": 1}}


async def test_a_track_like_it_that_was_there_beside_it_does_not_get_it(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        first, beside = await announced_microphone(alice), await announced_microphone(alice)
        await set_metadata(admin, room, first.sid, {"a": 1})
        await alice.local_participant.unpublish_track(first.sid)
        await until_attributes(livekit, room, "alice", lambda found: name_of(first.sid) not in found)
        # Whatever happens to it.
        assert beside.track is not None
        beside.track.mute()
        await until_muted(admin, room, beside.sid)
        assert await shown(admin, room) == {}
        assert await attributes_in(livekit, room, "alice") == {}
        last = await announced_microphone(alice)
        await until_metadata(admin, room, last.sid, lambda found: found.published)
        assert await shown(admin, room) == {last.sid: {"a": 1}}


async def test_it_ends_where_the_track_does_not_come_back(
    brief: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        brief.client("admin", room_admin=True, room=room) as admin,
        participant(livekit, room, "alice") as alice,
        events(admin, room) as stream,
    ):
        first = await announced_microphone(alice)
        await set_metadata(admin, room, first.sid, {"a": 1})
        await alice.local_participant.unpublish_track(first.sid)
        ended = await stream.until("metadata_changed", lambda found: found.reason == ENDED)
        assert plain(ended.metadata) == {"a": 1}
        second = await announced_microphone(alice)
        assert (await get_metadata(admin, room, second.sid)).etag == "0"
        await until_attributes(livekit, room, "alice", lambda found: name_of(first.sid) not in found)


async def test_patches_at_once_lose_nothing_and_are_sent_together(
    brief: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        brief.client("admin", room_admin=True, room=room) as admin,
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
    ):
        seen = Seen(bob, "alice")
        mic = await announced_microphone(alice)
        calls = (admin.SetTrackMetadata(patching(room, mic.sid, {f"k{n}": n}), timeout=60) for n in range(45))
        answers = await asyncio.gather(*calls)
        whole = {f"k{n}": n for n in range(45)}
        assert await shown(admin, room) == {mic.sid: whole}
        assert len({answer.metadata.etag for answer in answers}) == 45
        await seen.until(lambda: seen.metadata(mic.sid) == whole)
        # LiveKit was asked far less often than there were changes.
        assert len(seen.history) < 30


async def test_the_end_of_the_room_ends_all(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        await set_metadata(admin, room, (await announced_microphone(alice)).sid, {"a": 1})
        async with events(admin, room) as stream:
            await stream.snapshot()
            await delete_room(livekit, room)
            await stream.until("room_closed")
    async with existing_room(livekit, room), participant(livekit, room, "alice") as alice:
        again = await announced_microphone(alice)
        assert (await get_metadata(admin, room, again.sid)).etag == "0"


async def test_what_a_client_writes_over_is_put_right(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "alice", can_update_own_metadata=True) as alice,
        participant(livekit, room, "bob") as bob,
        events(admin, room) as stream,
    ):
        seen = Seen(bob, "alice")
        mic = await announced_microphone(alice)
        before = await set_metadata(admin, room, mic.sid, {"a": 1})
        for text in ('{"a": 2}', "no JSON", ""):
            await alice.local_participant.set_attributes({name_of(mic.sid): text, "hand": "up"})
            restored = await stream.until("metadata_changed", lambda found: found.reason == RESTORED)
            assert (restored.overwritten_with, plain(restored.metadata)) == (text, {"a": 1})
            assert stream.seen[-1].event.cause.rule == "overwrite_policy"
            await until_attributes(livekit, room, "alice", lambda found: name_of(mic.sid) in found)
            await seen.until(lambda: seen.metadata(mic.sid) == {"a": 1})
        assert (await get_metadata(admin, room, mic.sid)).etag == before.etag
        # The application's own are left alone.
        assert (await attributes_in(livekit, room, "alice"))["hand"] == "up"


async def test_a_client_that_does_not_stop_is_left_alone_for_a_while(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice", can_update_own_metadata=True) as alice,
        events(admin, room) as stream,
    ):
        mic = await announced_microphone(alice)
        await set_metadata(admin, room, mic.sid, {"a": 1})
        for number in range(100):
            await alice.local_participant.set_attributes({name_of(mic.sid): json.dumps({"mine": number})})
            changed = await stream.until("metadata_changed", lambda found: found.overwritten_with != "")
            if changed.reason == LEFT:
                break
        reasons = [m.event.metadata_changed.reason for m in stream.seen if m.event.HasField("metadata_changed")]
        assert reasons.count(LEFT) == 1
        assert 1 <= reasons.count(RESTORED) <= 6
        assert not (await get_metadata(admin, room, mic.sid)).published
        # After the pause, which a calm client ends, it is put right.
        await until_metadata(admin, room, mic.sid, lambda found: found.published)


async def test_what_a_client_writes_is_taken_over_where_that_is_the_policy(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    accept = pb.OVERWRITE_POLICY_ACCEPT
    async with (
        participant(livekit, room, "alice", can_update_own_metadata=True) as alice,
        events(admin, room) as stream,
    ):
        mic = await announced_microphone(alice)
        before = await set_metadata(admin, room, mic.sid, {"a": 1}, overwrite_policy=accept)
        await alice.local_participant.set_attributes({name_of(mic.sid): '{"b":2}'})
        accepted = await stream.until("metadata_changed", lambda found: found.reason == ACCEPTED)
        assert (accepted.overwritten_with, plain(accepted.metadata)) == ('{"b":2}', {"b": 2})
        assert accepted.metadata.etag != before.etag
        found = await get_metadata(admin, room, mic.sid)
        assert (plain(found), found.overwrite_policy) == ({"b": 2}, accept)
        assert await shown(admin, room) == {mic.sid: {"b": 2}}
        # What is not valid is put right.
        await alice.local_participant.set_attributes({name_of(mic.sid): '{"track.a":1}'})
        restored = await stream.until("metadata_changed", lambda found: found.reason == RESTORED)
        assert restored.overwritten_with == '{"track.a":1}'
        await until_metadata(admin, room, mic.sid, lambda found: found.published)
        assert plain(await get_metadata(admin, room, mic.sid)) == {"b": 2}
        await alice.local_participant.set_attributes({name_of(mic.sid): ""})
        await until_metadata(admin, room, mic.sid, lambda found: found.etag == "0")


async def test_after_a_restart_it_is_there_and_published_again(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    server = await start_track(livekit)
    async with (
        participant(livekit, room, "alice", can_update_own_metadata=True) as alice,
        participant(livekit, room, "bob") as bob,
    ):
        seen = Seen(bob, "alice")
        mic = await announced_microphone(alice)
        async with server.client("admin", room_admin=True, room=room) as admin:
            before = await set_metadata(admin, room, mic.sid, {"a": 1}, overwrite_policy=pb.OVERWRITE_POLICY_RESTORE)
            tone = await publish(admin, room, TONE, "studio")
            own = await set_metadata(admin, room, tone.publication_id, {"b": 2})
        await server.kill()
        # Nobody puts it right meanwhile.
        await alice.local_participant.set_attributes({name_of(mic.sid): ""})
        await seen.until(lambda: seen.metadata(mic.sid) is None)
        await server.start()
        await seen.until(lambda: seen.metadata(mic.sid) == {"a": 1})
        async with server.client("admin", room_admin=True, room=room) as admin:
            after = await until_metadata(admin, room, mic.sid, lambda found: found.published)
            assert (plain(after), after.etag) == ({"a": 1}, before.etag)
            back = await until_metadata(admin, room, tone.publication_id, lambda found: found.published)
            assert (plain(back), back.etag) == ({"b": 2}, own.etag)


async def test_after_a_restart_each_of_the_tracks_that_are_alike_has_its_own(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    server = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with participant(livekit, room, "alice") as alice:
        sids = sorted([(await announced_microphone(alice)).sid for _ in range(4)])
        whole = {sids[1]: {"a": 1}, sids[3]: {"b": 2}}
        async with server.client("admin", room_admin=True, room=room) as admin:
            for sid, value in whole.items():
                await set_metadata(admin, room, sid, value)
        await server.kill()
        await server.start()
        async with server.client("admin", room_admin=True, room=room) as admin:
            for sid in whole:
                await until_metadata(admin, room, sid, lambda found: found.published)
            assert await shown(admin, room) == whole
            expected = {name_of(sid): json.dumps(value, separators=(",", ":")) for sid, value in whole.items()}
            await until_attributes(livekit, room, "alice", lambda found: found == expected)


async def test_what_went_while_the_server_was_away_gets_it_when_it_is_back(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    server = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with participant(livekit, room, "bob"):
        async with participant(livekit, room, "alice") as alice:
            first = await announced_microphone(alice)
            async with server.client("admin", room_admin=True, room=room) as admin:
                await set_metadata(admin, room, first.sid, {"a": 1})
            await server.kill()
        async with participant(livekit, room, "alice") as alice:
            second = await announced_microphone(alice)
            await server.start()
            async with server.client("admin", room_admin=True, room=room) as admin:
                await until_metadata(admin, room, second.sid, lambda found: found.published)
                assert await shown(admin, room) == {second.sid: {"a": 1}}


async def listing(admin: Client, room: str) -> AsyncIterator[pb.TrackMetadata]:
    """All that the room has."""
    async with events(admin, room) as stream:
        for known in (await stream.snapshot()).track_metadata:
            yield known


async def until_muted(admin: Client, room: str, sid: str) -> None:
    """Waits until the room shows the track muted."""
    async with asyncio.timeout(45):
        while not (await admin.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid=sid), timeout=45)).track.muted:
            await asyncio.sleep(0.05)
