"""The condition of a rule, in parts that are evaluated as seldom as what they read changes."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter, is_
from typing import Final

from google.protobuf.message import Message

from track.v1.event_pb2 import ParticipantQuality
from track.v1.track_pb2 import Participant, Track, TrackSource, TrackType
from track_server.cel import Failure, Leaf, Outcome, Path, Tree, checked, hopeless, outcome, refuse_costly, simplified
from track_server.errors import InvalidExpression

_OF_TRACK: Final = ("publisher", "quality", "track")
VARIABLES: Final = ("publisher", "quality", "subscriber", "track")
Values = Mapping[str, Message]
"""The messages of one subscriber and one track, by VARIABLES."""

_SUBSCRIBER: Final = "subscriber"
_MOST: Final = 4096
"""Outcomes kept of one part: of so many tracks, or of so many pairs."""
_MOST_IN_ALL: Final = 32 * _MOST
_ABOUT: Final[Mapping[str, Callable[[Message], str]]] = {
    "publisher": attrgetter("identity"),
    "quality": attrgetter("participant_identity"),
    "subscriber": attrgetter("identity"),
    "track": attrgetter("sid"),
}
_Key = tuple[str, ...]
_KIND: Final = frozenset({("track", "type"), ("track", "source")})
_VIDEO_SOURCES: Final = (
    TrackSource.TRACK_SOURCE_UNSPECIFIED,
    TrackSource.TRACK_SOURCE_CAMERA,
    TrackSource.TRACK_SOURCE_SCREEN_SHARE,
)


class Condition:
    """Compiled."""

    def __init__(self, source: str) -> None:
        """Raises InvalidExpression."""
        self._checked = checked(source, VARIABLES, "condition")
        self._tree = self._checked.tree(_of_one_side)

    @property
    def reads(self) -> frozenset[Path]:
        """What it reads, the first step of each path being a variable."""
        return self._checked.reads

    def holds(self, values: Values, memory: "Memory") -> Outcome:
        """Whether it does for that pair."""
        return outcome(self._tree, lambda leaf: memory.outcome(leaf, values))

    def residue(self, values: Values, memory: "Memory") -> Tree:
        """What is left to be asked of a subscriber, where ``values`` has everything but that."""

        def known(leaf: Leaf) -> Outcome | None:
            return None if _SUBSCRIBER in leaf.variables else memory.outcome(leaf, values)

        return simplified(self._tree, known)

    def of_sound_alone(self) -> bool:
        """Whether it certainly holds for no video, whatever else there is."""
        if self.reads.isdisjoint(_KIND):
            return False
        tree = self._checked.tree(lambda reads: bool(reads) and reads <= _KIND)
        for source in _VIDEO_SOURCES:
            track = Track(type=TrackType.TRACK_TYPE_VIDEO, source=source)
            if outcome(tree, _by_kind(track)) is not False:
                return False
        return True


def condition_of(source: str, field: str) -> Condition | None:
    """The condition; None for the empty one, which holds always.

    Raises InvalidExpression where it does not compile, or may take too long, with ``field`` as the request's field.
    """
    if not source.strip():
        return None
    try:
        return _compiled(source)
    except InvalidExpression as error:
        raise InvalidExpression(error.message, field=field, metadata=error.metadata) from error


@lru_cache(maxsize=1024)
def _compiled(source: str) -> Condition:
    # Many policies have the same rules.
    refuse_costly(source, "condition")
    return Condition(source)


class Memory:
    """Outcomes of the last messages that were read of each participant and track. They must never be changed in place:
    that it is another one now is told by identity.

    ``budget_s``: CPU seconds for all that is evaluated, beyond which it raises InvalidExpression. None: no bound.
    """

    def __init__(self, budget_s: float | None = None) -> None:
        self._left_s = budget_s
        self._size = 0
        self._found: dict[Leaf, dict[_Key, tuple[list[Message], Outcome]]] = {}

    def outcome(self, leaf: Leaf, values: Values) -> Outcome:
        """Of the leaf for those messages: evaluated once for those that it reads."""
        kept = self._found.get(leaf)
        if kept is None:
            kept = self._found[leaf] = {}
        key, read = _read(leaf.variables, values)
        known = kept.get(key)
        if known is not None and all(map(is_, known[0], read)):
            return known[1]
        found = self._evaluate(leaf, values)
        if known is not None:
            kept[key] = (read, found)
            return found
        if self._size >= _MOST_IN_ALL:
            self._found = {leaf: (kept := {})}
            self._size = 0
        if len(kept) >= _MOST:
            # What came first is most likely out of date.
            del kept[next(iter(kept))]
            self._size -= 1
        self._size += 1
        kept[key] = (read, found)
        return found

    def _evaluate(self, leaf: Leaf, values: Values) -> Outcome:
        if self._left_s is None:
            return evaluate(leaf, values)
        if self._left_s < 0:
            raise InvalidExpression("the conditions take too long for so many participants and tracks", field="policy")
        begun = time.thread_time()
        found = evaluate(leaf, values)
        self._left_s -= time.thread_time() - begun
        return found


class Sieve:
    """The conditions of a room's rules. What of them the track, its publisher and the quality decide is found out once
    for all subscribers."""

    def __init__(self, conditions: Sequence[Condition | None], memory: Memory) -> None:
        """None: holds always."""
        self._conditions = conditions
        self._memory = memory
        self._left: dict[_Key, tuple[list[Message], list[tuple[int, Tree]]]] = {}
        """By what was read, as in Memory: the conditions that may hold, with what is left to be asked."""

    def first(self, values: Values) -> int | None:
        """The index of the first condition that holds; None where none does."""
        memory = self._memory
        for index, tree in self._of_track(values):
            if outcome(tree, lambda leaf: memory.outcome(leaf, values)) is True:
                return index
        return None

    def _of_track(self, values: Values) -> list[tuple[int, Tree]]:
        key, read = _read(_OF_TRACK, values)
        kept = self._left.get(key)
        if kept is not None and all(map(is_, kept[0], read)):
            return kept[1]
        if kept is None and len(self._left) >= _MOST:
            del self._left[next(iter(self._left))]
        left = self._sift(values)
        self._left[key] = read, left
        return left

    def _sift(self, values: Values) -> list[tuple[int, Tree]]:
        left: list[tuple[int, Tree]] = []
        for index, condition in enumerate(self._conditions):
            tree = True if condition is None else condition.residue(values, self._memory)
            if not hopeless(tree):
                left.append((index, tree))
            if tree is True:
                break
        return left


def _read(variables: Sequence[str], values: Values) -> tuple[_Key, list[Message]]:
    """Whom those messages are about, and they themselves."""
    read = [values[name] for name in variables]
    return tuple(_ABOUT[name](message) for name, message in zip(variables, read, strict=True)), read


def evaluate(leaf: Leaf, values: Values) -> Outcome:
    """What the leaf comes to."""
    return leaf.evaluate(values)


def values_of(
    subscriber: Participant, publisher: Participant, track: Track, quality: ParticipantQuality
) -> dict[str, Message]:
    """The messages by VARIABLES."""
    return {"subscriber": subscriber, "publisher": publisher, "track": track, "quality": quality}


def _of_one_side(reads: frozenset[Path]) -> bool:
    """Whether it reads the subscriber alone, or nothing of it: then it need not be evaluated for each pair."""
    variables = {variable for variable, *_ in reads}
    return _SUBSCRIBER not in variables or len(variables) == 1


def _by_kind(track: Track) -> Callable[[Leaf], Outcome]:
    """The outcome of parts where the track's kind tells it."""
    return lambda leaf: leaf.evaluate({"track": track}) if leaf.reads <= _KIND else Failure("not known")
