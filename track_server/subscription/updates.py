"""Subscribing participants to tracks: validated, asked of LiveKit, and seen where anybody can see it."""

import asyncio
import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from track.v1 import access_pb2, event_pb2, publication_pb2, track_pb2, tracks_pb2
from track_server.access.access import Access
from track_server.access.bounds import Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.rules import is_admin
from track_server.deadline import Deadline
from track_server.errors import (
    InvalidField,
    InvalidOptions,
    LiveKitUnavailable,
    NotForDataTracks,
    ParticipantNotFound,
    TargetPermission,
    TrackError,
)
from track_server.livekit.api import LiveKitApi
from track_server.livekit.debug import DebugView
from track_server.rooms.reading import find_track, look
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.subscriptions import Subscriptions
from track_server.subscription.granted import GrantedSubscriptions
from track_server.subscription.lasting import LastingSubscriptions
from track_server.subscription.restrictions import Restrictions

_RETRY_FIRST_S: Final = 0.1
_RETRY_LAST_S: Final = 1.0
# The debug view answers in 2 ms but walks every room of the node, so it is asked less often the longer nothing happens.
_LOOK_FIRST_S: Final = 0.02
_LOOK_LAST_S: Final = 0.25


@dataclass(slots=True)
class _Item:
    """One subscription on its way."""

    update: tracks_pb2.SubscriptionUpdate
    question: Question
    result: tracks_pb2.SubscriptionResult = field(init=False)

    def __post_init__(self) -> None:
        self.result = tracks_pb2.SubscriptionResult(subscription=self.update)

    @property
    def failed(self) -> bool:
        return self.result.HasField("problem")

    def fail(self, error: TrackError, place: str = "") -> None:
        self.result.problem.CopyFrom(error.problem(error.field or place))


class SubscriptionUpdates:
    """Answers UpdateSubscriptions. ``debug``: LiveKit's debug view, or None where it is not turned on."""

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        subscriptions: Subscriptions,
        debug: DebugView | None,
        access: Access,
        granted: GrantedSubscriptions,
        restrictions: Restrictions,
        lasting: LastingSubscriptions,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._subscriptions = subscriptions
        self._debug = debug
        self._access = access
        self._granted = granted
        self._restrictions = restrictions
        self._lasting = lasting

    async def apply(
        self,
        principal: Principal,
        room: str,
        updates: Sequence[tracks_pb2.SubscriptionUpdate],
        deadline: Deadline,
        cause: event_pb2.EventCause,
        *,
        validate_only: bool = False,
        consistency_token: str = "",
    ) -> list[tracks_pb2.SubscriptionResult]:
        """One result an update, in order. ``cause``: the call, to those who watch. ``validate_only``: everything is
        checked, and nothing done.

        ``consistency_token``: what private tracks are decided by, at least. Raises InvalidField,
        InvalidConsistencyToken, ConsistencyNotReached, RoomNotFound, LiveKitUnavailable.
        """
        _refuse_doubles(updates)
        await self._restrictions.reached(consistency_token, room, deadline)
        async with self._rooms.watch(room) as live:
            items = [_Item(update, _question(live, update)) for update in updates]
            await self._check_all(principal, live, items)
            if validate_only:
                return [item.result for item in items]
            groups: dict[tuple[str, bool], list[_Item]] = {}
            for item in items:
                if not item.failed:
                    groups.setdefault((item.update.participant_identity, item.update.subscribe), []).append(item)
            # Kept before it is asked for: a permission that goes away meanwhile must find it.
            await asyncio.gather(*(self._keep(principal, live, item) for group in groups.values() for item in group))
            await asyncio.gather(*(self._ask(room, group, deadline, cause) for group in groups.values()))
            asked = [item for item in items if not item.failed]
            if self._debug is not None and asked:
                await self._observe(self._debug, room, asked, deadline)
        return [item.result for item in items]

    async def _check_all(self, principal: Principal, live: LiveRoom, items: Sequence[_Item]) -> None:
        present = await self._present(live, {item.update.participant_identity for item in items})
        cleared = await self._access.require_each(principal, [item.question for item in items])
        for index, (item, answer) in enumerate(zip(items, cleared, strict=True)):
            try:
                if isinstance(answer, TrackError):
                    raise answer
                _check(live, present, item.update, f"updates[{index}]")
            except TrackError as error:
                if isinstance(error, TargetPermission):
                    self._access.refused(principal, item.question, error.message)
                item.fail(error, f"updates[{index}]")
        self._refuse_private(principal, live, present, items)

    def _refuse_private(
        self,
        principal: Principal,
        live: LiveRoom,
        present: Mapping[str, track_pb2.Participant],
        items: Sequence[_Item],
    ) -> None:
        for index, item in enumerate(items):
            if item.failed or not item.update.subscribe:
                continue
            identity = item.update.participant_identity
            track, subscriber = live.model.tracks[item.update.track_sid], present[identity]
            itself = principal.identity == identity and not is_admin(principal, live.name)
            try:
                self._restrictions.refuse(track, subscriber, itself=itself, field=f"updates[{index}]")
            except TrackError as error:
                item.fail(error)

    async def _present(self, live: LiveRoom, identities: Set[str]) -> Mapping[str, track_pb2.Participant]:
        """The room's participants, those among ``identities`` included that have only just joined."""
        known = live.model.participants
        if identities <= known.keys():
            return known
        return {**(await look(self._api, live.name)).participants, **known}

    async def _keep(self, principal: Principal, live: LiveRoom, item: _Item) -> None:
        track = live.model.tracks.get(item.update.track_sid)
        if track is not None and track.publication_id:
            identity = item.update.participant_identity
            await self._lasting.asked(live.name, track.publication_id, identity, subscribe=item.update.subscribe)
        if item.update.subscribe and not principal.unrestricted:
            await self._granted.keep(principal, item.question)
        else:
            await self._granted.drop(item.question.room, item.update.track_sid, item.update.participant_identity)

    async def _ask(self, room: str, group: Sequence[_Item], deadline: Deadline, cause: event_pb2.EventCause) -> None:
        """Asks LiveKit for one subscriber's tracks, again with back-off while LiveKit is away."""
        identity, subscribe = group[0].update.participant_identity, group[0].update.subscribe
        sids = [item.update.track_sid for item in group]
        attempts = 0
        while True:
            attempts += 1
            try:
                await self._subscriptions.update(room, identity, sids, subscribe=subscribe, cause=cause)
                break
            except LiveKitUnavailable as error:
                pause = min(_RETRY_FIRST_S * 2 ** (attempts - 1), _RETRY_LAST_S) * random.uniform(0.5, 1.0)
                if pause >= deadline.remaining_s():
                    for item in group:
                        item.fail(error)
                    break
                await asyncio.sleep(pause)
            except TrackError as error:
                for item in group:
                    item.fail(error)
                break
        for item in group:
            item.result.attempts = attempts
            if not item.failed:
                item.result.stage = publication_pb2.STAGE_REQUESTED

    async def _observe(self, debug: DebugView, room: str, items: Sequence[_Item], deadline: Deadline) -> None:
        """Looks until every subscription is as asked for, or the time is over."""
        pause = _LOOK_FIRST_S
        while True:
            try:
                copies = await debug.down_tracks(room)
            except LiveKitUnavailable:
                return
            self._subscriptions.saw(room, copies)
            down = {(copy.subscriber_identity, copy.track_sid) for copy in copies if copy.bound}
            for item in items:
                there = (item.update.participant_identity, item.update.track_sid) in down
                item.result.observed = there
                if there == item.update.subscribe:
                    item.result.stage = publication_pb2.STAGE_OBSERVED
                    item.result.evidence = publication_pb2.EVIDENCE_DEBUG_VIEW
            missing = any(item.result.stage != publication_pb2.STAGE_OBSERVED for item in items)
            if not missing or deadline.remaining_s() <= pause:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LOOK_LAST_S)


def _refuse_doubles(updates: Sequence[tracks_pb2.SubscriptionUpdate]) -> None:
    seen: set[tuple[str, str]] = set()
    for index, update in enumerate(updates):
        key = (update.participant_identity, update.track_sid)
        if key in seen:
            raise InvalidField("the subscription is named twice", field=f"updates[{index}]")
        seen.add(key)


def _question(live: LiveRoom, update: tracks_pb2.SubscriptionUpdate) -> Question:
    track = live.model.tracks.get(update.track_sid)
    described = Description(type=track.type, source=track.source) if track is not None else None
    return Question(
        access_pb2.PERMISSION_SUBSCRIBE, live.name, update.participant_identity, update.track_sid, described
    )


def _check(
    live: LiveRoom,
    present: Mapping[str, track_pb2.Participant],
    update: tracks_pb2.SubscriptionUpdate,
    place: str,
) -> None:
    identity = update.participant_identity
    subscriber = present.get(identity)
    if subscriber is None:
        raise ParticipantNotFound(f"no participant {identity!r} in the room", field=f"{place}.participant_identity")
    track = find_track(live.model.tracks, update.track_sid, f"{place}.track_sid")
    if track.type == track_pb2.TRACK_TYPE_DATA:
        raise NotForDataTracks("LiveKit's server cannot subscribe a client to data tracks", field=f"{place}.track_sid")
    if track.participant_identity == identity:
        raise InvalidOptions("a participant cannot subscribe to its own track", field=f"{place}.track_sid")
    if update.subscribe and not subscriber.permission.can_subscribe:
        raise TargetPermission(f"participant {identity!r} may not subscribe", field=f"{place}.participant_identity")
