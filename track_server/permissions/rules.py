"""What rules decide: pure functions over the contract's questions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from track.permission.v1.permission_service_pb2 import CheckPermissionRequest, IssueTrackTokenRequest
from track.v1.access_pb2 import Permission
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.cel import Condition

PERMISSIONS: Final = frozenset(Permission.values()) - {Permission.PERMISSION_UNSPECIFIED}
"""All there are."""
DEFAULT_LIFETIME_S: Final = 60.0
NO_TOKEN: Final = IssueTrackTokenRequest()
"""What `issue` is where no token is to be issued."""

_NO_RULE: Final = "no rule allows this"
_DENIED: Final = "the rules do not allow this"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It speaks of ``permissions`` alone, and matches where its condition holds."""

    name: str = field(compare=False)
    permissions: frozenset["Permission.ValueType"]
    when: str
    """The condition as it was written."""
    condition: Condition = field(compare=False, repr=False)
    """Of `check` and `issue`."""
    allows: bool = True
    reason: str = ""
    lifetime_s: float = DEFAULT_LIFETIME_S
    obligations: Bounds = UNBOUNDED
    """Within which it allows to publish."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided. ``failed``: names of rules whose conditions failed while they were evaluated."""

    allowed: bool
    reason: str
    lifetime_s: float
    obligations: Bounds
    failed: tuple[str, ...]


class RuleSet:
    """Rules in their order. Of those that speak of a permission, the first that matches decides; where none does, it is
    denied."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._speaking_of = {
            permission: tuple(rule for rule in self.rules if permission in rule.permissions)
            for permission in PERMISSIONS
        }

    def decide(self, check: CheckPermissionRequest, issue: IssueTrackTokenRequest = NO_TOKEN) -> Verdict:
        """The answer to ``check``; ``issue``: the token that is asked for.

        A condition that fails while it is evaluated matches in a rule that denies, and does not in one that allows.
        """
        values = {"check": check, "issue": issue}
        failed: tuple[str, ...] = ()
        for rule in self._speaking_of.get(check.permission, ()):
            holds = rule.condition(values)
            if holds is None:
                failed = (*failed, rule.name)
                holds = not rule.allows
            if holds:
                reason = rule.reason or ("" if rule.allows else _DENIED)
                return Verdict(rule.allows, reason, rule.lifetime_s, rule.obligations, failed)
        return Verdict(
            allowed=False, reason=_NO_RULE, lifetime_s=DEFAULT_LIFETIME_S, obligations=UNBOUNDED, failed=failed
        )

    def changed(self, other: "RuleSet") -> frozenset["Permission.ValueType"]:
        """The permissions about which the two may decide differently. A rule's name decides nothing."""
        return frozenset(
            permission
            for permission in PERMISSIONS
            if [_deciding(rule) for rule in self._speaking_of[permission]]
            != [_deciding(rule) for rule in other._speaking_of[permission]]
        )


def _deciding(rule: Rule) -> tuple[object, ...]:
    return rule.when, rule.allows, rule.reason, rule.lifetime_s, rule.obligations
