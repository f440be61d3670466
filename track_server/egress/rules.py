"""Rules by which tracks are recorded: kept, and carried out in every room that they are about."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

import structlog

from track.v1 import access_pb2, event_pb2
from track.v1 import egress_pb2 as pb
from track.v1.egress_pb2 import EgressRule
from track.v1.event_pb2 import EventCause
from track.v1.track_pb2 import TRACK_TYPE_DATA, Track
from track_server.access.principal import remembered
from track_server.access.question import Question
from track_server.access.revocation import StandingEffect
from track_server.cel import compile_filter
from track_server.config import Settings
from track_server.egress.outputs import Places, shown
from track_server.egress.paths import TIME, TRACK
from track_server.egress.recordings import Recordings
from track_server.egress.requests import Caller
from track_server.errors import EgressRuleNotFound, InvalidExpression, InvalidField, LimitExceeded, PermissionDenied
from track_server.lifetime import Closing, Tasks
from track_server.paging import page_of
from track_server.rooms.causes import rule_cause
from track_server.rooms.room import LiveRoom, now
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "egress_rule"
_OWNER: Final = "egress_rules"
_CHANGES: Final = frozenset({"track_published", "track_updated"})


class EgressRules(Closing):
    """Owner of the rules, `async with`. Rooms that they are about are kept watched."""

    def __init__(
        self, rooms: Rooms, standing: Standing, store: Store, recordings: Recordings, places: Places, settings: Settings
    ) -> None:
        self._rooms = rooms
        self._standing = standing
        self._store = store
        self._recordings = recordings
        self._places = places
        self._limit = settings.max_egress_rules_per_room
        self._rules: dict[tuple[str, str], EgressRule] = {}
        """Whole, by room and name."""
        self._setting = asyncio.Lock()
        """Of calls at the same time none goes beyond the limit."""
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Stops carrying them out. May be called twice."""
        await self._tasks.aclose()

    async def load(self) -> None:
        """Reads what an earlier run left, and has its rooms watched."""
        for record in await self._store.list(_KIND):
            self._take(EgressRule.FromString(record.body))

    async def set(self, caller: Caller, request: pb.SetEgressRuleRequest) -> pb.SetEgressRuleResponse:
        """Stores it; it holds from now on. Raises InvalidField, InvalidExpression, InvalidOptions,
        DestinationNotAllowed, LimitExceeded, StoreError."""
        rule = EgressRule()
        rule.CopyFrom(request.rule)
        if rule.room not in ("", request.room):
            raise InvalidField("the rule's room is that of the request", field="rule.room")
        rule.room = request.room
        if compile_filter(rule.filter, "track", "rule.filter") is None:
            raise InvalidExpression("the filter is empty", field="rule.filter")
        self._places.check(rule.output, "rule.")
        path = rule.output.file.filepath
        if rule.output.HasField("file") and TIME not in path and TRACK not in path:
            raise InvalidField(
                "the path needs {track_id} or {time}, so that each recording has its own",
                field="rule.output.file.filepath",
            )
        rule.update_time.CopyFrom(now())
        rule.creator_identity = caller.principal.identity
        rule.creator.CopyFrom(caller.principal.message)
        async with self._setting:
            self._admit(rule)
            if not request.validate_only:
                await self._store.put(_KIND, rule.room, rule.name, rule.SerializeToString())
                self._tell(rule, caller.cause, removed=False)
                self._take(rule)
        return pb.SetEgressRuleResponse(rule=_shown(rule))

    def _admit(self, rule: EgressRule) -> None:
        if (rule.room, rule.name) not in self._rules and len(self._of(rule.room)) >= self._limit:
            subject = f"room {rule.room}" if rule.room else "all rooms"
            raise LimitExceeded("max_egress_rules_per_room", self._limit, subject)

    async def delete(self, caller: Caller, request: pb.DeleteEgressRuleRequest) -> pb.DeleteEgressRuleResponse:
        """Removes it. Raises EgressRuleNotFound, StoreError."""
        rule = self._rules.get((request.room, request.name))
        if rule is None:
            raise EgressRuleNotFound(f"no rule {request.name!r} of the room", field="name")
        if not request.validate_only:
            await self._remove(rule, caller.cause)
        return pb.DeleteEgressRuleResponse(rule=_shown(rule))

    def list_page(self, request: pb.ListEgressRulesRequest) -> pb.ListEgressRulesResponse:
        """A page. Raises InvalidPageToken."""
        rooms = {"", request.room}
        found, token = page_of(
            (rule for rule in self._rules.values() if rule.room in rooms),
            lambda rule: (rule.room, rule.name),
            size=request.page_size,
            token=request.page_token,
            query=("egress_rules", request.room),
        )
        return pb.ListEgressRulesResponse(rules=[_shown(rule) for rule in found], next_page_token=token)

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """Listens to watched rooms."""
        if not self._rules or event.WhichOneof("change") not in _CHANGES:
            return
        live = self._rooms.find(room)
        if live is None:
            return
        told = event.track_published if event.HasField("track_published") else event.track_updated
        track = live.model.tracks.get(told.sid)
        if track is not None:
            for rule in self._about(room):
                self._apply(rule, live, track)

    def came(self, live: LiveRoom) -> None:
        """A room that is wanted is watched: its tracks may have come before."""
        for rule in self._about(live.name):
            for track in list(live.model.tracks.values()):
                self._apply(rule, live, track)

    def standing(self) -> Iterable[StandingEffect]:
        """See Revocation.add: a rule rests on the permission of who set it."""
        return [
            StandingEffect(
                remembered(rule.creator), Question(access_pb2.PERMISSION_RECORD, rule.room), partial(self._revoke, rule)
            )
            for rule in self._rules.values()
            if rule.HasField("creator")
        ]

    async def _revoke(self, rule: EgressRule, error: PermissionDenied) -> None:
        if self._rules.get((rule.room, rule.name)) is rule:
            await self._remove(rule, rule_cause("permission_revoked", error.message))

    async def _remove(self, rule: EgressRule, cause: EventCause) -> None:
        await self._store.delete(_KIND, rule.room, rule.name)
        self._rules.pop((rule.room, rule.name), None)
        if not self._of(rule.room):
            if rule.room:
                self._standing.release(_OWNER, rule.room)
            else:
                self._standing.release_all(_OWNER)
        self._tell(rule, cause, removed=True)

    def _take(self, rule: EgressRule) -> None:
        self._rules[rule.room, rule.name] = rule
        if rule.room:
            self._standing.want(_OWNER, rule.room)
        else:
            self._standing.want_all(_OWNER)
        for name in [rule.room] if rule.room else self._rooms.watched():
            live = self._rooms.find(name)
            if live is not None:
                for track in list(live.model.tracks.values()):
                    self._apply(rule, live, track)

    def _of(self, room: str) -> list[EgressRule]:
        return [rule for rule in self._rules.values() if rule.room == room]

    def _about(self, room: str) -> list[EgressRule]:
        return [rule for rule in self._rules.values() if rule.room in ("", room)]

    def _apply(self, rule: EgressRule, live: LiveRoom, track: Track) -> None:
        if track.type == TRACK_TYPE_DATA:
            return
        matches = compile_filter(rule.filter, "track")
        if matches is not None and matches(track):
            self._tasks.spawn(self._record(rule, live, track), name=f"rule {rule.name}: {track.sid}")

    async def _record(self, rule: EgressRule, live: LiveRoom, track: Track) -> None:
        try:
            await self._recordings.record_by_rule(rule, live, track)
        except StoreError as error:
            log.warning("egress_rule_not_carried_out", rule=rule.name, room=live.name, reason=str(error))

    def _tell(self, rule: EgressRule, cause: EventCause, *, removed: bool) -> None:
        told = event_pb2.PolicyChanged(
            kind=event_pb2.POLICY_KIND_EGRESS_RULE, name=rule.name, all_rooms=not rule.room, removed=removed
        )
        for name in [rule.room] if rule.room else self._rooms.watched():
            self._rooms.announce(name, event_pb2.RoomEvent(policy_changed=told, cause=cause))


def _shown(rule: EgressRule) -> EgressRule:
    result = EgressRule()
    result.CopyFrom(rule)
    result.output.CopyFrom(shown(rule.output))
    return result
