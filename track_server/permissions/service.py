"""PermissionService: what TrackService asks, answered by the rules as they stand."""

from collections.abc import AsyncIterator
from typing import Any

import structlog

from track.permission.v1 import permission_service_pb2 as pb
from track.permission.v1.permission_service_pb2_grpc import PermissionServiceServicer
from track.v1.access_pb2 import Permission
from track_server.access.bounds import UNBOUNDED
from track_server.durations import duration_of
from track_server.interceptors.context import current_call
from track_server.permissions.live import LiveRules
from track_server.permissions.metrics import DecisionMetrics
from track_server.permissions.rules import NO_TOKEN, PERMISSIONS, Verdict

log = structlog.get_logger(__name__)


class Permissions(PermissionServiceServicer):
    """See PermissionService in its contract."""

    def __init__(self, rules: LiveRules, metrics: DecisionMetrics) -> None:
        self._rules = rules
        self._metrics = metrics

    async def CheckPermission(self, request: pb.CheckPermissionRequest, context: Any) -> pb.CheckPermissionResponse:
        await self._rules.reach(request.consistency_token, current_call().remaining())
        return self._answer(request)

    async def BatchCheckPermissions(
        self, request: pb.BatchCheckPermissionsRequest, context: Any
    ) -> pb.BatchCheckPermissionsResponse:
        demanded = {check.consistency_token: number for number, check in enumerate(request.checks)}
        for token, number in demanded.items():
            field = f"checks[{number}].consistency_token"
            await self._rules.reach(token, current_call().remaining(), field)
        return pb.BatchCheckPermissionsResponse(results=[self._answer(check) for check in request.checks])

    async def IssueTrackToken(self, request: pb.IssueTrackTokenRequest, context: Any) -> pb.IssueTrackTokenResponse:
        check = pb.CheckPermissionRequest(
            principal=request.principal,
            permission=Permission.PERMISSION_CREATE_TOKEN,
            room=request.room,
            participant_identity=request.participant_identity,
        )
        verdict = self._decide(check, request)
        bounded = verdict.allowed and verdict.obligations != UNBOUNDED
        # Without a token of ours: TrackService makes it.
        return pb.IssueTrackTokenResponse(
            decision=_decision(verdict),
            reason=verdict.reason,
            obligations=verdict.obligations.message() if bounded else None,
            consistency_token=self._rules.token,
        )

    async def ReportPermissionIssue(
        self, request: pb.ReportPermissionIssueRequest, context: Any
    ) -> pb.ReportPermissionIssueResponse:
        check = request.check
        self._metrics.disagreed(check.permission, request.issue)
        known = request.issue in pb.PermissionIssue.values()
        log.warning(
            "permission_issue",
            issue=pb.PermissionIssue.Name(request.issue) if known else request.issue,
            permission=Permission.Name(check.permission),
            principal=check.principal.identity,
            room=check.room,
            participant_identity=check.participant_identity,
            track_sid=check.track_sid,
            detail=request.detail,
            request_id=request.request_id,
        )
        return pb.ReportPermissionIssueResponse()

    async def WatchPermissions(
        self, request: pb.WatchPermissionsRequest, context: Any
    ) -> AsyncIterator[pb.WatchPermissionsResponse]:
        with self._rules.watching() as watch:
            yield pb.WatchPermissionsResponse(consistency_token=self._rules.token)
            while True:
                permissions = await watch.next()
                yield pb.WatchPermissionsResponse(changes=changes_of(permissions), consistency_token=self._rules.token)

    def _answer(self, check: pb.CheckPermissionRequest) -> pb.CheckPermissionResponse:
        verdict = self._decide(check, NO_TOKEN)
        publishes = verdict.allowed and check.permission == Permission.PERMISSION_PUBLISH
        bounded = publishes and verdict.obligations != UNBOUNDED
        return pb.CheckPermissionResponse(
            decision=_decision(verdict),
            reason=verdict.reason,
            lifetime=duration_of(verdict.lifetime_s),
            consistency_token=self._rules.token,
            obligations=verdict.obligations.message() if bounded else None,
        )

    def _decide(self, check: pb.CheckPermissionRequest, issue: pb.IssueTrackTokenRequest) -> Verdict:
        verdict = self._rules.rules.decide(check, issue)
        self._metrics.decided(check.permission, verdict)
        return verdict


def changes_of(permissions: frozenset["Permission.ValueType"]) -> list[pb.PermissionChange]:
    """The changes that touch every question about those permissions: none, one that names them, or one for all."""
    if not permissions:
        return []
    return [pb.PermissionChange(permissions=[] if permissions >= PERMISSIONS else sorted(permissions))]


def _decision(verdict: Verdict) -> "pb.Decision.ValueType":
    return pb.DECISION_ALLOWED if verdict.allowed else pb.DECISION_DENIED
