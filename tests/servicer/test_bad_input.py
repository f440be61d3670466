"""Bad input: each gets the right status with details, and leaves nothing behind."""

import base64
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from buf.validate import validate_pb2
from google.protobuf import duration_pb2

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import rooms
from tests.publications import DATA
from tests.refusals import refusal
from tests.servicer.contract import METHODS, RULES, called, every_request
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2, quality_pb2, track_pb2, tracks_pb2
from track.v1.access_pb2 import PERMISSION_MANAGE_WEBHOOKS, PERMISSION_RECORD, PERMISSION_WRITE_SCHEMAS

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
LONG = "x" * 257

Pub = publication_pb2
Spec = publication_pb2.PublicationSpec


ROOM_RPCS = sorted(every_request(room="r"))
# Without a room they are about all rooms.
EVERYWHERE_RPCS = frozenset(
    rpc
    for rpc in ROOM_RPCS
    if not METHODS[rpc].input_type.fields_by_name["room"].GetOptions().Extensions[validate_pb2.field].string.min_bytes
) - {"WatchEvents", "PushMedia", "ReportTrackStats"}
# What is answered from the store, or from the caller's token, needs no room.
LIVE_ROOM_RPCS = sorted(
    set(ROOM_RPCS)
    - {"UpdatePublication", "PushMedia", "UnpublishTrack", "GetPublication", "ListPublications"}
    - {"CreateTrackToken", "ListAuditEntries", "LiftModerationBlocks", "ListModerationBlocks"}
    - {"GetMetadataSchema", "ListMetadataSchemas"}
    - {"ListAdaptations", "ListQualityAlerts", "ListQualityReports"}
    - {rpc for rpc in ROOM_RPCS if "SubscriptionPolic" in rpc or "QualityPolic" in rpc}
    - {
        rpc
        for rpc, rule in RULES.items()
        if rule.permission in (PERMISSION_WRITE_SCHEMAS, PERMISSION_MANAGE_WEBHOOKS, PERMISSION_RECORD)
    }
)

# What an RPC asks for beyond the contract's rules, before it looks for the room.
NEEDED: dict[str, dict[str, Any]] = {
    "ApplyAdaptation": {"participant_identity": "a", "quality": track_pb2.VIDEO_QUALITY_LOW},
}


@pytest.mark.parametrize("name", ["", LONG], ids=["empty", "too long"])
@pytest.mark.parametrize("rpc", ROOM_RPCS)
async def test_a_room_name_that_is_none(admin: Client, rpc: str, name: str) -> None:
    if name == "" and rpc in EVERYWHERE_RPCS:
        # A room's admin is not that of all.
        refused = await refusal(called(admin, rpc, every_request(room=name)[rpc]))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        return
    refused = await refusal(called(admin, rpc, every_request(room=name)[rpc]))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_FIELD")
    assert refused.fields == ("room",)
    assert refused.retry_s is None


@pytest.mark.parametrize("rpc", LIVE_ROOM_RPCS)
async def test_an_unknown_room(admin: Client, livekit: LiveKitProcess, room_name: str, rpc: str) -> None:
    refused = await refusal(called(admin, rpc, complete(rpc, room_name)))
    assert (refused.code, refused.reason, refused.fields) == (NOT_FOUND, "ROOM_NOT_FOUND", ("room",))
    assert await rooms(livekit, room_name) == []


@pytest.mark.parametrize(
    ("rpc", "fields", "field"),
    [
        ("PublishTrack", {"participant_identity": LONG}, "participant_identity"),
        ("PublishTrack", {"request_id": "x" * 129}, "request_id"),
        ("MuteTracks", {"request_id": "x" * 129}, "request_id"),
        ("StreamQualityReports", {"participant_identity": LONG}, "participant_identity"),
        ("StreamQualityReports", {"track_sids": ["TR_a", "x"]}, "track_sids[1]"),
        ("StreamQualityReports", {"track_sids": ["TR_a"] * 101}, "track_sids"),
        ("StreamQualityReports", {"interval": duration_pb2.Duration(seconds=61)}, "interval"),
        ("StreamQualityReports", {"interval": duration_pb2.Duration()}, "interval"),
        ("ListTracks", {"page_size": -1}, "page_size"),
        ("ListTracks", {"page_size": 1001}, "page_size"),
        ("ListPublications", {"page_size": 1001}, "page_size"),
        ("WatchEvents", {"cursor": "x" * 65}, "cursor"),
    ],
)
async def test_a_field_out_of_its_range_is_named(
    admin: Client, room: str, rpc: str, fields: dict[str, Any], field: str
) -> None:
    refused = await refusal(called(admin, rpc, with_fields(rpc, room, fields)))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_FIELD")
    assert refused.fields == (field,)


def complete(rpc: str, room: str) -> Any:
    """The RPC's request, with all that it asks for before it looks for the room."""
    return with_fields(rpc, room, NEEDED.get(rpc, {}))


def with_fields(rpc: str, room: str, fields: dict[str, Any]) -> Any:
    """The RPC's request with those fields on top."""
    request = every_request(room=room)[rpc]
    request.MergeFrom(type(request)(**fields))
    return request


SIDS = ["", "x", "TR_", "PA_abc", "TR_ab c", "TR_" + "x" * 61, "TR_ä", "DTR"]


@pytest.mark.parametrize("sid", SIDS)
async def test_a_sid_that_is_none(admin: Client, room: str, sid: str) -> None:
    sub = tracks_pb2.SubscriptionUpdate(participant_identity="a", track_sid=sid)
    cases: list[tuple[Any, str]] = [
        (admin.GetTrack(tracks_pb2.GetTrackRequest(room=room, track_sid=sid)), "track_sid"),
        (admin.GetQualityReport(quality_pb2.GetQualityReportRequest(room=room, track_sid=sid)), "track_sid"),
        (
            admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=sid)])),
            "tracks[0].track_sid",
        ),
        (
            admin.UpdateSubscriptions(tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[sub])),
            "updates[0].track_sid",
        ),
    ]
    for call, field in cases:
        refused = await refusal(call)
        assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_FIELD", (field,))


async def test_batches_are_bounded(admin: Client, room: str) -> None:
    ref = tracks_pb2.TrackRef(track_sid="TR_a")
    sub = tracks_pb2.SubscriptionUpdate(participant_identity="a", track_sid="TR_a")
    nobody = tracks_pb2.SubscriptionUpdate(participant_identity="", track_sid="TR_a")
    cases: list[tuple[Any, str]] = [
        # Neither tracks nor a filter.
        (admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room)), "tracks"),
        (admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref] * 101)), "tracks"),
        (admin.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room)), "tracks"),
        (admin.UpdateSubscriptions(tracks_pb2.UpdateSubscriptionsRequest(room=room)), "updates"),
        (admin.UpdateSubscriptions(tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[sub] * 501)), "updates"),
        (
            admin.UpdateSubscriptions(tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[nobody])),
            "updates[0].participant_identity",
        ),
    ]
    for call, field in cases:
        refused = await refusal(call)
        assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_FIELD", (field,))


@pytest.mark.parametrize(
    ("expression", "line", "column"),
    [
        ("track.nme == 'x'", 1, 6),
        ("track.muted ==", 1, 15),
        ("track.muted &&\n  nonsense", 2, 3),
        ("track.name", 1, 1),
        ("publication.muted", 1, 12),
        ("1 + 1", 1, 1),
    ],
)
async def test_a_bad_expression_tells_where(admin: Client, room: str, expression: str, line: int, column: int) -> None:
    refused = await refusal(admin.ListTracks(tracks_pb2.ListTracksRequest(room=room, filter=expression)))
    assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_EXPRESSION", ("filter",))
    assert refused.metadata["line"] == str(line)
    assert int(refused.metadata["column"]) == pytest.approx(column, abs=1)
    other = Pub.ListPublicationsRequest(room=room, filter=expression.replace("publication", "track"))
    assert (await refusal(admin.ListPublications(other))).reason == "INVALID_EXPRESSION"


DAMAGES: list[Callable[[str], str]] = [
    lambda _: "x",
    lambda _: "%%%",
    lambda _: "ä",
    lambda token: token[1:],
    lambda _: base64.urlsafe_b64encode(b'["x", null, {}]').decode(),
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_page_token(admin: Client, room: str, damage: Callable[[str], str]) -> None:
    for _ in range(2):
        await admin.PublishTrack(Pub.PublishTrackRequest(room=room, spec=DATA, participant_identity="h"), timeout=45)
    page = await admin.ListPublications(Pub.ListPublicationsRequest(room=room, page_size=1))
    token = damage(page.next_page_token)
    refused = await refusal(
        admin.ListPublications(Pub.ListPublicationsRequest(room=room, page_size=1, page_token=token))
    )
    assert (refused.code, refused.reason, refused.fields) == (INVALID, "INVALID_PAGE_TOKEN", ("page_token",))


async def test_bytes_that_are_no_request(track: TrackProcess, room_name: str) -> None:
    token = track.token("admin", room_admin=True, room=room_name)
    async with grpc.aio.insecure_channel(track.address) as channel:
        call: Any = channel.unary_unary("/track.v1.TrackService/ListTracks")
        refused = await refusal(call(b"\xff\xff\xff", metadata=(("authorization", f"Bearer {token}"),)))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_FIELD")


async def test_a_request_that_is_too_large(admin: Client, room: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room, filter="x" * 2_000_000))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
