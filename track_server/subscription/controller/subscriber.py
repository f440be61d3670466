"""One subscriber in a room: what is decided of each track for it, and what brings that about."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from track.v1 import track_pb2
from track.v1.subscription_pb2 import (
    DesiredSubscription,
    LayerEnforcement,
    SubscriberState,
    SubscriptionDecider,
)
from track_server.lifetime import Closing
from track_server.subscription.controller.advice import Advised
from track_server.subscription.controller.evidence import shows, visible
from track_server.subscription.controller.fitting import (
    Fitting,
    Situation,
    enforceable,
    told,
)
from track_server.subscription.controller.layering import Layering
from track_server.subscription.controller.means import Connection, Means
from track_server.subscription.controller.outcome import Outcome, outcome
from track_server.subscription.controller.pair import PairState
from track_server.subscription.controller.subscribing import Subscribing
from track_server.subscription.controller.videos import Videos
from track_server.subscription.layers.cost import sound_bps
from track_server.subscription.layers.decision import Budget, budget_of

_YIELD: Final = 50
"""Decisions between two turns of the event loop: about 2 ms."""
_AUDIO, _VIDEO = track_pb2.TRACK_TYPE_AUDIO, track_pb2.TRACK_TYPE_VIDEO


class Subscriber(Closing):
    """One connection of one subscriber; `aclose` ends it. Its methods never wait, but ``decide``."""

    def __init__(self, means: Means, connection: Connection, videos: Videos) -> None:
        self._means = means
        self._of = connection
        self._videos = videos
        self._subscribing = Subscribing(means, connection)
        self._layering = Layering(means, connection)
        self._fitting = Fitting(connection.live.name, connection.identity, means.limits)
        self._outcomes: dict[str, Outcome] = {}
        self._sound: dict[str, int] = {}
        self._marked: set[str] = set()
        self._all = True
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begins to work."""
        self._subscribing.begin()
        self._layering.begin()

    async def aclose(self) -> None:
        """Lets go of it. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
        await self._subscribing.aclose()
        await self._layering.aclose()

    @property
    def participant_sid(self) -> str:
        """Of its connection."""
        return self._of.participant_sid

    @property
    def subscribing(self) -> Subscribing:
        """What brings its subscriptions about."""
        return self._subscribing

    @property
    def layering(self) -> Layering:
        """What brings about how it receives."""
        return self._layering

    @property
    def at_rest(self) -> bool:
        """Whether nothing is wanted of it, and nothing to be given back."""
        return not self.marked and self._subscribing.at_rest and self._layering.at_rest

    # Deciding.

    def mark(self, track_sids: Iterable[str] | None = None) -> None:
        """What decides about those tracks changed; None: about all."""
        if track_sids is None:
            self._all = True
        else:
            self._marked.update(track_sids)

    @property
    def marked(self) -> bool:
        """Whether there is something to decide."""
        return self._all or bool(self._marked)

    def decided(self, track_sid: str) -> bool:
        """Whether that track need not be decided anew."""
        return not self._all and track_sid not in self._marked

    async def decide(self) -> int:
        """Decides anew what is marked; gives how much that was."""
        tracks = self._of.live.model.tracks
        sids, everything = self._marked, self._all
        self._marked, self._all = set(), False
        if everything:
            sids = sids | tracks.keys() | self._outcomes.keys()
        situation = self._situation()
        for done, sid in enumerate(sids):
            if done % _YIELD == _YIELD - 1:
                await asyncio.sleep(0)
            self._decide(sid, situation)
        self._fit(sids)
        return len(sids)

    def _situation(self) -> Situation:
        room, identity = self._of.live.name, self._of.identity
        state = self._state()
        load = state.cpu_load if state is not None and state.HasField("cpu_load") else None
        viewports = {shown.track_sid: shown for shown in state.viewports} if state is not None else {}
        layers_down = self._fitting.load(time.monotonic(), load)
        return Situation(self._means.focuses.view(room, identity), state, viewports, layers_down)

    def _decide(self, track_sid: str, situation: Situation) -> None:
        model = self._of.live.model
        track = model.tracks.get(track_sid)
        if track is None:
            self._forget(track_sid)
            return
        subscriber, publisher = (
            model.participants.get(self._of.identity),
            model.participants.get(track.participant_identity),
        )
        if (
            subscriber is None
            or publisher is None
            or publisher is subscriber
            or track.type not in (_AUDIO, _VIDEO)
            or subscriber.sid != self._of.participant_sid
        ):
            return
        if not subscriber.permission.can_subscribe:
            self._drop(track_sid)
            return
        found = self._outcome(track, subscriber, publisher)
        if found is None:
            self._outcomes.pop(track_sid, None)
        else:
            self._outcomes[track_sid] = found
        self._subscribing.want(track_sid, found)
        if not self._receives(track_sid, found):
            self._fitting.remove(track_sid)
            self._sound.pop(track_sid, None)
            self._layering.want(track_sid, None)
        elif track.type == _VIDEO:
            self._fitting.place(situation, found, self._videos.of(track))
        else:
            self._sound[track_sid] = sound_bps(track)
            self._tell(track_sid, found)

    def _outcome(
        self, track: track_pb2.Track, subscriber: track_pb2.Participant, publisher: track_pb2.Participant
    ) -> Outcome | None:
        means, room = self._means, self._of.live.name
        ruleset = means.policies.ruleset(room, subscriber.identity)
        quality = self._of.live.model.qualities.get(publisher.identity)
        return outcome(
            refused=not means.restrictions.allows(track, subscriber),
            choice=means.choices.of(room, subscriber.identity, track.sid),
            verdict=ruleset.decide(subscriber, publisher, track, quality) if ruleset is not None else None,
        )

    def _receives(self, track_sid: str, found: Outcome | None) -> bool:
        """Whether it has the track, or should."""
        if found is not None and found.subscribed is not None:
            progress = self._subscribing.progress(track_sid)
            client = progress.client if progress is not None else None
            return found.subscribed if client is None else client
        seen, _ = self._subscribing.seen(track_sid)
        return seen is not False or not self._subscribing.at_home

    def _fit(self, changed: set[str]) -> None:
        now = time.monotonic()
        for sid in self._fitting.fit(now, self._budget(), sum(self._sound.values()), changed) | changed:
            fit = self._fitting.of(sid)
            if fit is not None:
                self._tell(sid, self._outcomes.get(sid))
        state = self._state()
        load = state.cpu_load if state is not None and state.HasField("cpu_load") else None
        self._look_at(self._fitting.due_s(now, load))

    def _state(self) -> SubscriberState | None:
        """What its client reported. What companions do counts for nothing where nobody wants anything of subscriptions
        here."""
        room = self._of.live.name
        return self._means.states.of(room, self._of.identity) if self._means.concerns(room) else None

    def _budget(self) -> Budget | None:
        room, identity = self._of.live.name, self._of.identity
        ruleset = self._means.policies.ruleset(room, identity)
        state = self._state()
        downlink = state.downlink_bps if state is not None and state.HasField("downlink_bps") else None
        return budget_of(ruleset.bandwidth_bps if ruleset is not None else None, downlink)

    def _tell(self, track_sid: str, found: Outcome | None) -> None:
        fit = self._fitting.of(track_sid)
        wanted = told(found, fit)
        self._layering.want(track_sid, Advised.of(wanted, fit) if wanted else None)

    def _look_at(self, due_s: float | None) -> None:
        """Decides anew then, though nothing changes: a budget may have calmed down."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.05, due_s - time.monotonic()), self._due)

    def _due(self) -> None:
        self._timer = None
        self.mark()
        self._of.moved()

    def _drop(self, track_sid: str) -> None:
        """It may not subscribe, and is left alone."""
        self._outcomes.pop(track_sid, None)
        self._subscribing.forget(track_sid)
        self._fitting.remove(track_sid)
        self._sound.pop(track_sid, None)
        self._layering.want(track_sid, None)

    def _forget(self, track_sid: str) -> None:
        """The track is gone."""
        self._drop(track_sid)
        self._layering.forget(track_sid)

    # Reading.

    def state(self, track_sid: str) -> PairState | None:
        """How it stands with that track; None where nothing is to be told."""
        found, fit = self._outcomes.get(track_sid), self._fitting.of(track_sid)
        progress = self._subscribing.progress(track_sid)
        if found is None and fit is None:
            return None
        problem = progress.problem(time.monotonic()) if progress is not None else None
        return PairState(
            desired=self._desired(track_sid, found) if found is not None else None,
            layer=fit.message() if fit is not None else None,
            enforcement=self._enforcement(track_sid),
            unsupported=self._layering.unsupported(track_sid),
            corrections=progress.corrections.times if progress is not None else 0,
            problem=problem.problem() if problem is not None else None,
        )

    def off(self, track_sid: str) -> bool | None:
        """Whether that video's layer is none; None where nothing is decided of it."""
        fit = self._fitting.of(track_sid)
        return fit.off if fit is not None else None

    def settled(self, track_sid: str) -> bool:
        """Whether all is decided and carried out about that track, and seen as far as anybody sees it."""
        if not self.decided(track_sid) or not self._subscribing.settled(track_sid):
            return False
        enforcement = self._enforcement(track_sid)
        if enforcement == LayerEnforcement.LAYER_ENFORCEMENT_ACKNOWLEDGED:
            fit = self._fitting.of(track_sid)
            # Nobody sees how sound is received, nor a video of which nothing is sent.
            return fit is None or fit.ceiling.video.muted or not visible(self._means, self._of, track_sid)
        return enforcement != LayerEnforcement.LAYER_ENFORCEMENT_REQUESTED

    def _desired(self, track_sid: str, found: Outcome) -> DesiredSubscription:
        desired = found.message()
        progress = self._subscribing.progress(track_sid)
        if progress is not None and progress.client is not None:
            desired.subscribed = progress.client
            desired.decider = SubscriptionDecider.SUBSCRIPTION_DECIDER_CLIENT
        return desired

    def _enforcement(self, track_sid: str) -> "LayerEnforcement.ValueType":
        reached = self._layering.enforcement(track_sid)
        fit = self._fitting.of(track_sid)
        if fit is None or reached == LayerEnforcement.LAYER_ENFORCEMENT_UNSPECIFIED:
            return reached
        if not enforceable(fit):
            return LayerEnforcement.LAYER_ENFORCEMENT_UNSUPPORTED
        if reached == LayerEnforcement.LAYER_ENFORCEMENT_ACKNOWLEDGED and shows(self._means, self._of, track_sid, fit):
            return LayerEnforcement.LAYER_ENFORCEMENT_ENFORCED
        return reached
