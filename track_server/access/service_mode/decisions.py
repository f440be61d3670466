"""The permission service's decisions that still count. Pure: the caller gives the times, in seconds of one clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from track.v1.access_pb2 import Permission
from track_server.access.bounds import UNBOUNDED, Bounds, Description
from track_server.access.principal import Principal
from track_server.access.question import EVERYTHING, Question, Touch

Key = tuple[bytes, "Permission.ValueType", str, str, str, Description | None]
"""Who asks and what, flat: the lookup of the hot path makes no object of its own."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the service decided. ``asked``: when; ``lifetime_s``: how long from then on it may be kept."""

    allowed: bool
    asked: float
    lifetime_s: float = 0.0
    reason: str = ""
    bounds: Bounds = UNBOUNDED


@dataclass(slots=True, eq=False)
class Asked:
    """A question that is on its way. ``outdated``: a change arrived meanwhile that touches it, so that nobody knows
    whether the answer was made before or after."""

    principal: Principal
    question: Question
    key: Key = field(init=False)
    outdated: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.key = key_of(self.principal, self.question)


A = TypeVar("A", bound=Asked)


@dataclass(frozen=True, slots=True)
class _Entry:
    decision: Decision
    identity: str
    question: Question
    good_until: float


def key_of(principal: Principal, question: Question) -> Key:
    """The same for questions that have the same answer."""
    return (
        principal.fingerprint,
        question.permission,
        question.room,
        question.participant_identity,
        question.track_sid,
        question.described,
    )


class Decisions(Generic[A]):
    """Keeps at most ``entries`` decisions, each for its lifetime and ``max_lifetime_s`` at most; the oldest goes first.

    They are known only while changes are heard of, between ``hear`` and ``lose``. In between nothing is known, and an
    allow of at most ``stale_s`` may stand in where the question, asked again, is not answered.
    """

    def __init__(self, *, entries: int, max_lifetime_s: float, stale_s: float) -> None:
        self.hearing = False
        """Whether changes are heard of."""
        self._most: Final = entries
        self._max_lifetime_s: Final = max_lifetime_s
        self._stale_s: Final = stale_s
        self._kept: dict[Key, _Entry] = {}
        # Of each room, so that a change of one does not look at all.
        self._of_room: dict[str, dict[Key, _Entry]] = {}
        self._asked: dict[Key, A] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def allows_room(self, principal: Principal, permission: "Permission.ValueType", room: str, now: float) -> bool:
        """Whether an allow about the room as such is known."""
        entry = self._kept.get((principal.fingerprint, permission, room, "", "", None))
        return entry is not None and self.hearing and entry.decision.allowed and now < entry.good_until

    def known(self, key: Key, now: float) -> Decision | None:
        """The decision that counts without asking."""
        entry = self._kept.get(key)
        return entry.decision if entry is not None and self.hearing and now < entry.good_until else None

    def stale(self, key: Key, now: float) -> Decision | None:
        """The allow that may stand in where the service does not answer; never a denial."""
        entry = self._kept.get(key)
        if entry is None or not entry.decision.allowed or now >= entry.good_until:
            return None
        return entry.decision if now - entry.decision.asked <= self._stale_s else None

    def on_its_way(self, key: Key) -> A | None:
        """The same question, asked by somebody else and not answered yet, whose answer will count."""
        return self._asked.get(key)

    def ask(self, asked: A) -> None:
        """The question is about to be asked."""
        self._asked[asked.key] = asked

    def answered(self, asked: A, decision: Decision) -> None:
        """The answer came: it is kept, and takes the place of what was known; nothing is kept that may be outdated."""
        self._close(asked)
        if asked.outdated:
            return
        self._drop(asked.key)
        lifetime_s = min(decision.lifetime_s, self._max_lifetime_s)
        if lifetime_s <= 0 or self._most <= 0:
            return
        entry = _Entry(decision, asked.principal.identity, asked.question, decision.asked + lifetime_s)
        self._kept[asked.key] = entry
        self._of_room.setdefault(asked.question.room, {})[asked.key] = entry
        if len(self._kept) > self._most:
            self._drop(next(iter(self._kept)))

    def unanswered(self, asked: A) -> None:
        """No answer came."""
        self._close(asked)

    def change(self, touches: Iterable[Touch]) -> None:
        """Changes were heard of: what they touch is forgotten, and what is on its way does not count."""
        for touch in touches:
            if touch == EVERYTHING:
                self._forget_all()
                continue
            entries = self._of_room.get(touch.room, {}) if touch.room else self._kept
            for key in [key for key, entry in entries.items() if touch.touches(entry.identity, entry.question)]:
                self._drop(key)
            for asked in [each for each in self._asked.values() if _touched(touch, each)]:
                self._outdate(asked)

    def hear(self) -> None:
        """From now on no change is missed. What was decided before may have changed unheard."""
        self.hearing = True
        self._forget_all()

    def lose(self) -> None:
        """Changes are not heard of any more."""
        self.hearing = False

    def _forget_all(self) -> None:
        self._kept.clear()
        self._of_room.clear()
        for asked in list(self._asked.values()):
            self._outdate(asked)

    def _outdate(self, asked: A) -> None:
        asked.outdated = True
        self._close(asked)

    def _close(self, asked: A) -> None:
        if self._asked.get(asked.key) is asked:
            del self._asked[asked.key]

    def _drop(self, key: Key) -> None:
        entry = self._kept.pop(key, None)
        if entry is None:
            return
        room = self._of_room[entry.question.room]
        del room[key]
        if not room:
            del self._of_room[entry.question.room]


def _touched(touch: Touch, asked: Asked) -> bool:
    return touch.touches(asked.principal.identity, asked.question)
