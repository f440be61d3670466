"""ExplainSubscriptions: what policies would do, without doing it."""

import asyncio
import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from track.v1.event_pb2 import ParticipantQuality
from track.v1.subscription_pb2 import (
    DesiredSubscription,
    ExplainSubscriptionsRequest,
    ExplainSubscriptionsResponse,
    LayerDecision,
    SubscriberState,
    SubscriptionExplanation,
    SubscriptionPolicy,
)
from track.v1.track_pb2 import Participant, Track, TrackType
from track_server.errors import InvalidPageToken
from track_server.paging import DEFAULT_PAGE_SIZE, page_token, position_in
from track_server.rooms.reading import Reader
from track_server.subscription.controller.fitting import Situation, fallback_of, priority_of
from track_server.subscription.controller.outcome import Outcome, outcome
from track_server.subscription.explaining.subjects import Subjects, subjects
from track_server.subscription.focus.focuses import Focuses
from track_server.subscription.layers.allocation import allocate
from track_server.subscription.layers.ceiling import ceiling
from track_server.subscription.layers.cost import sound_bps
from track_server.subscription.layers.decision import Budget, budget_of, decision, want
from track_server.subscription.layers.video import video_of
from track_server.subscription.policies.checking import check
from track_server.subscription.policies.condition import Memory
from track_server.subscription.policies.policies import Policies, RoomRules
from track_server.subscription.policies.ruleset import Ruleset
from track_server.subscription.states.states import SubscriberStates

# For so long pairs are looked at before others run.
_AT_ONCE_S: Final = 0.005
# CPU seconds for the conditions of all pairs of one answer. Those that look at names and attributes take 0.00001 to
# 0.00004 each, and are evaluated once for each thing that they read.
_BUDGET_S: Final = 2.0


class Explaining:
    """Answers it."""

    def __init__(self, policies: Policies, reader: Reader, focuses: Focuses, states: SubscriberStates) -> None:
        self._policies = policies
        self._reader = reader
        self._focuses = focuses
        self._states = states

    async def explain(self, request: ExplainSubscriptionsRequest) -> ExplainSubscriptionsResponse:
        """A page, by subscriber and track.

        Raises InvalidField, InvalidExpression, InvalidPageToken, RoomNotFound, ParticipantNotFound, TrackNotFound,
        LiveKitUnavailable.
        """
        instead: SubscriptionPolicy | None = None
        if request.HasField("policy"):
            instead = SubscriptionPolicy()
            instead.CopyFrom(request.policy)
            await check(instead, request.room, instead.participant_identity)
        about = await subjects(request, self._reader)
        return await _Run(self._policies, self._focuses, self._states, request, instead, about).page()


class _Run:
    """One answer."""

    def __init__(
        self,
        policies: Policies,
        focuses: Focuses,
        states: SubscriberStates,
        request: ExplainSubscriptionsRequest,
        instead: SubscriptionPolicy | None,
        about: Subjects,
    ) -> None:
        self._policies = policies
        self._focuses = focuses
        self._states = states
        self._request = request
        self._instead = instead
        self._about = about
        # Of this answer alone: what is given here is not kept beyond it.
        self._rules = RoomRules(self._policy(""), Memory(_BUDGET_S))
        self._rulesets: dict[str, Ruleset | None] = {}
        self._begun = time.monotonic()

    async def page(self) -> ExplainSubscriptionsResponse:
        """The page asked for."""
        request = self._request
        size = request.page_size or DEFAULT_PAGE_SIZE
        query = _query(request)
        after = _after(request.page_token, query)
        found: list[SubscriptionExplanation] = []
        for subscriber in self._about.subscribers:
            if subscriber.identity < after[0]:
                continue
            tracks = [
                track
                for track in self._about.tracks
                if (subscriber.identity, track.sid) > after
                and request.track_sid in ("", track.sid)
                and track.participant_identity != subscriber.identity
            ]
            if not tracks:
                continue
            if len(found) == size:
                last = found[-1]
                token = page_token((last.participant_identity, last.track_sid), query)
                return ExplainSubscriptionsResponse(explanations=found, next_page_token=token)
            fitting = tracks[: size - len(found)]
            found += await self._explained(subscriber, fitting)
            if len(fitting) < len(tracks):
                token = page_token((subscriber.identity, fitting[-1].sid), query)
                return ExplainSubscriptionsResponse(explanations=found, next_page_token=token)
        return ExplainSubscriptionsResponse(explanations=found)

    async def _explained(self, subscriber: Participant, tracks: Sequence[Track]) -> list[SubscriptionExplanation]:
        """Of one subscriber and some of the tracks."""
        ruleset = self._ruleset(subscriber.identity)
        situation, downlink_bps = self._situation(subscriber.identity)
        budget = budget_of(ruleset.bandwidth_bps if ruleset else None, downlink_bps)
        decided: list[tuple[Track, Outcome | None]] = []
        # A budget is shared by all that it receives, also by what is not asked about.
        for track in tracks if budget is None else self._about.tracks:
            if track.participant_identity != subscriber.identity:
                verdict = ruleset.decide(*self._pair(subscriber, track)) if ruleset else None
                decided.append((track, outcome(refused=False, choice=None, verdict=verdict)))
                await self._breathe()
        outcomes = {track.sid: found for track, found in decided}
        layers = await self._layers(situation, decided, budget, {track.sid for track in tracks})
        found = []
        for track in tracks:
            examined = ruleset.examine(*self._pair(subscriber, track)) if ruleset else []
            found.append(
                SubscriptionExplanation(
                    participant_identity=subscriber.identity,
                    track_sid=track.sid,
                    publisher_identity=track.participant_identity,
                    desired=said.message() if (said := outcomes[track.sid]) is not None else DesiredSubscription(),
                    layer=layers.get(track.sid),
                    examined=examined,
                )
            )
            await self._breathe()
        return found

    def _pair(
        self, subscriber: Participant, track: Track
    ) -> tuple[Participant, Participant, Track, ParticipantQuality | None]:
        publisher = track.participant_identity
        return subscriber, self._about.publishers[publisher], track, self._about.qualities.get(publisher)

    def _ruleset(self, identity: str) -> Ruleset | None:
        own = self._policy(identity)
        whose = identity if own is not None else ""
        if whose not in self._rulesets:
            self._rulesets[whose] = self._rules.ruleset(identity, own)
        return self._rulesets[whose]

    def _policy(self, identity: str) -> SubscriptionPolicy | None:
        instead = self._instead
        if instead is not None and instead.participant_identity == identity:
            return instead
        return self._policies.find(self._request.room, identity)

    async def _layers(
        self,
        situation: Situation,
        decided: Sequence[tuple[Track, Outcome | None]],
        budget: Budget | None,
        asked: Collection[str],
    ) -> Mapping[str, LayerDecision]:
        """Of those of one subscriber's videos that are ``asked``, by SID. What no rule takes away counts as subscribed,
        as LiveKit has it."""
        received = [(track, said) for track, said in decided if said is None or said.subscribed is not False]
        sound = sum(sound_bps(track) for track, _ in received if track.type == TrackType.TRACK_TYPE_AUDIO)
        videos = []
        for track, said in received:
            if track.type == TrackType.TRACK_TYPE_VIDEO:
                video = video_of(track)
                fallback = fallback_of(situation.focus, said, track.sid)
                highest = ceiling(video, situation.terms(said, video), fallback)
                videos.append((highest, priority_of(situation.focus, said, track.sid)))
                await self._breathe()
        levels = allocate(
            [want(highest, priority) for highest, priority in videos],
            None if budget is None else budget.bandwidth_bps - sound,
        )
        return {
            highest.video.sid: decision(highest, levels[highest.video.sid], priority, budget)
            for highest, priority in videos
            if highest.video.sid in asked
        }

    def _situation(self, identity: str) -> tuple[Situation, int | None]:
        """What is known of a subscriber in the room besides the rules, and of its downlink."""
        if identity not in self._about.live:
            return Situation(None, None, {}, 0), None
        room = self._request.room
        known = self._states.of(room, identity)
        if known is None:
            return Situation(self._focuses.view(room, identity), None, {}, 0), None
        state = SubscriberState()
        state.CopyFrom(known)
        # What follows from it hangs on how it was before.
        state.ClearField("cpu_load")
        viewports = {shown.track_sid: shown for shown in state.viewports}
        downlink = state.downlink_bps if state.HasField("downlink_bps") else None
        return Situation(self._focuses.view(room, identity), state, viewports, 0), downlink

    async def _breathe(self) -> None:
        if time.monotonic() - self._begun > _AT_ONCE_S:
            await asyncio.sleep(0)
            self._begun = time.monotonic()


def _after(token: str, query: Sequence[str]) -> tuple[str, str]:
    """The subscriber and track after which the page begins. Raises InvalidPageToken."""
    if not token:
        return "", ""
    match position_in(token, query):
        case (str(identity), str(sid)):
            return identity, sid
    raise InvalidPageToken("the page token is damaged", field="page_token")


def _query(request: ExplainSubscriptionsRequest) -> tuple[str, str]:
    """What must be the same from page to page: all of the request but the page."""
    same = ExplainSubscriptionsRequest()
    same.CopyFrom(request)
    same.ClearField("page_size")
    same.ClearField("page_token")
    digest = hashlib.blake2b(same.SerializeToString(deterministic=True), digest_size=9).hexdigest()
    return "subscription_explanations", digest
