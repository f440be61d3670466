"""Manual choices of subscriptions: validated, kept, asked of LiveKit and of clients, and seen where anybody can see."""

import asyncio
from collections.abc import Mapping, Sequence, Set
from typing import Final

from track.v1 import access_pb2, event_pb2, publication_pb2, track_pb2, tracks_pb2
from track.v1.subscription_pb2 import LayerEnforcement
from track_server.access.access import Access
from track_server.access.bounds import Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.rules import is_admin
from track_server.deadline import Deadline
from track_server.errors import InvalidField, StoreUnavailable, TargetPermission, TrackError
from track_server.livekit.api import LiveKitApi
from track_server.private_tracks.restrictions import Restrictions
from track_server.rooms.reading import look
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.store.records import StoreError
from track_server.subscription.asked import Asked, check, refuse_against_admin, refuse_against_rule
from track_server.subscription.choice import Choice
from track_server.subscription.choices import Choices
from track_server.subscription.controller.asking import Asking
from track_server.subscription.controller.controllers import Controllers
from track_server.subscription.policies.policies import Policies
from track_server.subscription.received import Received

# The debug view answers in 2 ms but walks every room of the node, so it is asked less often the longer nothing happens.
_LOOK_FIRST_S: Final = 0.02
_LOOK_LAST_S: Final = 0.25
# LiveKit tells of a participant that publishes nothing within so long.
_TOLD_S: Final = 5.0
_TOLD: Final = frozenset({LayerEnforcement.LAYER_ENFORCEMENT_ACKNOWLEDGED, LayerEnforcement.LAYER_ENFORCEMENT_ENFORCED})


class SubscriptionUpdates:
    """Answers UpdateSubscriptions."""

    def __init__(
        self,
        rooms: Rooms,
        api: LiveKitApi,
        access: Access,
        restrictions: Restrictions,
        policies: Policies,
        choices: Choices,
        asking: Asking,
        controllers: Controllers,
        received: Received,
    ) -> None:
        self._rooms = rooms
        self._api = api
        self._access = access
        self._restrictions = restrictions
        self._policies = policies
        self._choices = choices
        self._asking = asking
        self._controllers = controllers
        self._received = received

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
            items = [
                Asked(update, _question(live, update), f"updates[{index}]") for index, update in enumerate(updates)
            ]
            await self._check_all(principal, live, items)
            if validate_only:
                return [item.result for item in items]
            with self._controllers.claimed(room, _pairs(items)):
                # Kept before it is asked for: a permission that goes away meanwhile must find it.
                await asyncio.gather(*(self._keep(principal, live, item) for item in items if not item.failed))
                groups: dict[tuple[str, bool], list[Asked]] = {}
                for item in items:
                    if not item.failed and not item.update.release:
                        groups.setdefault((item.identity, item.update.subscribe), []).append(item)
                await asyncio.gather(*(self._ask(room, group, deadline, cause) for group in groups.values()))
            asked = [item for item in items if not item.failed]
            await asyncio.gather(self._settle(live, asked, deadline), self._observe(room, asked, deadline))
            for item in asked:
                self._tell(room, item)
        return [item.result for item in items]

    # Checking.

    async def _check_all(self, principal: Principal, live: LiveRoom, items: Sequence[Asked]) -> None:
        present = await self._present(live, {item.identity for item in items})
        cleared = await self._access.require_each(principal, [item.question for item in items])
        for item, answer in zip(items, cleared, strict=True):
            try:
                if isinstance(answer, TrackError):
                    raise answer
                choice = self._choices.of(live.name, item.identity, item.track_sid)
                check(live.model, present, item, chosen=choice is not None)
                refuse_against_admin(choice, item, by_admin=_by_admin(principal, live.name, item.identity))
                if not item.update.release:
                    self._refuse_ruled(principal, live, present[item.identity], item)
            except TrackError as error:
                if isinstance(error, TargetPermission):
                    self._access.refused(principal, item.question, error.message)
                item.fail(error)

    def _refuse_ruled(
        self, principal: Principal, live: LiveRoom, subscriber: track_pb2.Participant, item: Asked
    ) -> None:
        """Raises what rules say against it: of private tracks, and for the subscriber itself of policies."""
        itself = not _by_admin(principal, live.name, item.identity)
        if item.update.subscribe:
            track = live.model.tracks[item.track_sid]
            self._restrictions.refuse(track, subscriber, itself=itself, field=item.place)
        if itself:
            ruleset = self._policies.ruleset(live.name, item.identity)
            if ruleset is not None:
                refuse_against_rule(live.model, ruleset, subscriber, item)

    async def _present(self, live: LiveRoom, identities: Set[str]) -> Mapping[str, track_pb2.Participant]:
        """The room's participants, those among ``identities`` included that have only just joined."""
        known = live.model.participants
        if identities <= known.keys():
            return known
        return {**(await look(self._api, live.name)).participants, **known}

    # Doing.

    async def _keep(self, principal: Principal, live: LiveRoom, item: Asked) -> None:
        """Stores the choice, or gives it up."""
        room, identity, sid = live.name, item.identity, item.track_sid
        try:
            if item.update.release:
                await self._choices.release(room, identity, sid)
                return
            track = live.model.tracks.get(sid)
            if track is None:
                # It went a moment ago, and LiveKit forgets what is asked for.
                return
            choice = Choice(
                participant_identity=identity,
                track=self._choices.key_of(track),
                subscribe=item.update.subscribe,
                settings=item.settings(self._choices.of(room, identity, sid)),
                expire_time=item.expire_time(),
                principal=principal,
                by_admin=_by_admin(principal, room, identity),
            )
            await self._choices.choose(live, track, choice)
        except StoreError:
            item.fail(StoreUnavailable("the choice cannot be stored now"))
        except InvalidField as error:
            # Its time has come meanwhile.
            item.fail(error)

    async def _ask(self, room: str, group: Sequence[Asked], deadline: Deadline, cause: event_pb2.EventCause) -> None:
        """Asks LiveKit for one subscriber's tracks."""
        identity, subscribe = group[0].identity, group[0].update.subscribe
        sids = [item.track_sid for item in group]
        try:
            attempts = await self._asking.ask(room, identity, sids, subscribe=subscribe, cause=cause, deadline=deadline)
        except TrackError as error:
            for item in group:
                item.fail(error)
            return
        for item in group:
            item.result.attempts = attempts
            item.result.stage = publication_pb2.STAGE_REQUESTED

    async def _settle(self, live: LiveRoom, items: Sequence[Asked], deadline: Deadline) -> None:
        """Until layers are as they should be, and what is given up is as the rules have it."""
        pairs = [(item.identity, item.track_sid) for item in items if item.update.release or self._limited(live, item)]
        if not pairs:
            return
        # The room tells of one that has just joined a moment later; before, nobody here decides about it.
        identities = {identity for identity, _ in pairs}
        await live.until(lambda: identities <= live.model.participants.keys(), min(_TOLD_S, deadline.remaining_s()))
        await self._controllers.settle(live.name, pairs, deadline)

    def _limited(self, live: LiveRoom, item: Asked) -> bool:
        """Whether anything says how the track is received."""
        if not item.update.subscribe:
            return False
        choice = self._choices.of(live.name, item.identity, item.track_sid)
        if choice is not None and choice.settings is not None:
            return True
        state = self._controllers.state(live.name, item.identity, item.track_sid)
        return state is not None and state.enforcement != LayerEnforcement.LAYER_ENFORCEMENT_UNSPECIFIED

    # Seeing.

    async def _observe(self, room: str, items: Sequence[Asked], deadline: Deadline) -> None:
        """Looks until every subscription is as asked for, or the time is over."""
        pause = _LOOK_FIRST_S
        while True:
            seeing = await self._received.look(room)
            unseen = [item for item in items if not item.update.release and not self._saw(room, item)]
            if not seeing:
                told = self._received.told_by_companion
                unseen = [item for item in unseen if told(room, item.identity, item.track_sid)]
            if not unseen or deadline.remaining_s() <= pause:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LOOK_LAST_S)

    def _saw(self, room: str, item: Asked) -> bool:
        """Takes what is seen of it; says whether that is what was asked for."""
        seen = self._received.of(room, item.identity, item.track_sid)
        if seen is None or not seen.HasField("subscribed"):
            return False
        item.result.observed = seen.subscribed
        if seen.subscribed != item.update.subscribe:
            return False
        item.result.stage, item.result.evidence = publication_pb2.STAGE_OBSERVED, seen.evidence
        return True

    def _tell(self, room: str, item: Asked) -> None:
        """What the controller has to say of it, once it has settled."""
        result, state = item.result, self._controllers.state(room, item.identity, item.track_sid)
        if item.update.release:
            result.stage = publication_pb2.STAGE_REQUESTED
            desired = state.desired if state is not None else None
            wanted = desired.subscribed if desired is not None and desired.HasField("subscribed") else None
            seen = self._received.of(room, item.identity, item.track_sid)
            if seen is not None and seen.HasField("subscribed"):
                result.observed = seen.subscribed
                if wanted is None or wanted == seen.subscribed:
                    result.stage, result.evidence = publication_pb2.STAGE_OBSERVED, seen.evidence
        if state is None:
            return
        result.enforcement = state.enforcement
        if state.layer is not None and (item.update.subscribe or item.update.release):
            result.layer.CopyFrom(state.layer)
        result.unsupported_settings.extend(state.unsupported)
        if result.stage == publication_pb2.STAGE_REQUESTED and state.enforcement in _TOLD:
            result.stage = publication_pb2.STAGE_ACKNOWLEDGED


def _pairs(items: Sequence[Asked]) -> list[tuple[str, str]]:
    """Those that LiveKit is to be asked for."""
    return [(item.identity, item.track_sid) for item in items if not item.failed and not item.update.release]


def _by_admin(principal: Principal, room: str, identity: str) -> bool:
    """Whether it is not the subscriber's own choice alone."""
    return is_admin(principal, room) or principal.identity != identity


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
