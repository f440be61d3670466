"""Brings one subscriber's subscriptions about, and holds them: asks LiveKit, looks, asks again, corrects."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from typing import Final

import structlog

from track.v1 import event_pb2
from track.v1.subscription_pb2 import SubscriptionCorrected
from track_server.deadline import Deadline
from track_server.durations import seconds_of
from track_server.errors import Draining, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.rooms.causes import SUBSCRIPTION_GIVEN_BACK, rule_cause
from track_server.rooms.downtracks import Pair
from track_server.store.records import StoreError
from track_server.subscription.controller.means import Connection, Means
from track_server.subscription.controller.outcome import Outcome
from track_server.subscription.controller.progress import SETTLED_S, Progress, Step, View
from track_server.subscription.controller.rows import row_of
from track_server.subscription.controller.takings import Taken
from track_server.subscription.controller.wish import Wish

log = structlog.get_logger(__name__)

_ASK_S: Final = 30.0
"""LiveKit may be away for so long before it is asked anew."""
_AGAIN_S: Final = 2.0
"""After a try that failed."""


class Subscribing(Closing):
    """Of one connection, `async with`. Times are seconds of the monotonic clock."""

    def __init__(self, means: Means, connection: Connection) -> None:
        self._means = means
        self._of = connection
        self._wishes: dict[str, Wish] = {}
        self._stirred: set[str] = set()
        self._due: dict[str, float] = {}
        self._kicked = asyncio.Event()
        self._since = time.monotonic()
        self._connected_at: float | None = None
        self._was_home = False
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Asks no more. May be called twice."""
        await self._tasks.aclose()

    def begin(self) -> None:
        """Begins to work."""
        self._tasks.spawn(self._serve(), name=f"subscriptions of {self._of.identity} in {self._of.live.name}")

    # What is decided.

    def want(self, track_sid: str, outcome: Outcome | None) -> None:
        """That is decided of the track; None: nothing is."""
        wish, taken = self._wishes.get(track_sid), track_sid in self._taken().unsubscribed
        now = time.monotonic()
        if wish is None:
            if outcome is None and not taken:
                return
            wish = self._wishes[track_sid] = Wish(Progress(), now)
        if not wish.aim(outcome, now, taken=taken):
            self.forget(track_sid)
            return
        progress = wish.progress
        if progress.wanted is not None and progress.asked is None and not progress.reached:
            # By the call from which this follows, before it was decided here.
            lately = self._means.asking.lately(self._of.live.name, self._of.identity, track_sid)
            if lately is progress.wanted:
                self.took([track_sid], subscribe=lately)
        self._stirred.add(track_sid)
        self._kicked.set()

    def forget(self, track_sid: str) -> None:
        """The track is gone."""
        self._wishes.pop(track_sid, None)
        self._stirred.discard(track_sid)
        self._due.pop(track_sid, None)

    def connected(self) -> None:
        """The subscriber's connection is up: LiveKit subscribes it to everything at that moment."""
        if self._connected_at is None:
            self._connected_at = time.monotonic()
            self.stir(self._wishes)

    def stir(self, track_sids: Iterable[str]) -> None:
        """Something was seen of those."""
        self._stirred.update(sid for sid in track_sids if sid in self._wishes)
        if self._stirred:
            self._kicked.set()

    def looked(self) -> None:
        """Somebody looked at the room: what is not as it should be yet may be."""
        self.stir(list(self._due))

    def took(self, track_sids: Iterable[str], *, subscribe: bool) -> None:
        """LiveKit was asked for that, by whomever. Where it is not what is wanted here, what is seen of it counts."""
        now = time.monotonic()
        known = [sid for sid in track_sids if sid in self._wishes]
        for sid in known:
            self._wishes[sid].progress.took(subscribe, now)
        self.stir(known)
        mine = [sid for sid in known if self._wishes[sid].progress.wanted is subscribe]
        if not subscribe and not self._taken().unsubscribed.issuperset(mine):
            self._spawn(self._take(mine))

    # Reading.

    def progress(self, track_sid: str) -> Progress | None:
        """How far it has come; None where nothing is decided."""
        wish = self._wishes.get(track_sid)
        return wish.progress if wish is not None else None

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to be brought about."""
        return all(wish.progress.wanted is None for wish in self._wishes.values())

    @property
    def at_home(self) -> bool:
        """Whether it has been connected for long enough to have what it wants."""
        return self._connected_at is not None and time.monotonic() >= self._connected_at + SETTLED_S

    def kick(self) -> None:
        """It may act again."""
        self._kicked.set()

    def came_home(self) -> bool:
        """Whether ``at_home`` holds, and did not when this was asked before."""
        came, self._was_home = self.at_home and not self._was_home, self.at_home
        return came

    def settled(self, track_sid: str) -> bool:
        """Whether all was done about the track that can be done now, and seen as far as anybody sees it."""
        wish = self._wishes.get(track_sid)
        if wish is None or wish.progress.wanted is None:
            return True
        progress = wish.progress
        awaited = self._connected_at is None and not progress.wanted
        return track_sid not in self._stirred and (progress.reached or progress.failure is not None or awaited)

    def seen(self, track_sid: str) -> tuple[bool | None, float]:
        """Whether the track is subscribed, None where nobody sees it; and when that was so."""
        of, means = self._of, self._means
        shown = means.subscriptions.shown(of.live)
        if shown is not None:
            return Pair(of.participant_sid, track_sid) in shown, means.subscriptions.looked_at(of.live)
        video = means.states.received(of.live.name, of.identity).get(track_sid)
        reported = means.states.reported_at(of.live.name, of.identity) if video is not None else None
        if video is None or reported is None:
            return None, 0.0
        return video.subscribed, time.monotonic() - (time.time() - seconds_of(reported))

    # Working.

    async def _serve(self) -> None:
        while True:
            self._kicked.clear()
            wait_s = None
            if self._of.may_act():
                self._look()
                wait_s = min(self._due.values(), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s is None else max(0.01, wait_s - time.monotonic())):
                    await self._kicked.wait()

    def _look(self) -> None:
        now = time.monotonic()
        todo = self._stirred | {sid for sid, at in self._due.items() if at <= now}
        self._stirred = set()
        asks: dict[tuple[bool, str, str], list[str]] = {}
        corrected: list[str] = []
        for sid in todo:
            wish = self._wishes.get(sid)
            if wish is None or self._means.claims.holds(self._of.live.name, self._of.identity, sid):
                self._due.pop(sid, None)
                continue
            step, due = self._step(sid, wish, now)
            self._due.pop(sid, None)
            if due is not None:
                self._due[sid] = due
            if step is Step.NOTHING:
                continue
            assert wish.progress.wanted is not None
            wish.progress.asking = wish.progress.wanted
            asks.setdefault((wish.progress.wanted, *wish.why), []).append(sid)
            if step is Step.CORRECT:
                corrected.append(sid)
        for (subscribe, rule, reason), sids in asks.items():
            cause = rule_cause(rule, reason)
            held = [sid for sid in corrected if sid in sids]
            self._spawn(self._ask(sids, held, cause, subscribe=subscribe))
        if given := [sid for sid in todo if sid in self._wishes and self._wishes[sid].given]:
            self._spawn(self._given(given))
        if todo:
            self._of.moved()

    def _step(self, track_sid: str, wish: Wish, now: float) -> tuple[Step, float | None]:
        seen, looked_at = self.seen(track_sid)
        view = View(seen, looked_at, self._connected_at, max(self._since, wish.since))
        return wish.progress.step(view, wish.held, now)

    async def _ask(
        self, sids: Collection[str], corrected: Collection[str], cause: event_pb2.EventCause, *, subscribe: bool
    ) -> None:
        of, means = self._of, self._means
        try:
            if not subscribe:
                # Before it is done: what is taken away is given back also where this server is killed meanwhile.
                await self._keep(lambda taken: taken | set(sids))
            await means.asking.ask(
                of.live.name,
                of.identity,
                sids,
                subscribe=subscribe,
                cause=cause,
                deadline=Deadline.after(_ASK_S),
            )
            if subscribe and cause.rule != SUBSCRIPTION_GIVEN_BACK:
                await self._keep(lambda taken: taken - set(sids))
        except (TrackError, StoreError) as error:
            reason = error.message if isinstance(error, TrackError) else str(error)
            log.warning("subscriptions_not_asked", room=of.live.name, identity=of.identity, reason=reason)
            self._failed(sids, error if isinstance(error, TrackError) else None)
            return
        finally:
            for sid in sids:
                wish = self._wishes.get(sid)
                if wish is not None and wish.progress.asking is subscribe:
                    wish.progress.asking = None
        means.subscriptions.hasten()
        for sid in sids:
            wish = self._wishes.get(sid)
            if wish is not None and sid in corrected:
                await self._correct(sid, wish, cause, subscribed=subscribe)
        self.stir(sids)

    def _failed(self, sids: Iterable[str], error: TrackError | None) -> None:
        for sid in sids:
            wish = self._wishes.get(sid)
            if wish is not None:
                wish.progress.failure = error
                self._due[sid] = time.monotonic() + _AGAIN_S
        self._kicked.set()
        self._of.moved()

    async def _correct(self, track_sid: str, wish: Wish, cause: event_pb2.EventCause, *, subscribed: bool) -> None:
        of, means = self._of, self._means
        corrected = SubscriptionCorrected(
            participant_identity=of.identity,
            track_sid=track_sid,
            subscribed=subscribed,
            rule=wish.outcome.rule if wish.outcome is not None else "",
            times=wish.progress.corrections.made(time.monotonic()),
        )
        means.counts.corrected()
        means.rooms.announce(of.live.name, event_pb2.RoomEvent(subscription_corrected=corrected, cause=cause))
        await means.recorder.write(row_of(cause.rule, of.live.name, corrected))

    def _taken(self) -> Taken:
        return self._means.takings.of(self._of.live.name, self._of.identity, self._of.participant_sid)

    async def _given(self, sids: Collection[str]) -> None:
        """They were given back: nothing is owed any more."""
        try:
            await self._keep(lambda taken: taken - set(sids))
        except StoreError as error:
            log.warning("subscription_taken_not_forgotten", room=self._of.live.name, reason=str(error))
            return
        for sid in sids:
            if wish := self._wishes.get(sid):
                self.want(sid, wish.outcome)
        self._of.moved()

    async def _take(self, sids: Collection[str]) -> None:
        try:
            await self._keep(lambda taken: taken | set(sids))
        except StoreError as error:
            log.warning("subscription_taken_not_stored", room=self._of.live.name, reason=str(error))

    async def _keep(self, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
        """Raises StoreError."""
        of = self._of

        def changed(taken: Taken) -> Taken:
            return replace(taken, unsubscribed=change(taken.unsubscribed) & of.live.model.tracks.keys())

        await self._means.takings.change(of.live.name, of.identity, of.participant_sid, changed)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        with contextlib.suppress(Draining):
            self._tasks.spawn(work, name=f"ask for {self._of.identity}")
