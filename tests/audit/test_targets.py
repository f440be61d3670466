"""What an operation acted on, read from its messages by the names of their fields."""

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from track.v1 import (
    egress_pb2,
    metadata_pb2,
    moderation_pb2,
    publication_pb2,
    subscription_permission_pb2,
    token_pb2,
    track_service_pb2,
    tracks_pb2,
)
from track.v1.audit_pb2 import AuditTarget
from track.v1.error_pb2 import ERROR_REASON_PERMISSION_DENIED, ERROR_REASON_TRACK_NOT_FOUND, Problem
from track_server.audit.targets import MAX_TARGETS, targets_of

OBSERVED = publication_pb2.STAGE_OBSERVED
REQUESTED = publication_pb2.STAGE_REQUESTED
DENIED = Problem(code=7, reason=ERROR_REASON_PERMISSION_DENIED, message="no")


def test_of_a_publication_its_ids_and_its_stage() -> None:
    request = publication_pb2.PublishTrackRequest(room="demo", participant_identity="alice")
    publication = publication_pb2.Publication(
        publication_id="PUB_1", participant_identity="alice", track_sid="TR_1", creator_identity="operator"
    )
    response = publication_pb2.PublishTrackResponse(publication=publication, stage=OBSERVED)
    assert targets_of(request, response, None) == [
        AuditTarget(participant_identity="alice", track_sid="TR_1", publication_id="PUB_1", stage=OBSERVED)
    ]


def test_of_a_batch_one_a_result_with_what_became_of_it() -> None:
    request = tracks_pb2.MuteTracksRequest(
        tracks=[tracks_pb2.TrackRef(track_sid="TR_1"), tracks_pb2.TrackRef(track_sid="TR_2")]
    )
    problem = Problem(code=5, reason=ERROR_REASON_TRACK_NOT_FOUND, message="x" * 1000)
    response = tracks_pb2.MuteTracksResponse(
        results=[
            tracks_pb2.MuteResult(
                track=tracks_pb2.TrackRef(track_sid="TR_1", participant_identity="alice"), stage=REQUESTED
            ),
            tracks_pb2.MuteResult(track=tracks_pb2.TrackRef(track_sid="TR_2"), problem=problem),
        ]
    )
    first, second = targets_of(request, response, None)
    assert first == AuditTarget(participant_identity="alice", track_sid="TR_1", stage=REQUESTED)
    assert (second.track_sid, second.problem.reason, len(second.problem.message)) == ("TR_2", problem.reason, 256)


def test_of_subscriptions_subscriber_and_track() -> None:
    update = tracks_pb2.SubscriptionUpdate(participant_identity="bob", track_sid="TR_1", subscribe=True)
    request = tracks_pb2.UpdateSubscriptionsRequest(updates=[update])
    response = tracks_pb2.UpdateSubscriptionsResponse(
        results=[tracks_pb2.SubscriptionResult(subscription=update, stage=OBSERVED)]
    )
    expected = AuditTarget(participant_identity="bob", track_sid="TR_1", stage=OBSERVED)
    assert targets_of(request, response, None) == [expected]


def test_what_the_answer_does_not_name_the_request_does() -> None:
    request = publication_pb2.UnpublishTrackRequest(room="demo", publication_id="PUB_1")
    assert targets_of(request, publication_pb2.UnpublishTrackResponse(stage=REQUESTED), None) == [
        AuditTarget(publication_id="PUB_1", stage=REQUESTED)
    ]


def test_of_subscription_permissions_the_track_and_of_a_token_its_participant() -> None:
    permissions = subscription_permission_pb2.TrackSubscriptionPermissions(track_sid="TR_1", publication_id="PUB_1")
    request = subscription_permission_pb2.SetTrackSubscriptionPermissionsRequest(publication_id="PUB_1")
    response = subscription_permission_pb2.SetTrackSubscriptionPermissionsResponse(
        permissions=permissions, stage=OBSERVED, unsubscribed_identities=["bob"]
    )
    assert targets_of(request, response, None) == [
        AuditTarget(track_sid="TR_1", publication_id="PUB_1", stage=OBSERVED)
    ]
    answer = token_pb2.CreateTrackTokenResponse(participant_identity="alice")
    assert targets_of(token_pb2.CreateTrackTokenRequest(), answer, None) == [AuditTarget(participant_identity="alice")]


def test_of_metadata_the_track_and_of_a_recording_what_is_recorded() -> None:
    names = {"participant_identity": "alice", "track_sid": "TR_1", "publication_id": "PUB_1"}
    metadata = metadata_pb2.TrackMetadata(**names)  # type: ignore[arg-type]  # strings all
    set_request = metadata_pb2.SetTrackMetadataRequest(publication_id="PUB_1")
    set_response = metadata_pb2.SetTrackMetadataResponse(metadata=metadata, stage=OBSERVED)
    assert targets_of(set_request, set_response, None) == [AuditTarget(**names, stage=OBSERVED)]  # type: ignore[arg-type]
    egress = egress_pb2.TrackEgress(egress_id="TEG_1", track_sid="TR_1", audio_track_sid="TR_2")
    start = egress_pb2.StartTrackEgressRequest(track_sid="TR_1", audio_track_sid="TR_2")
    expected = [AuditTarget(track_sid="TR_1")]
    assert targets_of(start, egress_pb2.StartTrackEgressResponse(egress=egress), None) == expected
    stop = egress_pb2.StopTrackEgressRequest(egress_id="TEG_1")
    assert targets_of(stop, egress_pb2.StopTrackEgressResponse(egress=egress), None) == expected


def test_of_moderation_whom_it_is_about() -> None:
    request = tracks_pb2.MuteTracksRequest(except_filter="true", block=True)
    block = moderation_pb2.ModerationBlock(block_id="BLK_1", participant_identity="bob", creator_identity="operator")
    ref = tracks_pb2.TrackRef(track_sid="TR_1", participant_identity="bob")
    muted = tracks_pb2.MuteTracksResponse(results=[tracks_pb2.MuteResult(track=ref, stage=OBSERVED, block=block)])
    assert targets_of(request, muted, None) == [
        AuditTarget(participant_identity="bob", track_sid="TR_1", stage=OBSERVED)
    ]
    lift = moderation_pb2.LiftModerationBlocksRequest(block_ids=["BLK_1", "BLK_2"])
    results = [
        moderation_pb2.LiftModerationBlockResult(block_id="BLK_1", block=block),
        moderation_pb2.LiftModerationBlockResult(block_id="BLK_2", problem=DENIED),
    ]
    lifted = moderation_pb2.LiftModerationBlocksResponse(results=results)
    assert targets_of(lift, lifted, None) == [AuditTarget(participant_identity="bob")]
    ask = moderation_pb2.RequestUnmuteRequest(track_sid="TR_1")
    asked = moderation_pb2.RequestUnmuteResponse(
        unmute_request=moderation_pb2.UnmuteRequest(participant_identity="bob"), stage=OBSERVED
    )
    expected = [AuditTarget(participant_identity="bob", track_sid="TR_1", stage=OBSERVED)]
    assert targets_of(ask, asked, None) == expected


def test_of_a_call_that_failed_what_it_asked_for_with_code_and_reason() -> None:
    request = tracks_pb2.MuteTracksRequest(
        tracks=[tracks_pb2.TrackRef(track_sid="TR_1"), tracks_pb2.TrackRef(track_sid="TR_2")]
    )
    problem = Problem(code=7, reason=ERROR_REASON_PERMISSION_DENIED)
    assert targets_of(request, None, DENIED) == [
        AuditTarget(track_sid="TR_1", problem=problem),
        AuditTarget(track_sid="TR_2", problem=problem),
    ]


def test_of_a_request_that_names_nothing_no_target() -> None:
    assert targets_of(publication_pb2.PublishTrackRequest(room="demo"), None, DENIED) == []
    assert targets_of(tracks_pb2.ListTracksRequest(room="demo"), None, DENIED) == []


def test_there_are_never_more_than_500() -> None:
    request = tracks_pb2.UpdateSubscriptionsRequest(
        updates=[tracks_pb2.SubscriptionUpdate(track_sid=f"TR_{n}") for n in range(600)]
    )
    assert len(targets_of(request, None, DENIED)) == MAX_TARGETS


def test_the_messages_of_every_rpc_can_be_read() -> None:
    service = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"]
    for rpc in service.methods:
        request: Message = GetMessageClass(rpc.input_type)()
        response: Message = GetMessageClass(rpc.output_type)()
        assert targets_of(request, None, DENIED) == []
        assert targets_of(request, response, None) == []
