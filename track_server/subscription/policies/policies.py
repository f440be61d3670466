"""The policies that are kept."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from track.v1.subscription_pb2 import SubscriptionPolicy, SubscriptionRule
from track_server.errors import InvalidExpression, LimitExceeded, StoreUnavailable, SubscriptionPolicyNotFound
from track_server.etags import ABSENT, compare, new_etag
from track_server.store.records import Store, StoreError
from track_server.subscription.policies.condition import Condition, Memory, Sieve, condition_of
from track_server.subscription.policies.effective import effective
from track_server.subscription.policies.ruleset import Ruleset

log = structlog.get_logger(__name__)

_KIND: Final = "subscription_policy"
_LIMIT: Final = "max_subscription_policies_per_room"

Listener = Callable[[str, str], None]
"""Room, and the subscriber whose policy changed; empty: the room's, and with it what holds for all of it."""

Conditions = Sequence[Condition | None]
"""Compiled, of the rules of a policy in order; None: holds always."""


class _RoomPolicies:
    """Those of one room, by identity, "" for the room's, and what came of them."""

    def __init__(self) -> None:
        self.kept: dict[str, SubscriptionPolicy] = {}
        self._own: dict[str, Conditions] = {}
        """Of subscribers' own rules: a change of the room's leaves them as they are."""
        self._rules: RoomRules | None = None
        self._rulesets: dict[str, Ruleset | None] = {}

    def take(self, policy: SubscriptionPolicy) -> None:
        self.kept[policy.participant_identity] = policy
        self._changed(policy.participant_identity)

    def drop(self, identity: str) -> None:
        del self.kept[identity]
        self._changed(identity)

    def ruleset(self, identity: str) -> Ruleset | None:
        whose = identity if identity in self.kept else ""
        if whose not in self._rulesets:
            if self._rules is None:
                self._rules = RoomRules(self.kept.get(""))
            own = self.kept.get(whose) if whose else None
            if own is not None and whose not in self._own:
                self._own[whose] = _conditions(own)
            self._rulesets[whose] = self._rules.ruleset(whose, own, self._own.get(whose))
        return self._rulesets[whose]

    def _changed(self, identity: str) -> None:
        if identity:
            self._rulesets.pop(identity, None)
            self._own.pop(identity, None)
        else:
            self.forget()

    def forget(self) -> None:
        """Lets go of all that came of them."""
        self._rules = None
        self._rulesets.clear()


class Policies:
    """Owner of the policies. Reads never wait; what is set is in the store before it holds."""

    def __init__(self, store: Store, limit: int) -> None:
        """``limit``: policies of one room."""
        self._store = store
        self._limit = limit
        self._rooms: dict[str, _RoomPolicies] = {}
        self._listeners: list[Listener] = []
        self._turn = asyncio.Lock()

    async def load(self) -> None:
        """Reads what an earlier run left."""
        for record in await self._store.list(_KIND):
            self._take(SubscriptionPolicy.FromString(record.body))

    def ruleset(self, room: str, identity: str) -> Ruleset | None:
        """What holds for that subscriber; None where there is no policy."""
        policies = self._rooms.get(room)
        return policies.ruleset(identity) if policies is not None else None

    def rooms(self) -> Collection[str]:
        """The rooms that have a policy."""
        return self._rooms.keys()

    def concerns(self, room: str) -> bool:
        """Whether the room, or a subscriber in it, has a policy."""
        return room in self._rooms

    def find(self, room: str, identity: str) -> SubscriptionPolicy | None:
        """As it was set; None where there is none. Never change it."""
        policies = self._rooms.get(room)
        return policies.kept.get(identity) if policies is not None else None

    def of(self, room: str) -> list[SubscriptionPolicy]:
        """All of a room: its own first, then those of subscribers by identity."""
        policies = self._rooms.get(room)
        return [policies.kept[identity] for identity in sorted(policies.kept)] if policies is not None else []

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` of every change, once it is stored. It must neither wait nor raise."""
        self._listeners.append(listener)

    def closed(self, room: str) -> None:
        """The room's life is over: lets go of what its participants and tracks were found to be."""
        policies = self._rooms.get(room)
        if policies is not None:
            policies.forget()

    async def set(
        self, policy: SubscriptionPolicy, creator: str, etag: str, *, validate_only: bool
    ) -> SubscriptionPolicy:
        """Keeps the policy, which was checked, in the place of the one of that room and subscriber.

        Raises EtagMismatch, LimitExceeded, StoreUnavailable.
        """
        room, identity = policy.room, policy.participant_identity
        async with self._turn:
            known = self.find(room, identity)
            compare(_etag(known), etag, "policy")
            if known is None and len(self.of(room)) >= self._limit:
                raise LimitExceeded(_LIMIT, self._limit, f"room {room}", used=self._limit + 1)
            kept = SubscriptionPolicy()
            kept.CopyFrom(policy)
            kept.creator_identity = creator
            kept.update_time.FromNanoseconds(time.time_ns())
            kept.etag = new_etag()
            if validate_only:
                kept.etag = _etag(known)
                return kept
            try:
                await self._store.put(_KIND, room, identity, kept.SerializeToString())
            except StoreError as error:
                raise StoreUnavailable("the policy cannot be stored now") from error
            self._take(kept)
            self._tell(room, identity)
            return kept

    async def delete(self, room: str, identity: str, etag: str, *, validate_only: bool) -> SubscriptionPolicy:
        """Removes it. Raises SubscriptionPolicyNotFound, EtagMismatch, StoreUnavailable."""
        async with self._turn:
            known = self.find(room, identity)
            if known is None:
                raise not_found(identity)
            compare(_etag(known), etag, "policy")
            if validate_only:
                return known
            try:
                await self._store.delete(_KIND, room, identity)
            except StoreError as error:
                raise StoreUnavailable("the policy cannot be removed now") from error
            policies = self._rooms[room]
            policies.drop(identity)
            if not policies.kept:
                del self._rooms[room]
            self._tell(room, identity)
            return known

    def _take(self, policy: SubscriptionPolicy) -> None:
        self._rooms.setdefault(policy.room, _RoomPolicies()).take(policy)

    def _tell(self, room: str, identity: str) -> None:
        for listener in self._listeners:
            listener(room, identity)


class RoomRules:
    """The rules of a room, compiled once for all subscribers. ``policy``: the room's; None where it has none.

    ``memory``: a new one, where there is more to be said of it.
    """

    def __init__(self, policy: SubscriptionPolicy | None, memory: Memory | None = None) -> None:
        self._policy = policy
        self._memory = memory or Memory()
        self._conditions = _conditions(policy)
        self._sieve = Sieve(self._conditions, self._memory)

    def ruleset(
        self, identity: str, own: SubscriptionPolicy | None, compiled: Conditions | None = None
    ) -> Ruleset | None:
        """What holds for a subscriber with that policy of its own; None where there is neither. ``compiled``: its
        conditions, where they were compiled before."""
        if own is None and self._policy is None:
            return None
        conditions = [*(_conditions(own) if compiled is None else compiled), *self._conditions]
        return Ruleset(effective(identity, own, self._policy), conditions, self._sieve, self._memory)


def _conditions(policy: SubscriptionPolicy | None) -> Conditions:
    return [] if policy is None else [_kept_condition(policy, rule) for rule in policy.rules]


def _kept_condition(policy: SubscriptionPolicy, rule: SubscriptionRule) -> Condition | None:
    try:
        return condition_of(rule.condition, "policy.rules.condition")
    except InvalidExpression as error:
        # It was good when it was set, by another version of this service.
        log.warning(
            "subscription_rule_never_matches",
            room=policy.room,
            participant_identity=policy.participant_identity,
            rule=rule.name,
            reason=error.message,
        )
        return condition_of("false", "policy.rules.condition")


def not_found(identity: str) -> SubscriptionPolicyNotFound:
    """No policy of that subscriber, or of the room."""
    whose = f"of {identity!r}" if identity else "of the room"
    return SubscriptionPolicyNotFound(
        f"no subscription policy {whose}", field="participant_identity" if identity else "room"
    )


def _etag(known: SubscriptionPolicy | None) -> str:
    return known.etag if known is not None else ABSENT
