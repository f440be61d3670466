"""Brings about how one subscriber receives its tracks: through its client's companion, or as advice in an attribute."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

import structlog

from track.control.v1.control_pb2 import ReceivedSettings
from track.v1.subscription_pb2 import LayerEnforcement
from track_server.control.commands import Target
from track_server.deadline import Deadline
from track_server.errors import CompanionMissing, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.store.records import StoreError
from track_server.subscription.controller.advice import ATTRIBUTE, Advised, text_of
from track_server.subscription.controller.client_layers import ABSENT
from track_server.subscription.controller.fitting import Told
from track_server.subscription.controller.means import Connection, Means
from track_server.subscription.controller.takings import Taken
from track_server.subscription.layers.video import message_quality

log = structlog.get_logger(__name__)

_ANSWER_S: Final = 10.0
_RETRY_FIRST_S: Final = 0.5
_RETRY_LAST_S: Final = 30.0
_GATHER_S: Final = 0.02
"""What changes within so long is told together."""
_WRITE_S: Final = 0.5
"""Between two writes of the attribute, which everybody in the room gets whole; twice as long each time that somebody
else wrote over it, up to the other."""
_OVERWRITTEN_LAST_S: Final = 60.0

_UNSPECIFIED: Final = LayerEnforcement.LAYER_ENFORCEMENT_UNSPECIFIED


class Layering(Closing):
    """Of one connection, `async with`."""

    def __init__(self, means: Means, connection: Connection) -> None:
        self._means = means
        self._of = connection
        self._wanted: dict[str, Advised] = {}
        self._told: dict[str, Told] = {}
        """What the client took."""
        self._stale: set[str] = set()
        """SIDs of tracks that an earlier run of this server told the client something of."""
        self._unsupported: dict[str, frozenset[str]] = {}
        self._missing = False
        """Its client has no companion, as far as that is known."""
        self._failures = 0
        self._write_at = 0.0
        self._overwritten = 0
        self._shown: str | None = None
        """What stood in the attribute as it was wanted."""
        self._kicked = asyncio.Event()
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Tells no more. May be called twice."""
        await self._tasks.aclose()

    def begin(self) -> None:
        """Begins to work."""
        self._stale = set(self._taken().set)
        where = f"{self._of.identity} in {self._of.live.name}"
        self._tasks.spawn(self._serve(), name=f"layers of {where}")
        self._kicked.set()

    # What is decided.

    def want(self, track_sid: str, wanted: Advised | None) -> None:
        """The track is to be received so; None: as the client has it by itself."""
        if wanted == self._wanted.get(track_sid):
            return
        if wanted is None:
            del self._wanted[track_sid]
        else:
            self._wanted[track_sid] = wanted
        self._kicked.set()

    def forget(self, track_sid: str) -> None:
        """The track is gone."""
        self._told.pop(track_sid, None)
        self._unsupported.pop(track_sid, None)
        self._stale.discard(track_sid)
        self.want(track_sid, None)

    def kick(self) -> None:
        """What its client can do, or its attributes, may have changed."""
        self._kicked.set()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to be told, and nothing to be taken back."""
        return not (self._wanted or self._told or self._stale or self._taken())

    # Reading.

    def enforcement(self, track_sid: str) -> "LayerEnforcement.ValueType":
        """How far it got, not counting what is seen of it."""
        wanted = self._wanted.get(track_sid)
        if wanted is None:
            return _UNSPECIFIED
        if self._missing:
            return LayerEnforcement.LAYER_ENFORCEMENT_ADVISED
        if self._told.get(track_sid) != wanted.told:
            return LayerEnforcement.LAYER_ENFORCEMENT_REQUESTED
        setting = "enabled" if wanted.told.enabled is False else "quality"
        if setting in self._unsupported.get(track_sid, ()):
            return LayerEnforcement.LAYER_ENFORCEMENT_UNSUPPORTED
        return LayerEnforcement.LAYER_ENFORCEMENT_ACKNOWLEDGED

    def unsupported(self, track_sid: str) -> tuple[str, ...]:
        """Settings that its client cannot make."""
        return tuple(sorted(self._unsupported.get(track_sid, ())))

    # Working.

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(_GATHER_S)
            self._kicked.clear()
            again_s: float | None = None
            if self._of.may_act():
                try:
                    again_s = await self._bring_about()
                except (TrackError, StoreError) as error:
                    reason = error.message if isinstance(error, TrackError) else str(error)
                    log.info("layers_not_told", room=self._of.live.name, identity=self._of.identity, reason=reason)
                    again_s = self._pause_s()
                self._of.moved()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._kicked.wait()

    def _pause_s(self) -> float:
        longest = min(_RETRY_FIRST_S * 2.0 ** min(self._failures, 10), _RETRY_LAST_S)
        self._failures += 1
        return longest * random.uniform(0.5, 1.0)

    async def _bring_about(self) -> float | None:
        """Seconds until there is more to do though nothing changes. Raises TrackError, StoreError."""
        companion = self._means.states.has_companion(self._of.live.name, self._of.identity)
        if companion is False:
            self._missing = True
        elif companion is True:
            self._missing = False
        again_s: float | None = None
        if not self._missing:
            try:
                again_s = await self._tell()
            except CompanionMissing:
                self._missing = True
                self._means.attendance.look(self._of.live.name, self._of.identity)
                # It may be back before anybody knows that it was gone: nothing tells of that.
                again_s = self._pause_s()
        return await self._advise() or again_s

    async def _tell(self) -> float | None:
        """Tells the client what it was not told. Raises TrackError, StoreError."""
        of = self._of
        wanted = {sid: advised.told for sid, advised in self._wanted.items()}
        there = of.live.model.tracks
        over = {sid for sid in self._told.keys() | self._stale if sid not in wanted and sid in there}
        settings = [
            _settings(sid, told, self._told.get(sid)) for sid, told in wanted.items() if self._differs(sid, told)
        ]
        settings += [ReceivedSettings(track_sid=sid, reset=True) for sid in over]
        if not settings:
            await self._keep(wanted)
            return None
        await self._keep(set(wanted) | over)
        target = Target(of.live.name, of.identity, of.participant_sid)
        cannot = await self._means.client_layers.apply(target, settings, Deadline.after(_ANSWER_S))
        absent = {sid for sid, name in cannot if name == ABSENT}
        for each in settings:
            sid = each.track_sid
            self._stale.discard(sid)
            self._unsupported.pop(sid, None)
            if sid in absent:
                continue
            if sid in over:
                self._told.pop(sid, None)
            elif sid in wanted:
                self._told[sid] = wanted[sid]
                self._unsupported[sid] = frozenset(name for its, name in cannot if its == sid)
        if absent & wanted.keys():
            return self._pause_s()
        self._failures = 0
        await self._keep({sid for sid, advised in self._wanted.items() if advised} | self._told.keys())
        return None

    def _differs(self, track_sid: str, told: Told) -> bool:
        return self._told.get(track_sid) != told and track_sid in self._of.live.model.tracks

    async def _advise(self) -> float | None:
        """Writes the attribute, or clears it. Says when to look again. Raises TrackError, StoreError."""
        of = self._of
        participant = of.live.model.participants.get(of.identity)
        if participant is None or participant.sid != of.participant_sid or not of.live.current:
            return None
        shown = participant.attributes.get(ATTRIBUTE, "")
        text = text_of(self._wanted, participant.attributes) if self._missing else ""
        if text == shown:
            self._shown = text
            if self._taken().advised != bool(text):
                await self._mark(advised=bool(text))
            return None
        if text:
            await self._mark(advised=True)
        elif not self._taken().advised and not shown:
            return None
        now = time.monotonic()
        if now < self._write_at:
            return self._write_at - now
        self._overwritten = self._overwritten + 1 if self._shown == text else 0
        self._write_at = now + min(_WRITE_S * 2.0 ** min(self._overwritten, 10), _OVERWRITTEN_LAST_S)
        await self._means.api.set_attributes(of.live.name, of.identity, {ATTRIBUTE: text})
        return _WRITE_S

    def _taken(self) -> Taken:
        return self._means.takings.of(self._of.live.name, self._of.identity, self._of.participant_sid)

    async def _keep(self, told: Collection[str]) -> None:
        """Raises StoreError."""
        there = frozenset(told) & self._of.live.model.tracks.keys()
        await self._change(lambda taken: replace(taken, set=there))

    async def _mark(self, *, advised: bool) -> None:
        """Raises StoreError."""
        await self._change(lambda taken: replace(taken, advised=advised))

    async def _change(self, change: Callable[[Taken], Taken]) -> None:
        of = self._of
        await self._means.takings.change(of.live.name, of.identity, of.participant_sid, change)


def _settings(track_sid: str, told: Told, before: Told | None) -> ReceivedSettings:
    """What the client is told. What it was told and is no more is given up first."""
    found = ReceivedSettings(
        track_sid=track_sid,
        enabled=told.enabled,
        frames_per_second=told.frames_per_second,
        priority=told.priority,
    )
    if told.quality is not None:
        found.quality = message_quality(told.quality)
    if told.enabled is None and before is not None and before.enabled is not None:
        found.enabled = True
    found.reset = before is not None and any(
        getattr(before, name) is not None and getattr(told, name) is None
        for name in ("quality", "frames_per_second", "priority")
    )
    return found
