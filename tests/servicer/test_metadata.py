"""Metadata of tracks: set, patched, read, removed; seen by whoever is in the room, and by filters."""

import asyncio

import grpc
import pytest
from google.protobuf import field_mask_pb2

from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.publications import TONE, publish, until
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import Client, TrackProcess
from tests.tracks_metadata import (
    OBSERVED,
    Seen,
    announced_microphone,
    attributes_in,
    delete_metadata,
    get_metadata,
    name_of,
    patching,
    plain,
    replacing,
    set_metadata,
    shown,
    struct,
    until_attributes,
)
from track.v1 import media_frame_pb2, publication_pb2, publication_update_pb2
from track.v1 import metadata_pb2 as pb

SET = pb.METADATA_CHANGE_REASON_SET
DELETED = pb.METADATA_CHANGE_REASON_DELETED
ENDED = pb.METADATA_CHANGE_REASON_TRACK_ENDED


async def test_it_is_seen_by_clients_by_events_and_by_filters(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, participant(livekit, room, "bob") as bob:
        seen = Seen(bob, "alice")
        mic = await announced_microphone(alice)
        async with events(admin, room) as stream:
            assert not (await stream.snapshot()).track_metadata
            metadata = await set_metadata(admin, room, mic.sid, {"role": "presenter", "order": 1})
            assert (metadata.room, metadata.track_sid, metadata.participant_identity) == (room, mic.sid, "alice")
            assert (metadata.overwrite_policy, metadata.publication_id) == (pb.OVERWRITE_POLICY_RESTORE, "")
            changed = await stream.until("metadata_changed")
            assert (plain(changed.metadata), changed.reason) == ({"role": "presenter", "order": 1}, SET)
            cause = stream.seen[-1].event.cause
            assert (cause.principal_identity, bool(cause.request_id)) == ("admin", True)
            updated = await stream.until("track_updated")
            assert (updated.sid, plain(updated)) == (mic.sid, {"role": "presenter", "order": 1})
        await seen.until(lambda: seen.metadata(mic.sid) == {"role": "presenter", "order": 1})
        assert seen.attributes[name_of(mic.sid)] == '{"order":1,"role":"presenter"}'
        for query in ('track.metadata.role == "presenter"', "track.metadata.order < 2.0"):
            assert list(await shown(admin, room, filter=query)) == [mic.sid]
        assert not await shown(admin, room, filter='track.metadata.role == "guest"')
        async with events(admin, room) as stream:
            (listed,) = (await stream.snapshot()).track_metadata
            assert (listed.track_sid, listed.etag, listed.published) == (mic.sid, metadata.etag, True)


async def test_a_patch_merges_and_null_removes(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)
        await set_metadata(admin, room, mic.sid, {"a": {"b": 1, "c": [1, 2]}, "d": "x"})
        patch = {"a": {"b": None, "e": {"f": None, "g": True}}, "d": None, "h": [None]}
        answer = await admin.SetTrackMetadata(patching(room, mic.sid, patch), timeout=20)
        assert plain(answer.metadata) == {"a": {"c": [1, 2], "e": {"g": True}}, "h": [None]}
        assert await shown(admin, room) == {mic.sid: plain(answer.metadata)}
        first = (await announced_microphone(alice, "other")).sid
        answer = await admin.SetTrackMetadata(patching(room, first, {"only": 1, "not": None}), timeout=20)
        assert plain(answer.metadata) == {"only": 1}


async def test_removed_it_is_gone_everywhere_and_removing_it_again_is_done_at_once(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, events(admin, room) as stream:
        mic = await announced_microphone(alice)
        assert (await get_metadata(admin, room, mic.sid)).etag == "0"
        await set_metadata(admin, room, mic.sid, {"a": 1})
        answer = await delete_metadata(admin, room, mic.sid)
        assert (answer.stage, plain(answer.metadata)) == (OBSERVED, {"a": 1})
        changed = await stream.until("metadata_changed", lambda found: found.reason == DELETED)
        assert plain(changed.metadata) == {"a": 1}
        found = await get_metadata(admin, room, mic.sid)
        assert (found.etag, found.HasField("metadata"), found.participant_identity) == ("0", False, "alice")
        assert not await shown(admin, room)
        await until_attributes(livekit, room, "alice", lambda found: name_of(mic.sid) not in found)
        assert (await delete_metadata(admin, room, mic.sid)).stage == OBSERVED
        assert (await delete_metadata(admin, room, mic.sid, etag="0")).stage == OBSERVED


async def test_removing_what_is_not_there_removes_what_was_left_in_the_attributes(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice", can_update_own_metadata=True) as alice:
        mic = await announced_microphone(alice)
        await alice.local_participant.set_attributes({name_of(mic.sid): '{"a":1}', "app": "x"})
        await until_attributes(livekit, room, "alice", lambda found: name_of(mic.sid) in found)
        assert (await delete_metadata(admin, room, mic.sid)).stage == OBSERVED
        assert await attributes_in(livekit, room, "alice") == {"app": "x"}


async def test_compare_and_set_lets_one_of_many_through(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)

        async def attempt(value: str, etag: str) -> bool:
            try:
                await admin.SetTrackMetadata(replacing(room, mic.sid, {"winner": value}, etag=etag), timeout=30)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ABORTED:
                    raise
                return False
            return True

        for turn in ("first", "second"):
            etag = (await get_metadata(admin, room, mic.sid)).etag
            # Each is a change: what changes nothing leaves the etag as it is, for the next one too.
            values = [f"{turn} {number}" for number in range(12)]
            won = await asyncio.gather(*(attempt(value, etag) for value in values))
            assert won.count(True) == 1
            assert await shown(admin, room) == {mic.sid: {"winner": values[won.index(True)]}}
        current = (await get_metadata(admin, room, mic.sid)).etag
        refused = await refusal(admin.SetTrackMetadata(replacing(room, mic.sid, {}, etag="0")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert refused.metadata["etag"] == current
        request = pb.DeleteTrackMetadataRequest(room=room, track_sid=mic.sid, etag="stale")
        assert (await refusal(admin.DeleteTrackMetadata(request))).metadata["etag"] == current
        gone = await delete_metadata(admin, room, mic.sid, etag=current)
        assert gone.metadata.etag == current
        again = await set_metadata(admin, room, mic.sid, {"winner": 1}, etag="0")
        assert again.etag != current


async def test_the_same_request_id_changes_it_once(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)
        request = replacing(room, mic.sid, {"a": 1}, etag="0", request_id="once")
        first = await admin.SetTrackMetadata(request, timeout=30)
        assert await admin.SetTrackMetadata(request, timeout=30) == first
        # What changes nothing is no change.
        same = await set_metadata(admin, room, mic.sid, {"a": 1})
        assert same.etag == first.metadata.etag


async def test_validate_only_checks_and_changes_nothing(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await announced_microphone(alice)
        answer = await admin.SetTrackMetadata(replacing(room, mic.sid, {"a": 1}, validate_only=True))
        assert (answer.stage, plain(answer.metadata), answer.metadata.etag) == (0, {"a": 1}, "0")
        assert (await get_metadata(admin, room, mic.sid)).etag == "0"
        await set_metadata(admin, room, mic.sid, {"a": 1})
        assert plain((await delete_metadata(admin, room, mic.sid, validate_only=True)).metadata) == {"a": 1}
        assert await shown(admin, room) == {mic.sid: {"a": 1}}
        refused = await refusal(admin.SetTrackMetadata(replacing(room, mic.sid, {"lk.a": 1}, validate_only=True)))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_publication_has_what_its_spec_says_until_it_is_set(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "bob") as bob, events(admin, room) as stream:
        await stream.snapshot()
        seen = Seen(bob, "studio")
        spec = publication_pb2.PublicationSpec(tone=publication_pb2.ToneInput(), metadata=struct({"from": "spec"}))
        tone = await publish(admin, room, spec, "studio")
        assert plain((await stream.until("metadata_changed")).metadata) == {"from": "spec"}
        await seen.until(lambda: seen.metadata(tone.track_sid) == {"from": "spec"})
        first = await get_metadata(admin, room, tone.publication_id)
        assert (first.track_sid, first.publication_id) == (tone.track_sid, tone.publication_id)
        assert await get_metadata(admin, room, tone.track_sid) == first
        second = await set_metadata(admin, room, tone.publication_id, {"from": "caller"}, etag=first.etag)
        assert await shown(admin, room) == {tone.track_sid: {"from": "caller"}}
        # Removed, it does not come back from the spec; told again, the spec counts.
        await delete_metadata(admin, room, tone.track_sid, etag=second.etag)
        assert (await get_metadata(admin, room, tone.track_sid)).etag == "0"
        assert not await shown(admin, room)
        update = publication_update_pb2.UpdatePublicationRequest(
            room=room,
            publication_id=tone.publication_id,
            spec=spec,
            update_mask=field_mask_pb2.FieldMask(paths=["metadata"]),
        )
        await admin.UpdatePublication(update, timeout=30)
        assert await shown(admin, room) == {tone.track_sid: {"from": "spec"}}
        await seen.until(lambda: seen.metadata(tone.track_sid) == {"from": "spec"})
        end = publication_pb2.UnpublishTrackRequest(room=room, publication_id=tone.publication_id)
        await admin.UnpublishTrack(end, timeout=30)
        ended = await stream.until("metadata_changed", lambda found: found.reason == ENDED)
        assert plain(ended.metadata) == {"from": "spec"}
        refused = await refusal(admin.SetTrackMetadata(replacing(room, tone.publication_id, {})))
        assert refused.reason == "PUBLICATION_ENDED"


async def test_it_waits_for_a_publication_without_a_track(
    track: TrackProcess, livekit: LiveKitProcess, admin: Client, room: str
) -> None:
    push = publication_pb2.PushInput(pcm=media_frame_pb2.PcmFormat())
    request = publication_pb2.PublishTrackRequest(room=room, spec=publication_pb2.PublicationSpec(push=push))
    waiting = (await admin.PublishTrack(request, timeout=20)).publication
    assert waiting.track_sid == ""
    answer = await admin.SetTrackMetadata(replacing(room, waiting.publication_id, {"a": 1}), timeout=20)
    assert answer.stage == publication_pb2.STAGE_REQUESTED
    assert (answer.metadata.track_sid, answer.metadata.published) == ("", False)
    async with events(admin, room) as stream:
        (listed,) = (await stream.snapshot()).track_metadata
        assert (listed.publication_id, listed.track_sid) == (waiting.publication_id, "")
    assert (await delete_metadata(admin, room, waiting.publication_id)).stage == OBSERVED


async def test_metadata_goes_along_when_a_publication_is_restarted(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "bob") as bob, events(admin, room) as stream:
        await stream.snapshot()
        seen = Seen(bob, "studio")
        tone = await publish(admin, room, TONE, "studio")
        before = await set_metadata(admin, room, tone.publication_id, {"a": 1})
        level = publication_update_pb2.RESTART_LEVEL_REPUBLISH
        restart = publication_update_pb2.RestartTrackRequest(room=room, publication_id=tone.publication_id, level=level)
        await admin.RestartTrack(restart, timeout=45)
        moved = await until(admin, tone, lambda found: found.track_sid not in ("", tone.track_sid))
        carried = pb.METADATA_CHANGE_REASON_CARRIED_OVER
        changed = await stream.until("metadata_changed", lambda found: found.reason == carried)
        assert (changed.metadata.publication_id, changed.metadata.etag) == (tone.publication_id, before.etag)
        assert changed.metadata.track_sid == moved.track_sid
        await seen.until(lambda: seen.metadata(moved.track_sid) == {"a": 1})
        await seen.until(lambda: name_of(tone.track_sid) not in seen.attributes)
        assert (await get_metadata(admin, room, tone.publication_id)).etag == before.etag


@pytest.mark.parametrize("known", ["TR_missing", "PUB_missing"])
async def test_what_is_not_there_is_not_found(admin: Client, room: str, known: str) -> None:
    reason = "TRACK_NOT_FOUND" if known.startswith("TR_") else "PUBLICATION_NOT_FOUND"
    for call in (
        admin.SetTrackMetadata(replacing(room, known, {})),
        get_metadata(admin, room, known),
        delete_metadata(admin, room, known),
        admin.SetTrackMetadata(replacing(room, known, {}, etag="0")),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, reason)


async def test_a_participant_describes_its_own_tracks_and_no_others(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
        track.client("alice", room_join=True, room=room) as caller,
    ):
        own, others = await announced_microphone(alice), await announced_microphone(bob)
        await set_metadata(caller, room, own.sid, {"mine": True})
        denials = [
            await refusal(caller.SetTrackMetadata(replacing(room, known, {})))
            for known in (others.sid, "TR_missing", "PUB_missing")
        ]
        assert {denial.code for denial in denials} == {grpc.StatusCode.PERMISSION_DENIED}
        # It does not tell what exists.
        assert len({denial.message for denial in denials}) == 1
        assert (await get_metadata(caller, room, others.sid)).etag == "0"
