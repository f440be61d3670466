"""Track tokens that the permission service issues, or does not."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.access.service_mode.service import ALICE, Running
from track.permission.v1 import permission_service_pb2 as pb
from track.v1 import access_pb2
from track.v1.access_pb2 import TrackOperation
from track.v1.token_pb2 import PublishBounds
from track_server.errors import PermissionDenied, PermissionServiceUnavailable
from track_server.permission_client.answers import MalformedAnswer


def issue(service: Running, room: str = "a", bounds: PublishBounds | None = None) -> Any:
    grants = access_pb2.Grants(room="a", room_join=True)
    operation = TrackOperation.TRACK_OPERATION_PUBLISH
    return service.access.issue(ALICE, room, "alice", operation, grants, bounds, Duration(seconds=60))


async def test_the_service_may_issue_tokens_and_need_not(service: Running) -> None:
    assert await issue(service) is None
    service.peer.fails.clear()
    service.peer.issued = pb.IssueTrackTokenResponse(
        decision=pb.DECISION_ALLOWED, token="made there", obligations=PublishBounds(max_width=10)
    )
    bounds = PublishBounds(max_width=100)
    assert await issue(service, bounds=bounds) == service.peer.issued
    asked = service.peer.issues[-1]
    assert (asked.principal, asked.room, asked.participant_identity) == (ALICE.message, "a", "alice")
    assert (asked.operation, asked.bounds, asked.ttl.seconds) == (TrackOperation.TRACK_OPERATION_PUBLISH, bounds, 60)
    assert asked.grants == access_pb2.Grants(room="a", room_join=True)


async def test_a_token_is_not_issued_where_the_service_says_so_or_says_nothing_of_sense(service: Running) -> None:
    service.peer.fails.clear()
    service.peer.issued = pb.IssueTrackTokenResponse(decision=pb.DECISION_DENIED, reason="no tokens today")
    with pytest.raises(PermissionDenied, match="no tokens today"):
        await issue(service)
    for lie in (
        pb.IssueTrackTokenResponse(token="x"),
        pb.IssueTrackTokenResponse(decision=pb.DECISION_ALLOWED, obligations=PublishBounds(max_width=-1)),
    ):
        service.peer.issued = lie
        with pytest.raises(MalformedAnswer):
            await issue(service)
    service.peer.fails["IssueTrackToken"] = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(PermissionServiceUnavailable):
        await issue(service)
    calls = len(service.peer.calls)
    with pytest.raises(PermissionDenied):
        await issue(service, room="b")
    assert len(service.peer.calls) == calls
