"""What the permission service counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter

from track.permission.v1.permission_service_pb2 import PermissionIssue
from track.v1.access_pb2 import Permission
from track_server.permissions.rules import Verdict


class DecisionMetrics:
    """Counts; registers its counters with the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            "track_permission_decisions", "Questions decided.", ["permission", "decision"], registry=registry
        )
        self._failed = Counter(
            "track_permission_rule_failures", "Conditions that failed in evaluation.", ["rule"], registry=registry
        )
        self._issues = Counter(
            "track_permission_issues",
            "Disagreements with LiveKit reported.",
            ["permission", "issue"],
            registry=registry,
        )
        self._refused = Counter(
            "track_permission_rules_refused", "Changes of the rules file that were no good.", registry=registry
        )

    def decided(self, permission: "Permission.ValueType", verdict: Verdict) -> None:
        """A question was decided."""
        self._decisions.labels(_permission(permission), "allowed" if verdict.allowed else "denied").inc()
        for rule in verdict.failed:
            self._failed.labels(rule).inc()

    def disagreed(self, permission: "Permission.ValueType", issue: "PermissionIssue.ValueType") -> None:
        """A disagreement was reported."""
        name = PermissionIssue.Name(issue) if issue in PermissionIssue.values() else "UNKNOWN"
        self._issues.labels(_permission(permission), name.removeprefix("PERMISSION_ISSUE_").lower()).inc()

    def refused(self) -> None:
        """The rules file changed, and was no good. Also called from another thread."""
        self._refused.inc()


def _permission(permission: "Permission.ValueType") -> str:
    # Validated: it is one that the contract names.
    return Permission.Name(permission).removeprefix("PERMISSION_").lower()
