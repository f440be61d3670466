"""The record of operations: everything that was done and denied is in it."""

import asyncio
import urllib.request

import grpc
import pytest
from google.protobuf import json_format
from livekit import api

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api
from tests.participants import participant
from tests.publications import DEADLINE_S, OBSERVED, pattern, publish
from tests.refusals import first, refusal
from tests.servicer.contract import request_of
from tests.servicer.principals import bearing
from tests.servicer.records import DENIED, INVALID, NO_WORKERS, asked, record, rpc
from tests.servicer.stage import outcome
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import (
    access_pb2,
    error_pb2,
    event_pb2,
    metadata_pb2,
    publication_pb2,
    publication_update_pb2,
    subscription_permission_pb2,
    token_pb2,
    track_service_pb2,
    tracks_pb2,
)
from track.v1.audit_pb2 import ListAuditEntriesRequest

METHODS = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods

RULES = {method.name: method.GetOptions().Extensions[access_pb2.access] for method in METHODS}


async def test_every_mutation_is_recorded_with_who_what_where_and_how_far(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    spec = pattern()
    spec.metadata.update({"role": "stage"})
    shown = await publish(admin, room, spec, "studio")
    ref, timeout = tracks_pb2.TrackRef(track_sid=shown.track_sid), DEADLINE_S
    async with participant(livekit, room, "viewer", auto_subscribe=False):
        await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref]), timeout=timeout)
        await admin.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=[ref]), timeout=timeout)
        update = tracks_pb2.SubscriptionUpdate(participant_identity="viewer", track_sid=shown.track_sid, subscribe=True)
        await admin.UpdateSubscriptions(
            tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update]), timeout=timeout
        )
        rule = subscription_permission_pb2.TrackSubscriptionRule(participant_identities=["viewer"])
        await admin.SetTrackSubscriptionPermissions(
            subscription_permission_pb2.SetTrackSubscriptionPermissionsRequest(
                room=room, publication_id=shown.publication_id, rule=rule
            ),
            timeout=timeout,
        )
        await admin.ClearTrackSubscriptionPermissions(
            subscription_permission_pb2.ClearTrackSubscriptionPermissionsRequest(room=room, track_sid=shown.track_sid),
            timeout=timeout,
        )
    made = await admin.CreateTrackToken(
        token_pb2.CreateTrackTokenRequest(
            room=room, operation=access_pb2.TRACK_OPERATION_SUBSCRIBE, participant_identity="guest"
        )
    )
    keyframe = publication_update_pb2.RESTART_LEVEL_KEYFRAME
    restart = publication_update_pb2.RestartTrackRequest(room=room, publication_id=shown.publication_id, level=keyframe)
    await admin.RestartTrack(restart, timeout=timeout)
    change = publication_update_pb2.UpdatePublicationRequest(room=room, publication_id=shown.publication_id)
    change.update_mask.paths.append("metadata")
    await admin.UpdatePublication(change, timeout=timeout)
    named = metadata_pb2.SetTrackMetadataRequest(room=room, publication_id=shown.publication_id)
    named.replace.update({"role": "hall"})
    await admin.SetTrackMetadata(named, timeout=timeout)
    unnamed = metadata_pb2.DeleteTrackMetadataRequest(room=room, publication_id=shown.publication_id)
    await admin.DeleteTrackMetadata(unnamed, timeout=timeout)
    await admin.UnpublishTrack(
        publication_pb2.UnpublishTrackRequest(room=room, publication_id=shown.publication_id), timeout=timeout
    )
    done = {rpc(entry): entry for entry in await record(admin, room)}
    # What cannot succeed here is recorded with how it ended.
    ended = {
        name: await outcome(admin, name, request_of(name, room=room))
        for name, rule in RULES.items()
        if (rule.mutation or rule.recorded) and name not in done
    }
    entries = {rpc(entry): entry for entry in await record(admin, room)}
    assert set(entries) == {name for name, rule in RULES.items() if rule.mutation or rule.recorded}
    for name, found in ended.items():
        assert entries[name].code == found.code.value[0], name
        reason = error_pb2.ErrorReason.Name(entries[name].reason).removeprefix("ERROR_REASON_")
        assert reason == (found.reason or "UNSPECIFIED"), name
    for name, entry in entries.items():
        assert entry.permission == RULES[name].permission
        assert (entry.room, entry.validate_only, entry.request_truncated) == (room, False, False)
        assert (entry.principal.kind, entry.principal.identity) == (access_pb2.PRINCIPAL_KIND_ADMIN, "admin")
        assert entry.principal.grants.room == room
        assert entry.request["room"] == room
        assert entry.request_id
        assert entry.peer.startswith("127.0.0.1:")
        assert 0 < entry.duration.ToNanoseconds() < 60e9
        if name in ended:
            continue
        assert (entry.code, entry.reason, entry.message) == (0, 0, ""), entry
        (target,) = entry.targets
        if name != "CreateTrackToken":
            assert target.track_sid == shown.track_sid or target.publication_id == shown.publication_id
            assert target.stage >= publication_pb2.STAGE_REQUESTED
    published = entries["PublishTrack"]
    (target,) = published.targets
    assert (target.participant_identity, target.stage) == ("studio", OBSERVED)
    assert (target.publication_id, target.track_sid) == (shown.publication_id, shown.track_sid)
    spec_kept = json_format.MessageToDict(published.request)["spec"]
    assert (spec_kept["video"]["width"], spec_kept["metadata"]) == (320, {"role": "stage"})
    assert entries["UpdateSubscriptions"].targets[0].participant_identity == "viewer"
    assert entries["CreateTrackToken"].targets[0].participant_identity == "guest"
    assert made.token not in str(entries)
    numbers = [entry.sequence for entry in await record(admin, room)]
    assert numbers == sorted(set(numbers))


async def test_what_failed_and_what_was_only_validated_is_recorded_as_such(admin: Client, room: str) -> None:
    refused = await refusal(admin.PublishTrack(asked(f"{room}-missing"), timeout=45))
    assert refused.code is DENIED
    unknown = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid="TR_unknown")])
    refused = await refusal(admin.MuteTracks(unknown, timeout=45))
    await admin.PublishTrack(asked(room, "studio", validate_only=True), timeout=45)
    failed, validated = await record(admin, room)
    assert (failed.code, failed.reason) == (5, error_pb2.ERROR_REASON_TRACK_NOT_FOUND)
    assert failed.message == refused.message
    assert [(target.track_sid, target.problem.code) for target in failed.targets] == [("TR_unknown", 5)]
    assert (validated.validate_only, validated.code) == (True, 0)
    assert validated.targets[0].stage == publication_pb2.STAGE_UNSPECIFIED


async def test_of_inputs_neither_payload_nor_credentials_are_recorded(admin: Client, room: str) -> None:
    data = publication_pb2.PublicationSpec(data=publication_pb2.DataInput(payload=b"s3cr3t-payload"))
    await admin.PublishTrack(publication_pb2.PublishTrackRequest(room=room, spec=data, validate_only=True), timeout=45)
    uri = "https://s3cr3t-user:s3cr3t-word@example.org/clip.mp4?key=s3cr3t-query"
    file = publication_pb2.PublicationSpec(file=publication_pb2.FileInput(uri=uri))
    refused = await refusal(admin.PublishTrack(publication_pb2.PublishTrackRequest(room=room, spec=file), timeout=45))
    assert refused.code is INVALID
    first_entry, second_entry = await record(admin, room)
    assert json_format.MessageToDict(first_entry.request)["spec"] == {"data": {}}
    assert json_format.MessageToDict(second_entry.request)["spec"] == {"file": {"uri": "https://example.org/clip.mp4"}}
    assert "s3cr3t" not in str([first_entry, second_entry])


async def test_denials_of_known_callers_are_recorded_and_strangers_are_counted(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {**NO_WORKERS, "TRACK_METRICS_LISTEN": "127.0.0.1:0"})
    sid = "TR_unknown"
    async with (
        track.client("viewer", room_join=True, room=room, can_publish=False, can_publish_data=False) as viewer,
        track.client("foreign", room_admin=True, room=f"{room}-other") as foreign,
        track.client("admin", room_admin=True, room=room) as admin,
        bearing(track, None) as nobody,
        bearing(track, "not.a.token") as forger,
    ):
        mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=sid)])
        watch = event_pb2.WatchEventsRequest(room=room)
        for call in (
            viewer.PublishTrack(asked(room, "else"), timeout=45),
            foreign.MuteTracks(mute, timeout=45),
            foreign.ListTracks(tracks_pb2.ListTracksRequest(room=room), timeout=45),
            first(foreign.WatchEvents(watch, timeout=45)),
            viewer.ListAuditEntries(ListAuditEntriesRequest(room=room), timeout=45),
        ):
            assert (await refusal(call)).code is DENIED
        for stranger in (nobody, nobody, forger):
            assert (await refusal(stranger.MuteTracks(mute, timeout=45))).code is grpc.StatusCode.UNAUTHENTICATED
        entries = await record(admin, room)
        assert sorted((entry.principal.identity, rpc(entry)) for entry in entries) == [
            ("foreign", "ListTracks"),
            ("foreign", "MuteTracks"),
            ("foreign", "WatchEvents"),
            ("viewer", "ListAuditEntries"),
            ("viewer", "PublishTrack"),
        ]
        for entry in entries:
            assert (entry.code, entry.reason) == (7, error_pb2.ERROR_REASON_PERMISSION_DENIED)
            assert entry.permission == RULES[rpc(entry)].permission
            assert entry.message
        # The admin of this room does not learn of which other room the foreign one is.
        assert f"{room}-other" not in str(entries)
    counted = await asyncio.to_thread(metrics, track)
    assert counted['track_unauthenticated_by_address_total{address="127.0.0.1"}'] == 3
    assert sum(value for name, value in counted.items() if name.startswith("track_unauthenticated_total{")) == 3
    assert counted["track_audit_entries_total"] == 5


def metrics(track: TrackProcess) -> dict[str, float]:
    """What Prometheus would see."""
    with urllib.request.urlopen(f"http://{track.metrics_address}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


async def test_a_stream_that_is_ended_because_its_permission_is_gone_is_recorded(
    track: TrackProcess, livekit: LiveKitProcess, room: str, admin: Client
) -> None:
    async with (
        participant(livekit, room, "alice"),
        track.client("alice", room_join=True, room=room) as alice,
        events(alice, room) as stream,
    ):
        await stream.snapshot()
        async with livekit_api(livekit) as client:
            await client.room.remove_participant(api.RoomParticipantIdentity(room=room, identity="alice"))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.end()
    assert ended.value.code() is DENIED
    (entry,) = await record(admin, room)
    assert (rpc(entry), entry.code, entry.principal.identity) == ("WatchEvents", 7, "alice")
    assert entry.message == ended.value.details()
    assert entry.duration.ToNanoseconds() > 0
