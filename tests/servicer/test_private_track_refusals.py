"""What is refused about private tracks: bad input, callers that may not, and tokens of consistency."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, participant
from tests.publications import TONE, publish, unpublish
from tests.refusals import refusal
from tests.restrictions import ENFORCED, STAFF, clear, restrict, rule, shown
from tests.subscriptions import listed, update
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2, tracks_pb2
from track.v1 import subscription_permission_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
DENIED = grpc.StatusCode.PERMISSION_DENIED
NOT_FOUND = grpc.StatusCode.NOT_FOUND

BAD_RULES = [
    pytest.param(rule(), "INVALID_FIELD", "rule", {}, id="empty"),
    pytest.param(rule(filter="  "), "INVALID_FIELD", "rule.filter", {}, id="blank filter"),
    pytest.param(rule("ann", nobody=True), "INVALID_OPTIONS", "rule", {}, id="nobody and somebody"),
    pytest.param(rule(filter=STAFF, nobody=True), "INVALID_OPTIONS", "rule", {}, id="nobody and a filter"),
    pytest.param(
        rule(filter="participant.nme == 'ann'"),
        "INVALID_EXPRESSION",
        "rule.filter",
        {"line": "1", "column": "12"},
        id="unknown field",
    ),
    pytest.param(
        rule(filter="participant.name"), "INVALID_EXPRESSION", "rule.filter", {"line": "1", "column": "1"}, id="no bool"
    ),
    pytest.param(rule("ann", "ann"), "INVALID_FIELD", "rule.participant_identities", {}, id="named twice"),
    pytest.param(rule("a" * 257), "INVALID_FIELD", "rule.participant_identities[0]", {}, id="too long"),
    pytest.param(rule("host"), "INVALID_OPTIONS", "rule.participant_identities", {}, id="the publisher itself"),
]


async def _restrict(client: Client, room: str, **target: Any) -> pb.SetTrackSubscriptionPermissionsResponse:
    return await restrict(client, room, rule("zoe"), **target)


@pytest_asyncio.fixture
async def tone(admin: Client, room: str) -> publication_pb2.Publication:
    """A hosted track."""
    return await publish(admin, room, TONE, "host")


@pytest.mark.parametrize(("bad", "reason", "field", "metadata"), BAD_RULES)
async def test_a_bad_rule_is_refused_with_its_field_and_changes_nothing(
    admin: Client,
    room: str,
    tone: publication_pb2.Publication,
    bad: pb.TrackSubscriptionRule,
    reason: str,
    field: str,
    metadata: dict[str, str],
) -> None:
    refused = await refusal(restrict(admin, room, bad, track_sid=tone.track_sid))
    assert (refused.code, refused.reason, refused.fields) == (INVALID, reason, (field,))
    assert refused.metadata.items() >= metadata.items()
    assert not (await shown(admin, room, track_sid=tone.track_sid)).HasField("rule")


async def test_a_rule_and_a_target_are_required(admin: Client, room: str, tone: publication_pb2.Publication) -> None:
    for request, field in (
        (pb.SetTrackSubscriptionPermissionsRequest(room=room, track_sid=tone.track_sid), "rule"),
        (pb.SetTrackSubscriptionPermissionsRequest(room=room, rule=rule("ann")), "target"),
        (pb.SetTrackSubscriptionPermissionsRequest(room=room, rule=rule("ann"), track_sid="nonsense"), "track_sid"),
    ):
        refused = await refusal(admin.SetTrackSubscriptionPermissions(request))
        assert (refused.code, refused.fields) == (INVALID, (field,))


@pytest.mark.parametrize("call", [_restrict, shown, clear])
async def test_admins_are_told_what_does_not_exist(admin: Client, room: str, call: Callable[..., Any]) -> None:
    refused = await refusal(call(admin, room, track_sid="TR_unknown"))
    assert (refused.code, refused.reason, refused.fields) == (NOT_FOUND, "TRACK_NOT_FOUND", ("track_sid",))
    refused = await refusal(call(admin, room, publication_id="PUB_unknown"))
    assert (refused.code, refused.reason, refused.fields) == (NOT_FOUND, "PUBLICATION_NOT_FOUND", ("publication_id",))


async def test_an_ended_publication_takes_no_rule_and_has_none(
    admin: Client, room: str, tone: publication_pb2.Publication
) -> None:
    target = {"publication_id": tone.publication_id}
    await restrict(admin, room, rule("ann"), **target)
    await unpublish(admin, tone)
    refused = await refusal(restrict(admin, room, rule("ann"), **target))
    assert (refused.code, refused.reason) == (PRECONDITION, "PUBLICATION_ENDED")
    found = await shown(admin, room, **target)
    assert (found.track_sid, found.HasField("rule"), found.enforcement) == ("", False, 0)
    assert not (await clear(admin, room, **target)).permissions.HasField("rule")


async def test_a_data_track_of_a_client_cannot_be_kept_private(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        data = await alice.local_participant.publish_data_track(name="data")
        await listed(admin, room, data.info.sid)
        refused = await refusal(restrict(admin, room, rule("ann"), track_sid=data.info.sid))
        assert (refused.code, refused.reason) == (PRECONDITION, "NOT_FOR_DATA_TRACKS")
        assert refused.fields == ("track_sid",)


@pytest.mark.parametrize("call", [_restrict, shown, clear])
async def test_a_participant_acts_on_its_own_tracks_and_existence_is_not_told(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str, call: Callable[..., Any]
) -> None:
    hosted = await publish(admin, room, TONE, "host")
    async with (
        participant(livekit, room, "alice") as alice,
        camera(alice) as cam,
        track.client("alice", room_join=True, room=room) as her,
        track.client("ben", room_join=True, room=room) as him,
        track.client("ear", room_join=True, room=room, can_publish=False) as ear,
        track.client("boss", room_admin=True, room=f"{room}-other") as foreign,
        track.client("reader", room_list=True) as reader,
        track.client() as nobody,
    ):
        await listed(admin, room, cam.sid)
        await call(her, room, track_sid=cam.sid)
        refusals = [
            await refusal(call(him, room, **target))
            for target in (
                {"track_sid": cam.sid},
                {"track_sid": "TR_unknown"},
                {"publication_id": hosted.publication_id},
                {"publication_id": "PUB_unknown"},
            )
        ]
        assert {(refused.code, refused.reason) for refused in refusals} == {(DENIED, "PERMISSION_DENIED")}
        assert len({refused.message for refused in refusals}) == 1
        for stranger in (ear, foreign, reader):
            assert (await refusal(call(stranger, room, track_sid=cam.sid))).code is DENIED
        assert (await refusal(call(nobody, room, track_sid=cam.sid))).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_consistency_token_is_taken_where_it_was_given(
    track: TrackProcess, livekit: LiveKitProcess, admin: Client, room: str, tone: publication_pb2.Publication
) -> None:
    answer = await restrict(admin, room, rule("ann"), track_sid=tone.track_sid)

    def get(token: str, room: str = room) -> pb.GetTrackSubscriptionPermissionsRequest:
        return pb.GetTrackSubscriptionPermissionsRequest(room=room, track_sid=tone.track_sid, consistency_token=token)

    found = await admin.GetTrackSubscriptionPermissions(get(answer.consistency_token))
    assert found.permissions.enforcement == ENFORCED
    assert (await admin.GetTrackSubscriptionPermissions(get(found.consistency_token))).permissions.rule == rule("ann")
    raw = bytearray(base64.urlsafe_b64decode(answer.consistency_token))
    raw[5] ^= 1
    made_up = base64.urlsafe_b64encode(raw).decode()
    for token in ("nonsense", made_up, answer.consistency_token[:-4], "ä" * 8):
        refused = await refusal(admin.GetTrackSubscriptionPermissions(get(token)))
        assert (refused.code, refused.reason) == (INVALID, "INVALID_CONSISTENCY_TOKEN")
        assert refused.fields == ("consistency_token",)
        request = tracks_pb2.UpdateSubscriptionsRequest(
            room=room, updates=[update("ann", tone.track_sid)], consistency_token=token
        )
        assert (await refusal(admin.UpdateSubscriptions(request))).reason == "INVALID_CONSISTENCY_TOKEN"


async def test_a_token_of_a_state_that_this_server_has_not_reached_is_told_so(
    admin: Client, room: str, tone: publication_pb2.Publication
) -> None:
    # Of a server with another store, which has come further.
    from track_server.private_tracks.consistency import token_of

    request = pb.GetTrackSubscriptionPermissionsRequest(
        room=room, track_sid=tone.track_sid, consistency_token=token_of(room, 2**40)
    )
    refused = await refusal(admin.GetTrackSubscriptionPermissions(request, timeout=30))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "CONSISTENCY_NOT_REACHED")
    assert refused.retry_s


async def test_the_same_request_id_changes_it_once(admin: Client, room: str, tone: publication_pb2.Publication) -> None:
    request = pb.SetTrackSubscriptionPermissionsRequest(
        room=room, track_sid=tone.track_sid, rule=rule("ann"), request_id="once"
    )
    answers = await asyncio.gather(*(admin.SetTrackSubscriptionPermissions(request, timeout=45) for _ in range(5)))
    assert len({answer.consistency_token for answer in answers}) == 1
    request.rule.CopyFrom(rule("ben"))
    assert (await refusal(admin.SetTrackSubscriptionPermissions(request))).reason == "REQUEST_ID_REUSED"
