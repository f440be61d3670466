"""The record of operations: everything that was done and denied is in it, whatever becomes of the caller."""

import asyncio
import urllib.request
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from livekit import api

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room, livekit_api
from tests.participants import participant
from tests.publications import DEADLINE_S, LIVE, OBSERVED, TONE, pattern, publish
from tests.refusals import first, refusal
from tests.servicer.principals import bearing
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import (
    access_pb2,
    error_pb2,
    event_pb2,
    publication_pb2,
    publication_update_pb2,
    subscription_permission_pb2,
    token_pb2,
    track_service_pb2,
    tracks_pb2,
)
from track.v1.audit_pb2 import AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse

DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
METHODS = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods
RULES = {method.name: method.GetOptions().Extensions[access_pb2.access] for method in METHODS}
NO_WORKERS = {"TRACK_MEDIA_WORKERS": "0"}


async def page(client: Client, **query: Any) -> ListAuditEntriesResponse:
    answer: ListAuditEntriesResponse = await client.ListAuditEntries(ListAuditEntriesRequest(**query), timeout=20)
    return answer


async def record(client: Client, room: str, **query: Any) -> list[AuditEntry]:
    """All pages together, oldest first."""
    found: list[AuditEntry] = []
    token = ""
    while True:
        answer = await page(client, room=room, page_token=token, **query)
        found += answer.entries
        token = answer.next_page_token
        if not token:
            return found[::-1]


async def eventually(client: Client, room: str, count: int) -> list[AuditEntry]:
    """The record once it has so many entries: that of a caller who is gone comes after it went."""
    async with asyncio.timeout(DEADLINE_S):
        while len(found := await record(client, room)) < count:
            await asyncio.sleep(0.02)
    return found


def rpc(entry: AuditEntry) -> str:
    return entry.method.removeprefix("/track.v1.TrackService/")


def asked(room: str, identity: str = "", request_id: str = "", **more: Any) -> publication_pb2.PublishTrackRequest:
    return publication_pb2.PublishTrackRequest(
        room=room, spec=TONE, participant_identity=identity, request_id=request_id, **more
    )


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
    await admin.UnpublishTrack(
        publication_pb2.UnpublishTrackRequest(room=room, publication_id=shown.publication_id), timeout=timeout
    )
    entries = {rpc(entry): entry for entry in await record(admin, room)}
    assert set(entries) == {name for name, rule in RULES.items() if rule.mutation or rule.recorded}
    for name, entry in entries.items():
        assert entry.permission == RULES[name].permission
        assert (entry.code, entry.reason, entry.message) == (0, 0, ""), entry
        assert (entry.room, entry.validate_only, entry.request_truncated) == (room, False, False)
        assert (entry.principal.kind, entry.principal.identity) == (access_pb2.PRINCIPAL_KIND_ADMIN, "admin")
        assert entry.principal.grants.room == room
        assert entry.request["room"] == room
        assert entry.request_id
        assert entry.peer.startswith("127.0.0.1:")
        assert 0 < entry.duration.ToNanoseconds() < 60e9
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
    refused = await refusal(admin.PublishTrack(asked(f"{room}-missing"), timeout=20))
    assert refused.code is DENIED
    unknown = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid="TR_unknown")])
    refused = await refusal(admin.MuteTracks(unknown, timeout=20))
    await admin.PublishTrack(asked(room, "studio", validate_only=True), timeout=20)
    failed, validated = await record(admin, room)
    assert (failed.code, failed.reason) == (5, error_pb2.ERROR_REASON_TRACK_NOT_FOUND)
    assert failed.message == refused.message
    assert [(target.track_sid, target.problem.code) for target in failed.targets] == [("TR_unknown", 5)]
    assert (validated.validate_only, validated.code) == (True, 0)
    assert validated.targets[0].stage == publication_pb2.STAGE_UNSPECIFIED


async def test_of_inputs_neither_payload_nor_credentials_are_recorded(admin: Client, room: str) -> None:
    data = publication_pb2.PublicationSpec(data=publication_pb2.DataInput(payload=b"s3cr3t-payload"))
    await admin.PublishTrack(publication_pb2.PublishTrackRequest(room=room, spec=data, validate_only=True), timeout=20)
    uri = "https://s3cr3t-user:s3cr3t-word@example.org/clip.mp4?key=s3cr3t-query"
    file = publication_pb2.PublicationSpec(file=publication_pb2.FileInput(uri=uri))
    refused = await refusal(admin.PublishTrack(publication_pb2.PublishTrackRequest(room=room, spec=file), timeout=20))
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
            viewer.PublishTrack(asked(room, "else"), timeout=20),
            foreign.MuteTracks(mute, timeout=20),
            foreign.ListTracks(tracks_pb2.ListTracksRequest(room=room), timeout=20),
            first(foreign.WatchEvents(watch, timeout=20)),
            viewer.ListAuditEntries(ListAuditEntriesRequest(room=room), timeout=20),
        ):
            assert (await refusal(call)).code is DENIED
        for stranger in (nobody, nobody, forger):
            assert (await refusal(stranger.MuteTracks(mute, timeout=20))).code is grpc.StatusCode.UNAUTHENTICATED
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
    with urllib.request.urlopen(f"http://{track.metrics_address}/metrics", timeout=10) as answer:
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


@pytest.mark.parametrize("request_id", ["", "once"])
async def test_a_mutation_whose_caller_goes_away_is_recorded(
    livekit: LiveKitProcess, start_track: StartTrack, room: str, request_id: str
) -> None:
    # Without a worker it waits for one, until the deadline.
    track = await start_track(livekit, NO_WORKERS)
    async with track.client("admin", room_admin=True, room=room) as admin:
        call = admin.PublishTrack(asked(room, "studio", request_id), timeout=8 if request_id else 60)
        async with asyncio.timeout(DEADLINE_S):
            while not (await admin.ListPublications(publication_pb2.ListPublicationsRequest(room=room))).publications:
                await asyncio.sleep(0.02)
        call.cancel()
        (entry,) = await eventually(admin, room, 1)
        # With a request_id it is finished without the caller.
        assert entry.code == (0 if request_id else 1)
        assert entry.targets[0].participant_identity == "studio"


async def test_what_was_answered_is_in_the_record_after_sigkill(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, NO_WORKERS)
    for number in range(3):
        async with track.client("admin", room_admin=True, room=room) as admin:
            request_id = f"id-{number}" if number else ""
            await admin.PublishTrack(asked(room, f"studio-{number}", request_id), timeout=3)
            await track.kill()
        await track.start()
        async with track.client("admin", room_admin=True, room=room) as admin:
            entries = await record(admin, room)
            assert [entry.targets[0].participant_identity for entry in entries] == [
                f"studio-{n}" for n in range(number + 1)
            ]


async def test_a_thousand_at_once_are_one_publication_and_one_row(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    request = asked(room, "studio", "once")
    calls = [admin.PublishTrack(request, timeout=60) for _ in range(1000)]
    answers = await asyncio.gather(*calls)
    assert {answer.publication.publication_id for answer in answers} == {answers[0].publication.publication_id}
    assert {answer.publication.state for answer in answers} == {LIVE}
    async with livekit_api(livekit) as client:
        present = (await client.room.list_participants(api.ListParticipantsRequest(room=room))).participants
    tracks = [found.sid for who in present for found in who.tracks]
    assert tracks == [answers[0].publication.track_sid]
    (entry,) = await record(admin, room)
    assert entry.targets[0].publication_id == answers[0].publication.publication_id
    other = asked(room, "studio", "once")
    other.spec.tone.frequency_hz = 500
    refused = await refusal(admin.PublishTrack(other, timeout=20))
    assert (refused.code, refused.reason, refused.fields) == (INVALID, "REQUEST_ID_REUSED", ("request_id",))
    assert len(await record(admin, room)) == 1


async def test_filters_and_pages(admin: Client, room: str) -> None:
    for number in range(7):
        await admin.PublishTrack(asked(room, f"studio-{number}", validate_only=True), timeout=20)
    await refusal(
        admin.MuteTracks(
            tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid="TR_unknown")]), timeout=20
        )
    )
    newest = await page(admin, room=room, page_size=3)
    assert (len(newest.entries), rpc(newest.entries[0])) == (3, "MuteTracks")
    assert len(await record(admin, room, page_size=3)) == 8
    assert [rpc(entry) for entry in await record(admin, room, filter="entry.code != 0")] == ["MuteTracks"]
    chosen = await record(admin, room, filter='entry.targets.exists(t, t.participant_identity == "studio-3")')
    assert [entry.request["participant_identity"] for entry in chosen] == ["studio-3"]
    chosen = await record(admin, room, filter="entry.permission == Permission.PERMISSION_PUBLISH", page_size=2)
    assert len(chosen) == 7
    for query, reason in (
        ({"filter": "entry.nothing"}, "INVALID_EXPRESSION"),
        ({"page_token": newest.next_page_token, "filter": "true"}, "INVALID_PAGE_TOKEN"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN"),
        ({"page_size": 1001}, "INVALID_FIELD"),
    ):
        refused = await refusal(page(admin, room=room, **query))
        assert (refused.code, refused.reason) == (INVALID, reason)


async def test_the_records_of_rooms_are_apart_and_none_tells_whether_a_room_exists(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    other = f"{room}-other"
    async with (
        existing_room(livekit, other),
        track.client("else", room_admin=True, room=other) as neighbour,
        track.client("alice", room_join=True, room=room) as member,
        track.client("dashboard", room_list=True) as service,
    ):
        await admin.PublishTrack(asked(room, "one", validate_only=True), timeout=20)
        await neighbour.PublishTrack(asked(other, "two", validate_only=True), timeout=20)
        token = (await page(service, room=other, page_size=1)).next_page_token
        denials = [
            await refusal(page(client, room=name, **query))
            for client, name, query in (
                (admin, other, {}),
                (admin, f"{room}-that-is-not", {}),
                (admin, other, {"filter": "entry.code == 0"}),
                (admin, other, {"page_token": token or "x"}),
                (admin, "", {}),
                (member, room, {}),
                (member, "", {}),
            )
        ]
        assert {denial.code for denial in denials} == {DENIED}
        assert denials[0].message == denials[1].message
        mine = await record(admin, room)
        assert other not in str(mine)
        assert "two" not in [entry.request["participant_identity"] for entry in mine if rpc(entry) == "PublishTrack"]
        assert await record(service, f"{room}-nothing") == []
        seen = {entry.room for entry in await record(service, "")}
        assert {room, other} <= seen
        assert {entry.room for entry in await record(service, other)} == {other}


async def test_no_more_is_kept_than_the_settings_say(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {**NO_WORKERS, "TRACK_AUDIT_MAX_ENTRIES": "100"})
    async with track.client("admin", room_admin=True, room=room) as admin:
        for number in range(110):
            await admin.PublishTrack(asked(room, f"studio-{number}", validate_only=True), timeout=20)
        entries = await record(admin, room)
        assert [entry.targets[0].participant_identity for entry in entries] == [f"studio-{n}" for n in range(10, 110)]
    await track.stop()
    track = await start_track(livekit, {**NO_WORKERS, "TRACK_AUDIT_RETENTION_DAYS": "0.00001"})
    async with track.client("admin", room_admin=True, room=room) as admin:
        await admin.PublishTrack(asked(room, "studio", validate_only=True), timeout=20)
        async with asyncio.timeout(DEADLINE_S):
            while await record(admin, room):
                await asyncio.sleep(0.1)
